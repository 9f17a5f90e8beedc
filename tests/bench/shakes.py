"""New TLS connections, each with one request of HTTP/1.1: with a full handshake, or one that resumes a session.

TLS 1.3; the certificate's key is of P-256. Clients are in this process, several at once, and don't verify.
"""

import select
import ssl
import time

from tests.bench.figures import Done, figure
from tests.bench.l4 import Measure, Site, connected

AT_ONCE = 16
REQUEST = b"GET /small HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"


class Shaker:
    """A client: it connects, asks, reads the answer, and closes."""

    def __init__(self, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        self.began = time.perf_counter()
        sock = connected(port)
        sock.setblocking(False)
        self.tls = context.wrap_socket(sock, server_hostname="a.test", do_handshake_on_connect=False, session=session)
        self._asked = False
        self._answer = b""
        self.wants = select.EPOLLIN

    def goes_on(self) -> bool:
        """Do what can be done; whether there is more."""
        try:
            if not self._asked:
                self.tls.do_handshake()
                self.tls.send(REQUEST)
                self._asked = True
            while data := self.tls.recv(16_384):
                self._answer += data
        except ssl.SSLWantReadError:
            return True
        assert self._answer.startswith(b"HTTP/1.1 200"), self._answer[:100]
        return False


def context() -> ssl.SSLContext:
    """Of a client of TLS 1.3."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


def shakes(resumed: bool, site: Site) -> Done:
    """New connections. Raises OSError where sessions are to be resumed and the proxy refuses."""
    made, session = context(), None
    if resumed:
        with Shaker(site.port, made, None).tls as first:
            first.setblocking(True)
            first.do_handshake()
            first.send(REQUEST)
            while first.recv(16_384):
                pass
            session = first.session
    poll, latencies, reused = select.epoll(), list[float](), 0
    clients: dict[int, Shaker] = {}

    def begin() -> None:
        client = Shaker(site.port, made, session)
        client.goes_on()  # sends the hello
        clients[client.tls.fileno()] = client
        poll.register(client.tls, select.EPOLLIN)

    before, start = site.used(), time.perf_counter()
    for _ in range(AT_ONCE):
        begin()
    while time.perf_counter() < start + site.seconds:
        for fd, _ in poll.poll(1):
            if clients[fd].goes_on():
                continue
            client = clients.pop(fd)
            latencies.append(time.perf_counter() - client.began)
            reused += bool(client.tls.session_reused)
            poll.unregister(fd)
            client.tls.close()
            begin()
    done = Done(len(latencies), time.perf_counter() - start, site.used() - before, latencies)
    for client in clients.values():
        client.tls.close()
    if resumed and reused < len(latencies):
        raise OSError(f"it resumed {reused} of {len(latencies)} sessions")
    return done


WORKS: dict[str, Measure] = {
    "full": lambda site: figure(1e6, shakes(False, site)),
    "resumed": lambda site: figure(1e6, shakes(True, site)),
}
