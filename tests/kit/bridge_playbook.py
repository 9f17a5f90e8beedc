"""A bridge in memory, between bytes that a test writes and backends that are h2 in its server's role."""

from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes
from hpack import Encoder

from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.bridge.client_http1 import Http1Client
from mcproxy.l7.core import How, Line, LineState, Turn
from mcproxy.model import FinishedExchange
from mcproxy.wire import http2
from tests.kit.inbox import Inbox

HOST = b"Host: one.test\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /form HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"
Fields = list[tuple[str, str]]


class MemoryBackend:
    """One backend connection, and what has come over it."""

    def __init__(self, settings: dict[SettingCodes | int, int] | None = None) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings(settings)
        self.raw = b""  # to be sent beside h2
        self.gives_room = True  # for more of a body, as soon as some has come
        self.heads: list[tuple[int, Fields]] = []
        self.bodies: dict[int, bytes] = {}
        self.trailers: Fields = []
        self.ended: list[int] = []
        self.reset: list[int] = []

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self._on(event)

    def _on(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self.heads.append((event.stream_id, [(str(n), str(v)) for n, v in event.headers]))
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + bytes(event.data)
            if self.gives_room:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.trailers = [(str(n), str(v)) for n, v in event.headers]
        elif isinstance(event, StreamEnded):
            self.ended.append(event.stream_id)
        elif isinstance(event, StreamReset):
            self.reset.append(event.stream_id)

    def answer(self, status: int = 200, fields: Fields | None = None, end: bool = False) -> None:
        self.h2.send_headers(self.heads[-1][0], [(":status", str(status)), *(fields or [])], end_stream=end)

    def raw_head(self, fields: Fields) -> None:
        """An answer's head that h2 would not send."""
        block = bytes(Encoder().encode(fields))
        self.raw += http2.headers(self.heads[-1][0], block)

    def to_send(self) -> bytes:
        raw, self.raw = self.raw, b""
        return self.h2.data_to_send() + raw

    def data(self, data: bytes, end: bool = False) -> None:
        self.h2.send_data(self.heads[-1][0], data, end_stream=end)

    def trail(self, fields: Fields) -> None:
        if fields:
            self.h2.send_headers(self.heads[-1][0], fields, end_stream=True)
        else:  # h2 can't
            self.raw += http2.headers(self.heads[-1][0], b"", end_stream=True)


class Book:
    """The bridge, its client's view, and its backends in the order in which they were connected."""

    def __init__(self, settings: dict[SettingCodes | int, int] | None = None, reachable: bool = True) -> None:
        self.now = 1000.0
        self.idle = 300.0  # seconds, of idle_timeout
        self._records: list[FinishedExchange] = []
        self.backends: list[MemoryBackend] = []
        self.bridge = Bridge("http/1.1", "one.test", "192.0.2.7", lambda host: host == b"one.test", self.now)
        self.from_client = Inbox(self.bridge.receive_from_client)
        self.line: Line | None = None  # the present one
        self.from_backend = Inbox(self._receive_from_backend)
        self._settings = settings
        self._reachable = reachable

    def _receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        return len(data) if self.line is None else self.line.receive(data, turn, now)

    @property
    def records(self) -> list[FinishedExchange]:
        """All exchanges that have ended."""
        self._records += self.bridge.take_ended()
        return self._records

    @property
    def backend(self) -> MemoryBackend:
        return self.backends[-1]

    @property
    def has_backend(self) -> bool:
        """Whether there is a line with a connection."""
        self.look()
        return self.line is not None

    @property
    def wants_backend(self) -> bool:
        """Whether the backend is to be read."""
        return self.line is not None and self.line.wants_read

    def send(self, data: bytes) -> None:
        """The client sends."""
        self.from_client.in_turns(data, self.now)
        self.pump()

    def look(self) -> bool:
        """Do what lines ask for. Whether there was anything."""
        lines = self.bridge.take_lines()
        for line in lines:
            if line.state is LineState.WANTED:
                self._connect(line)
            elif line.state is not LineState.BUSY and line is self.line:
                self.take_for_backend()
                self.line = None
        return bool(lines)

    def _connect(self, line: Line) -> None:
        if not self._reachable:
            line.failed(504, "no way", self.now)
            return
        self.line = line
        self.backends.append(MemoryBackend(self._settings))
        self.from_backend.pending = b""
        line.connected("h2", False, self.now)

    def take_for_backend(self) -> bytes:
        """What goes to the backend now; the backend gets it."""
        up = b"".join(self.line.take()) if self.line is not None else b""
        if up and self.line is not None:
            if self.line.state is LineState.BUSY:
                self.line.sent(0, self.now)
            self.backend.receive(up)
        return up

    def backend_closed(self) -> None:
        """The backend ends its connection."""
        if self.line is not None:
            line, self.line = self.line, None
            line.closed(True, self.now)

    def pump(self) -> None:
        """Carry what waits, both ways, until nothing does."""
        moved = True
        while moved:
            moved = self.look()
            moved = bool(self.take_for_backend()) or moved
            down = self.backend.to_send() if self.backends else b""
            if down and self.line is not None:
                self.from_backend.in_turns(down, self.now)
                moved = True
            self.from_client.in_turns(b"", self.now)

    def do(self, what: Callable[..., None], *args: object, **options: object) -> None:
        """The backend does something."""
        what(*args, **options)
        self.pump()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.bridge.tick(self.now, self.idle)
            self.pump()
            if self.bridge.leaving:
                self.bridge.leave(self.now)

    def got(self) -> bytes:
        """What the client has got since the last look."""
        return b"".join(self.bridge.take_for_client())

    def closing(self) -> bool:
        return self.bridge.ending is not None

    def failed(self) -> bool:
        return self.bridge.ending is not None and self.bridge.ending.how is How.RST

    def fault(self) -> str:
        """What went wrong last."""
        assert isinstance(self.bridge._client, Http1Client)
        return self.bridge._client.fault

    def hurried(self) -> bool:
        return self.bridge.hurried

    def wants_client(self) -> bool:
        return self.bridge.wants_client

    def fields(self) -> dict[str, str]:
        """Of the last request, as the backend saw it."""
        return dict(self.backend.heads[-1][1])
