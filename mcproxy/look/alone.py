"""Looks at backends without a worker, from native threads: for `mcproxy check --dial`, which starts nothing.

As a worker's looks (looker.py), but the dial is a plain one: the first address that accepts.
"""

import socket
import ssl
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from mcproxy.certificates.contexts import client_context
from mcproxy.certificates.pem import Unusable
from mcproxy.look import speak
from mcproxy.messages import Step
from mcproxy.model import Route
from mcproxy.wire.proxy_protocol import LOCAL_V2

AT_ONCE = 16  # looks: each is a thread that mostly waits
LOOK_SECONDS = 3.0  # for one backend; the silence of one of HTTP/1.1 takes a second of them


def look_at_all(routes: Iterable[Route], seconds: float = LOOK_SECONDS) -> list[Step]:
    """What each route's backend speaks, in the order of the routes; a step that failed says why requests will."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda route: look(route, seconds), routes))


def look(route: Route, seconds: float) -> Step:
    """Connect to an l7 route's backend, and find out what it speaks."""
    deadline = time.monotonic() + seconds
    try:
        with closing(_connected(route, seconds)) as sock:
            if route.send_proxy_protocol:
                sock.sendall(LOCAL_V2)
            return _over_tls(sock, route, deadline) if route.backend_tls else speak.http(
                sock, route.backend_protocol, deadline
            )  # fmt: skip
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        return Step("connect", False, f"requests will be answered 502: {route.backend}: {why}")


def _connected(route: Route, seconds: float) -> socket.socket:
    backend = route.backend
    if not backend.path:
        return socket.create_connection((backend.host, backend.port), seconds)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(seconds)
    try:
        sock.connect(backend.path)
    except OSError:
        sock.close()
        raise
    return sock


def _over_tls(sock: socket.socket, route: Route, deadline: float) -> Step:
    try:
        context = client_context(route.backend_ca, route.backend_protocol)
        tls = speak.shake_hands(sock, context, speak.name_of(route), deadline)
    except Unusable as error:
        return Step(speak.TLS, False, f"{speak.ANSWERED_502}: {error}")
    except (OSError, ssl.SSLError) as error:
        return Step(speak.TLS, False, speak.refusal(error, route))
    with closing(tls):
        step = speak.agreed(tls, route)
        return speak.http_over(tls, deadline) if step.passed else step
