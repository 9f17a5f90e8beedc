"""The same messages by two ways: a backend that keeps what it sees and answers as it is told, and clients for it.

A `Case` is a request and its answer, whole: each side of a connection says its `Message` as the other's windows allow,
and keeps what it `Heard`. Running a case directly and through the proxy leaves two pairs of these to compare.
"""

import random
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

import h11
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

from mcproxy.net.raw import is_reset
from mcproxy.wire.hpack_block import Field
from tests.kit.peers import reset, until

Fields = tuple[Field, ...]
Settings = Mapping[SettingCodes | int, int]
RECV = 1 << 16
MAX_HTTP1_HEAD = 1 << 17  # bytes; h11's own limit is below what passes
TCP_RESET = -1  # in place of an HTTP/2 error code
SHOWN = 400  # characters of what differs


@dataclass(frozen=True)
class Message:
    """What one side says on a stream."""

    head: Fields = ()  # with pseudo-fields; none at all: it only resets
    body: tuple[int, ...] = ()  # bytes of its pieces; 0 is an empty DATA frame
    trailers: Fields = ()
    interim: tuple[Fields, ...] = ()  # heads before it
    padding: int = 0  # bytes of each piece's
    end: bool = True  # with END_STREAM on the last of it all
    reset: int | None = None  # RST_STREAM with this code after it all

    @property
    def content(self) -> bytes:
        """Of the body: messages whose heads differ have different ones."""
        return random.Random(str(self.head)).randbytes(sum(self.body))

    def pieces(self) -> Iterator[bytes]:
        content, end = self.content, 0
        for size in self.body:
            start, end = end, end + size
            yield content[start:end]

    def came_whole(self, heard: "Heard") -> bool:
        """Whether a stream that has ended brought all that was said."""
        came = (tuple(heard.interim), heard.head, bytes(heard.body), heard.trailers)
        return not heard.ended or came == (self.interim, self.head, self.content, self.trailers)


@dataclass(frozen=True)
class Case:
    """A request, its answer, and when they happen."""

    name: str
    request: Message
    answer: Message
    early: int | None = None  # answered once so many bytes of the body have come, rather than at the request's end
    cancel: tuple[int, int] | None = None  # the client resets with that code once so many bytes of the answer have come

    @property
    def said(self) -> Message:
        """The request as it is sent: it tells the backend which case it is."""
        return replace(self.request, head=(*self.request.head, (b"x-case", self.name.encode())))


@dataclass
class Heard:
    """What one side got on a stream."""

    interim: list[Fields] = field(default_factory=list)
    head: Fields = ()
    body: bytearray = field(default_factory=bytearray)
    trailers: Fields = ()
    ended: bool = False
    reset: int | None = None

    def take(self, event: Event) -> None:
        if isinstance(event, InformationalResponseReceived):
            self.interim.append(_fields(event.headers))
        elif isinstance(event, RequestReceived | ResponseReceived):
            self.head = _fields(event.headers)
        elif isinstance(event, DataReceived):
            self.body += event.data
        elif isinstance(event, TrailersReceived):
            self.trailers = _fields(event.headers)
        elif isinstance(event, StreamEnded):
            self.ended = True
        elif isinstance(event, StreamReset):
            self.reset = int(event.error_code)


def _fields(headers: Iterable[tuple[bytes | str, bytes | str]]) -> Fields:
    return tuple((bytes(name), bytes(value)) for name, value in headers)  # type: ignore[arg-type]


def differences(expected: Heard, found: Heard) -> list[str]:
    """Where they differ, in few words: a body may be of megabytes."""
    wrong = []
    for each in fields(Heard):
        one, other = getattr(expected, each.name), getattr(found, each.name)
        if one == other:
            continue
        if each.name == "body":
            same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), "the end of one")
            wrong.append(f"body: {len(one)} bytes, but {len(other)}; they part at {same}")
        else:
            wrong.append(f"{each.name}: {str(one)[:SHOWN]}, but {str(other)[:SHOWN]}")
    return wrong


def send_in_pieces(sock: socket.socket, data: bytes, cut: int) -> None:
    """Of `cut` bytes; 0: as they come."""
    size = cut or len(data) or 1
    for start in range(0, len(data), size):
        sock.sendall(data[start : start + size])


class Endpoint:
    """One side of an HTTP/2 connection; `cut` is how many bytes it sends at once, 0 being as they come."""

    def __init__(self, sock: socket.socket, client_side: bool, settings: Settings, cut: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._cut = cut
        # Nothing is to be made of what comes: h2 would join the crumbs of a cookie.
        config = H2Configuration(client_side=client_side, header_encoding=None, normalize_inbound_headers=False)
        self._h2 = H2Connection(config)
        self._h2.initiate_connection()
        if settings:
            self._h2.update_settings(dict(settings))
        self.heard: dict[int, Heard] = {}
        self._unsent: dict[int, tuple[Message, deque[memoryview]]] = {}
        self._flush()

    def _flush(self) -> None:
        send_in_pieces(self._sock, self._h2.data_to_send(), self._cut)

    def say(self, stream: int, message: Message) -> None:
        """Send it, now or as windows open."""
        for head in message.interim:
            self._h2.send_headers(stream, head)
        if message.head:
            nothing_follows = message.end and not message.body and not message.trailers
            self._h2.send_headers(stream, message.head, end_stream=nothing_follows)
        self._unsent[stream] = (message, deque(memoryview(piece) for piece in message.pieces()))
        self._send_more()

    def reset(self, stream: int, code: int) -> None:
        self._unsent.pop(stream, None)
        self._h2.reset_stream(stream, code)
        self._flush()

    def has_sent(self, stream: int) -> bool:
        """Whether nothing more of its message is to go."""
        return stream not in self._unsent

    def _send_more(self) -> None:
        for stream, (message, pieces) in list(self._unsent.items()):
            if not self._send_body(stream, message, pieces):
                continue
            del self._unsent[stream]
            if message.trailers:
                self._h2.send_headers(stream, message.trailers, end_stream=True)
            if message.reset is not None:
                self._h2.reset_stream(stream, message.reset)
        self._flush()

    def _send_body(self, stream: int, message: Message, pieces: deque[memoryview]) -> bool:
        """Whether all of it has been sent."""
        around = message.padding + 1 if message.padding else 0
        while pieces:
            piece = pieces.popleft()
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size) - around
            if room < min(1, len(piece)):
                pieces.appendleft(piece)
                return False
            if len(piece) > room:
                pieces.appendleft(piece[room:])
                piece = piece[:room]
            last = message.end and not pieces and not message.trailers
            self._h2.send_data(stream, piece, last, message.padding or None)
            self._flush()
        return True

    def read(self) -> set[int]:
        """Wait for something, keep it, send what that allows; the streams that it was about. Raises ConnectionError."""
        data = self._sock.recv(RECV)
        if not data:
            raise ConnectionError("the connection has ended")
        touched = set()
        for event in self._h2.receive_data(data):
            stream = getattr(event, "stream_id", None) or 0
            self.heard.setdefault(stream, Heard()).take(event)
            touched.add(stream)
            if isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, StreamReset):
                self._unsent.pop(stream, None)
        self._send_more()
        return touched

    def retune(self, settings: Settings) -> None:
        """Change its settings in the middle."""
        self._h2.update_settings(dict(settings))
        self._flush()

    def close(self) -> None:
        self._sock.close()


class Client(Endpoint):
    """An HTTP/2 client."""

    def __init__(self, sock: socket.socket, settings: Settings | None = None, cut: int = 0) -> None:
        super().__init__(sock, True, settings or {}, cut)

    def run(self, *cases: Case) -> list[Heard]:
        """All at once, until each is over."""
        heard, waiting = [], {}
        for case in cases:
            stream = self._h2.get_next_available_stream_id()
            waiting[stream] = case
            heard.append(self.heard.setdefault(stream, Heard()))
            self.say(stream, case.said)
        while waiting:
            self.read()
            for stream, case in list(waiting.items()):
                if self._is_over(stream, case):
                    del waiting[stream]
        return heard

    def _is_over(self, stream: int, case: Case) -> bool:
        heard = self.heard[stream]
        if case.cancel is None:
            return heard.reset is not None or (heard.ended and case.answer.reset is None and self.has_sent(stream))
        enough, code = case.cancel
        if not heard.head or len(heard.body) < enough:
            return False
        del heard.body[enough:]  # how much more had come is up to the sockets
        self.reset(stream, code)
        return True


class Mirror:
    """An HTTP/2 backend that answers each request as its case says, and keeps what it saw."""

    def __init__(self, settings: Settings | None = None, cut: int = 0) -> None:
        self._settings = settings or {}
        self._cut = cut
        self._cases: dict[str, Case] = {}
        self._seen: dict[str, Heard] = {}

    def __call__(self, sock: socket.socket) -> None:
        endpoint = Endpoint(sock, False, self._settings, self._cut)
        answered: set[int] = set()
        try:
            while True:
                for stream in endpoint.read() - answered - {0}:
                    heard = endpoint.heard[stream]
                    case = self._case(heard)
                    self._seen[case.name] = heard
                    if heard.ended if case.early is None else len(heard.body) >= case.early:
                        answered.add(stream)
                        endpoint.say(stream, case.answer)
        except OSError:
            for heard in (endpoint.heard[stream] for stream in answered):
                if self._case(heard).cancel and heard.reset is None:
                    heard.reset = TCP_RESET  # or FIN: with an HTTP/1.1 client goes its connection to us
            raise

    def _case(self, heard: Heard) -> Case:
        return self._cases[dict(heard.head)[b"x-case"].decode()]

    def expect(self, case: Case) -> None:
        """It is to come."""
        self._cases[case.name] = case

    def saw(self, case: Case) -> Heard:
        """All that it will see of it."""

        def is_over() -> bool:
            heard = self._seen.get(case.name)
            if heard is None or case.cancel is not None:
                return heard is not None and heard.reset is not None
            return heard.ended or case.answer.reset is not None

        until(is_over, f"the backend to see the end of {case.name}")
        return self._seen.pop(case.name)


class Http1Client:
    """An HTTP/1.1 client that says the same."""

    def __init__(self, sock: socket.socket, cut: int = 0) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._cut = cut
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HTTP1_HEAD)

    def run(self, *cases: Case) -> list[Heard]:
        """One after the other, on one connection; to cancel a request ends that."""
        heard = []
        for case in cases:
            self._say(case.said)
            heard.append(self._hear(case))
            if self._h11.our_state is self._h11.their_state is h11.DONE:
                self._h11.start_next_cycle()
        return heard

    def _say(self, message: Message) -> None:
        """A body without content-length is chunked; trailers go with such a one only."""
        pseudo = dict(message.head[:4])
        given = [(b"host", pseudo[b":authority"]), *message.head[4:]]
        chunked = bool(message.body or message.trailers) and not has_length(message.head)
        if chunked:
            given.append((b"transfer-encoding", b"chunked"))
        self._send(h11.Request(method=pseudo[b":method"], target=pseudo[b":path"], headers=given))
        for piece in message.pieces():
            self._send(h11.Data(data=piece))
        if message.end:
            self._send(h11.EndOfMessage(headers=[*message.trailers] if chunked else []))

    def _send(self, event: h11.Event) -> None:
        send_in_pieces(self._sock, self._h11.send(event) or b"", self._cut)

    def _hear(self, case: Case) -> Heard:
        heard = Heard()
        while not heard.ended and heard.reset is None:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                heard.reset = self._read()
            elif isinstance(event, h11.InformationalResponse):
                heard.interim.append(_head(event))
            elif isinstance(event, h11.Response):
                heard.head = _head(event)
            elif isinstance(event, h11.Data):
                heard.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                heard.trailers = tuple(event.headers)
                heard.ended = True
            if case.cancel and heard.head and len(heard.body) >= case.cancel[0]:
                del heard.body[case.cancel[0] :]
                reset(self._sock)  # a FIN would only say that nothing more is asked for
                break
        return heard

    def _read(self) -> int | None:
        try:
            self._h11.receive_data(self._sock.recv(RECV))
        except (ConnectionResetError, ssl.SSLEOFError):  # before CPython issue 115627 was solved, they were the same
            assert is_reset(self._sock), "not a FIN: some clients take that for the end of the answer"
            return TCP_RESET
        return None

    def close(self) -> None:
        self._sock.close()


def _head(event: h11.InformationalResponse | h11.Response) -> Fields:
    return ((b":status", b"%d" % event.status_code), *event.headers)


def has_length(head: Fields) -> bool:
    return any(name == b"content-length" for name, _ in head)
