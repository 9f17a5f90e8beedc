"""An HTTP/2 session behind a listener of its own, in a thread with its own hub; and a raw client to it over TLS."""

import socket
import ssl
import threading
import time
from collections.abc import Callable

from gevent import sleep
from gevent.event import Event
from gevent.hub import get_hub
from hpack import Encoder

from mcproxy.l7.ends import End, EndGone, TlsEnd
from mcproxy.l7.http2_session import Http2Session, Limits
from mcproxy.l7.relay import Relay
from mcproxy.l7.stream import Stream
from mcproxy.l7.upstream import dial_http2, tls_context
from mcproxy.model import Backend, Mode, Route
from mcproxy.net.crew import Crew
from mcproxy.net.raw import READ, RawSocket
from mcproxy.net.sweep import Sweeper
from tests.l7.peer import HOST, CarelessBackend, Cutter, MemoryClient, Seen
from tests.peers import DEADLINE, Authority, Handler


class Server:
    """Listens, terminates TLS for HOST, relays to a backend on a port of this machine."""

    def __init__(
        self, authority: Authority, backend_port: int, limits: Limits | None = None, backend_tls: bool = False
    ) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.pair(HOST))
        self._context.set_alpn_protocols(["h2"])
        ca = str(authority.path)
        target = Backend(host="127.0.0.1", port=backend_port)
        self._route = Route(HOST, target, Mode.L7, backend_tls=backend_tls, backend_ca=ca)
        self._backend_context = tls_context(self._route)
        self._limits = limits or Limits(connect=DEADLINE, idle=DEADLINE)
        self.records: list[Stream] = []
        self.sessions: set[Http2Session] = set()
        self._ready = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="l7", daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    def _run(self) -> None:
        self._hub = get_hub()
        self._crew, self._sweeper, self._told_to_stop = Crew(), Sweeper(), Event()
        acceptable = self._hub.loop.io(self._listener.fileno(), READ)
        acceptable.start(self._accept)
        self._ready.set()
        self._told_to_stop.wait()
        acceptable.close()
        self._listener.close()
        for session in self.sessions:
            session.cut()
        over = Event()
        poll = self._hub.loop.timer(0.01, 0.01)
        poll.start(lambda: over.set() if not self.sessions else None)
        assert over.wait(DEADLINE)
        poll.close()
        self._crew.close()
        self._sweeper.close()
        sleep(0)  # the loop's turn: the crew goes home in it
        self._hub.destroy(destroy_loop=True)

    def _accept(self) -> None:
        while True:
            try:
                accepted, peer = self._listener.accept()
            except BlockingIOError:
                return
            raw = RawSocket(fileno=accepted.detach())
            raw.setblocking(False)
            self._crew.spawn(self._serve, raw, peer[0])

    def _serve(self, raw: RawSocket, address: str) -> None:
        end = TlsEnd(raw, self._context, server_side=True)
        try:
            end.handshake()
        except EndGone:
            end.close()
            return
        relay = Relay(HOST, address, lambda host: host == b"b.test", self.records.append, time.monotonic())
        session = Http2Session(end, relay, self._dial, self._sweeper, self._limits, self._crew.spawn)
        self.sessions.add(session)
        session.run()
        self.sessions.discard(session)

    def _dial(self) -> End:
        return dial_http2(self._route, self._backend_context)

    def call(self, function: Callable[[], object]) -> None:
        """Run on the hub."""
        self._hub.loop.run_callback_threadsafe(function)

    def each(self, action: Callable[[Http2Session], None]) -> None:
        """Do something to every open session, on the hub."""

        def act() -> None:
            for session in list(self.sessions):
                action(session)

        self.call(act)

    def close(self) -> None:
        """Stop; nothing is left."""
        self.call(self._told_to_stop.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


class SocketClient(MemoryClient):
    """The raw client over a real connection."""

    def __init__(self, port: int, authority: Authority) -> None:
        context = authority.client_context()
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.sock = context.wrap_socket(raw, server_hostname=HOST)
        assert self.sock.selected_alpn_protocol() == "h2"
        self.cutter = Cutter()
        self.encoder = Encoder()
        self.inbox: list[Seen] = []
        self._ended = False

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def wait(self) -> Seen | None:
        while not self.inbox and not self._ended:
            try:
                data = self.sock.recv(65_536)
            except (ConnectionResetError, ssl.SSLEOFError):
                data = b""
            self._ended = not data
            self.inbox += self.cutter.feed(data)
        return super().wait()

    @property
    def closed(self) -> bool:
        """Whether the server ends the connection: waits for that, or for a PING to come back."""
        if not self._ended:
            try:
                self.expect_ping(b"closed??")
            except (AssertionError, OSError):
                self._ended = True
        return self._ended

    def close(self) -> None:
        self.sock.close()


def careless(body: bytes = b"hello world") -> Handler:
    """A backend over a socket that checks nothing."""

    def handle(connection: socket.socket) -> None:
        backend = CarelessBackend(body)
        while data := connection.recv(65_536):
            connection.sendall(backend.receive(data))

    return handle
