"""Reaching a backend that speaks HTTP/2: h2c, or TLS with ALPN h2 and a verified name, after a PROXY header if wanted.

The PROXY header belongs to the connection, so it goes before TLS, as what `dial` sends first.
"""

import ssl

from mcproxy.l7.ends import End, EndGone, TlsEnd
from mcproxy.model import Reason, Refused, Route
from mcproxy.net.dial import dial
from mcproxy.net.raw import abort

ALPN = "h2"


def tls_context(route: Route) -> ssl.SSLContext | None:
    """For connections to this route's backend; None where it speaks h2c. Raises OSError (the CA file)."""
    if not route.backend_tls:
        return None
    context = ssl.create_default_context(cafile=route.backend_ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113, section 9.2
    context.set_alpn_protocols([ALPN])
    return context


def dial_http2(route: Route, context: ssl.SSLContext | None, first: bytes = b"") -> End:
    """Connect, send `first` (a PROXY header), and shake hands. Raises Refused."""
    sock = dial(route.backend, first)
    if context is None:
        return End(sock)
    end = TlsEnd(sock, context, server_side=False, name=route.backend_server_name or route.hostname)
    try:
        end.handshake()
        if end.alpn != ALPN:
            raise EndGone("TLS: it does not offer ALPN h2")
    except EndGone as gone:
        end.close(abort)
        raise Refused(Reason.BACKEND_UNREACHABLE, f"{route.backend}: {gone}") from None
    except BaseException:
        end.close(abort)
        raise
    return end
