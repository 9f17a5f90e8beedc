"""What the differential harness sends: each case is bytes with a name and the reason why it is worth sending.

The reason is what was seen in the field, or the rule that decides. Paths choose what the backend does: see
`tests.kit.differ_backend.Answers`. What bytes from outside can't say is not here: a certificate's file that hangs,
a resolver that hangs, a route to the proxy's own listener, a symlink for a database. Nor are floods: `tests.bench`.
"""

from collections.abc import Iterator

from mcproxy.wire.http2 import Frame
from tests.kit.differ_case import LATE, STEADY, Case, ask, data, h1, h2, head, l4
from tests.kit.differ_client import Fin, Pause
from tests.kit.differ_http1_cases import bodies, fields, targets
from tests.kit.differ_http2_cases import http2_bodies, http2_heads
from tests.kit.differ_peers import CLOSING, GOING, LIMIT, ODD_NAMES, STREAM, TOLD
from tests.kit.hellos import split
from tests.kit.http2_peer import frame
from tests.kit.peers import client_hello


def slow() -> Iterator[Case]:
    """Timeouts and slow readers."""
    for make, path in ((h1, ask), (h2, lambda where: head(path=where))):
        yield make("a backend that hangs", "504 at the limit", path("/hang"), timed=True)
        yield make(
            "a backend that hangs but sends PINGs",
            "the clock is the request's, not the connection's",
            path("/pings"),
            timed=True,
        )
        yield make(
            "a reader that pauses", "accepted by the kernel is not delivered", path("/big"), slowly=LATE, timed=True
        )
        yield make("a steady, slow reader", "it is not idle", path("/big"), slowly=STEADY, timed=True)
    cancel = frame(Frame.RST_STREAM, 0, 1, b"\0\0\0\x08")
    turns, pause = range(12), Pause(LIMIT / 6)  # twice as long as the limit
    beside = [step for i in turns for step in (pause, head(path="/busy", stream=2 * i + 3))]
    yield h2(
        "a backend that hangs beside a busy stream",
        "the clock is the request's, not the connection's",
        head(path="/hang"), *beside, cancel,
        timed=True,
    )  # fmt: skip
    crumbs = [step for _ in turns for step in (pause, data(b"a", end=False))]
    yield h2(
        "a backend that hangs while an upload trickles",
        "who sends is not idle: no program answers 504 while the upload goes on",
        head(method="POST", path="/hang", end=False), *crumbs, cancel,
        timed=True,
    )  # fmt: skip
    why = "the end of the last answer must not be lost"
    yield h1(
        "a slow reader, and the backend closes",
        why,
        ask("/big-close", host=f"Host: {CLOSING}\r\n"),
        slowly=STEADY,
        timed=True,
        sni=CLOSING,
        probe=False,
    )
    yield h2(
        "a slow reader, and the backend closes",
        why,
        head(path="/big-close", authority=CLOSING),
        slowly=STEADY,
        timed=True,
        sni=CLOSING,
    )
    yield h2(
        "a slow reader, and the backend sends GOAWAY",
        why,
        head(path="/big-goaway", authority=GOING),
        slowly=STEADY,
        timed=True,
        sni=GOING,
    )
    yield h1("half a head", "a client that hangs", b"GET /half HTTP/1.1\r\n", probe=False, timed=True)
    yield h1(
        "half a body",
        "a client that hangs",
        ask("/halfbody", "Content-Length: 9", method="POST", body="half"),
        probe=False,
        timed=True,
    )
    yield h1("nothing", "a connection that was opened early", probe=False, timed=True)
    yield h1(
        "an upload that pauses within the limits",
        "the pause is shorter than every limit",
        ask("/paused", "Content-Length: 4", method="POST", body="ha"),
        Pause(LIMIT / 3),
        b"lf",
        timed=True,
    )
    yield h1(
        "two CRLFs behind a POST, then silence",
        "a stray 408 would be taken for the next answer",
        ask("/stray", "Content-Length: 2", method="POST", body="hi") + b"\r\n\r\n",
        Pause(LIMIT / 3),
        ask("/next"),
        timed=True,
    )
    yield h2("half a body", "a client that hangs", head(method="POST", path="/halfbody2", end=False), timed=True)
    yield h1(
        "FIN behind the request",
        "RFC 9112 9.6: a half-closed client may still read, or has gone",
        ask("/fin"),
        Fin(),
        probe=False,
    )


def streams() -> Iterator[Case]:
    """l4: hellos in every form, and the two halves of a stream."""
    hello = client_hello(STREAM)
    told = client_hello(TOLD)
    message = hello[5:]
    yield l4("a hello", "the ground", hello, Fin())
    yield l4("a hello, byte by byte", "TCP has no borders", *(hello[i : i + 1] for i in range(len(hello))), Fin())
    yield l4(
        "a hello in two records",
        "RFC 8446 5.1: a message may be split; Chrome's are large",
        split(message, [40]),
        Fin(),
    )
    yield l4(
        "a hello in records of one byte", "the same, as far as it goes", split(message, range(len(message))), Fin()
    )
    yield l4("a hello with data behind", "early data goes along", hello + b"\x17\x03\x03\0\5early", Fin())
    yield l4("a name in capitals", "names have no case", client_hello(STREAM.upper()), Fin())
    yield l4("an unknown name", "nobody is there", client_hello("unknown.test"), Fin())
    yield l4("no name", "nobody is meant", client_hello(None), Fin())
    yield l4("HTTP in plain text", "no TLS", ask("/"), Fin())
    yield l4("a hello, told to the backend", "a PROXY header before the first byte", told, Fin())
    yield l4("connect and close", "a health check", Fin())
    yield l4("half a hello, then FIN", "a client that went", hello[:50], Fin())
    yield l4("half a hello, then silence", "a client that hangs", hello[:50], timed=True)
    yield l4("nothing", "a client that hangs", timed=True)
    yield l4("idle after the hello", "idle_timeout", hello, timed=True)
    yield l4("a half-closed client", "the other direction goes on", hello, Pause(LIMIT / 6), Fin(), timed=True)


V2 = b"\r\n\r\n\0\r\nQUIT\n"
ADDRESSES = bytes([192, 0, 2, 7, 192, 0, 2, 1]) + b"\x30\x39\x01\xbb"


def behind() -> Iterator[Case]:
    """PROXY headers."""
    hello, told = client_hello(STREAM), client_hello(TOLD)
    v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 12345 443\r\n"
    v2 = V2 + b"\x21\x11\0\x0c" + ADDRESSES
    yield l4("version 1", "the ground", v1, told, Fin(), behind=True)
    yield l4("version 2", "the ground", v2, told, Fin(), behind=True)
    yield l4(
        "version 2 with TLVs",
        "AWS sends some",
        V2 + b"\x21\x11\0\x10" + ADDRESSES + b"\x04\0\1\0" + told,
        Fin(),
        behind=True,
    )
    yield l4(
        "version 2, byte by byte",
        "TCP has no borders",
        *((v2 + told)[i : i + 1] for i in range(28 + len(told))),
        Fin(),
        behind=True,
    )
    yield l4(
        "version 2 of TCP over IPv6",
        "the ground",
        V2 + b"\x21\x21\0\x24" + bytes(15) + b"\1" + bytes(15) + b"\1" + b"\x30\x39\x01\xbb" + hello,
        Fin(),
        behind=True,
    )
    yield l4(
        "version 1 UNKNOWN, then a hello",
        "section 2.1: use the connection's own addresses",
        b"PROXY UNKNOWN\r\n" + hello,
        Fin(),
        behind=True,
    )
    yield l4(
        "version 2 LOCAL, then a hello",
        "section 2.2: use the connection's own addresses",
        V2 + b"\x20\0\0\0" + hello,
        Fin(),
        behind=True,
    )
    yield l4("version 2 LOCAL, then FIN", "a health check", V2 + b"\x20\0\0\0", Fin(), behind=True)
    yield l4(
        "version 2 LOCAL with addresses, then FIN",
        "AWS's health check",
        V2 + b"\x20\x11\0\x0c" + bytes(12),
        Fin(),
        behind=True,
    )
    yield l4("version 1 UNKNOWN, then FIN", "a health check", b"PROXY UNKNOWN\r\n", Fin(), behind=True)
    yield l4("connect and close", "a health check", Fin(), behind=True)
    yield l4("no header", "must not be guessed", hello, Fin(), behind=True)
    yield l4(
        "version 1 with a leading zero",
        "section 2.1: no leading zeroes in ports",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 012345 443\r\n" + told,
        Fin(),
        behind=True,
    )
    yield l4("version 1 without CR", "section 2.1: CRLF", v1.replace(b"\r", b"") + told, Fin(), behind=True)
    yield l4(
        "version 1 beyond 107 bytes",
        "section 2.1: the longest line",
        b"PROXY TCP4 " + b"1" * 120 + b"\r\n" + told,
        Fin(),
        behind=True,
    )
    yield l4("version 3", "section 2.2: must be refused", V2 + b"\x31\x11\0\x0c" + ADDRESSES + told, Fin(), behind=True)
    yield l4("half a header, then silence", "a client that hangs", v2[:20], behind=True, timed=True)


def handshakes() -> Iterator[Case]:
    """TLS of l7."""
    for name, odd in ODD_NAMES.items():
        yield h1(
            f"a route's certificate: {odd}",
            "OpenSSL serves it: a strict parser must not stand before it",
            ask("/odd", host=f"Host: {name}\r\n"),
            sni=name,
        )
    yield h1("an unknown name", "nobody is there", ask("/unknown"), sni="unknown.test")
    for name, ciphers in (("AEAD", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("CBC", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0")):
        yield Case(f"TLS 1.2: {name}", "what old clients offer", "tls", (), {"ciphers": ciphers})


def all_cases() -> list[Case]:
    """In the order of the table."""
    makers = (targets, fields, bodies, http2_heads, http2_bodies, slow, streams, behind, handshakes)
    return [case for make in makers for case in make()]
