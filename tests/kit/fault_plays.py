"""Inputs that provoke the faults of tests/kit/fault_rows.py: each runs a core in memory up to one fault."""

from collections.abc import Callable
from dataclasses import dataclass

from mcproxy.model import FinishedExchange
from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE, Frame, Setting
from tests.kit import bridge_playbook as bridge
from tests.kit.http2_peer import GET, POST, frame
from tests.kit.lanes import Bridged
from tests.kit.relay_playbook import Book, Fields


@dataclass(frozen=True)
class Ended:
    """The exchanges of an HTTP/2 client before an HTTP/1.1 backend."""

    records: list[FinishedExchange]


Played = Book | bridge.Book | Ended
Play = Callable[[], Played]
CONNECT = [(":method", "CONNECT"), *GET[1:], (":protocol", "websocket")]
OK = [(":status", "200")]
SIZED = [*OK, ("content-length", "2")]
H1 = b"Host: one.test\r\n"


def asked(fields: Fields, end: bool = True, settings: tuple[tuple[int, int], ...] = ()) -> Play:
    """An HTTP/2 client asks."""

    def play() -> Book:
        book = Book(backend_settings=settings)
        book.request(1, fields, end)
        return book

    return play


def sent(*data: bytes, fields: Fields = POST, end: bool = False) -> Play:
    """An HTTP/2 client sends this behind a request."""

    def play() -> Book:
        book = Book()
        book.request(1, fields, end)
        for each in data:
            book.client(each)
        return book

    return play


def trailed(fields: Fields, end: bool = True, head: Fields = POST) -> Play:
    """An HTTP/2 client sends a second head."""

    def play() -> Book:
        book = Book()
        book.request(1, head, end=False)
        book.request(1, fields, end)
        return book

    return play


def replied(*data: bytes, settings: tuple[tuple[int, int], ...] = ()) -> Play:
    """A backend of HTTP/2 sends this after a request."""

    def play() -> Book:
        book = Book(client_settings=settings)
        book.request(1)
        for each in data:
            book.backend(each)
        return book

    return play


def answered(*heads: tuple[Fields, bool], data: bytes = b"") -> Play:
    """A backend of HTTP/2 answers with these heads (END_STREAM or not), then sends frames."""

    def play() -> Book:
        book = Book()
        book.request(1)
        for fields, end in heads:
            book.answer(1, fields, end)
        book.backend(data)
        return book

    return play


def waited(seconds: float, prepare: Callable[[Book], object]) -> Play:
    """Time passes in the relay."""

    def play() -> Book:
        book = Book()
        prepare(book)
        book.tick(seconds)
        return book

    return play


def wrote(raw: bytes) -> Play:
    """An HTTP/1.1 client sends."""

    def play() -> bridge.Book:
        book = bridge.Book()
        book.send(raw)
        return book

    return play


def head1(line: bytes, *fields: bytes) -> Play:
    """An HTTP/1.1 client asks."""
    return wrote(line + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n")


def bridged(do: Callable[[bridge.Book], object]) -> Play:
    """The backend of an HTTP/1.1 client does something after a request."""

    def play() -> bridge.Book:
        book = bridge.Book()
        book.send(bridge.GET)
        do(book)
        return book

    return play


def raw_answer(fields: list[tuple[str, str]]) -> Play:
    """The backend of an HTTP/1.1 client answers with a head that h2 would not send."""
    return bridged(lambda book: book.do(book.backend.raw_head, fields))


def raw_bytes(data: bytes) -> Play:
    """The backend of an HTTP/1.1 client sends these."""

    def do(book: bridge.Book) -> None:
        book.backend.raw += data
        book.pump()

    return bridged(do)


def block(data: bytes) -> Play:
    """An HTTP/2 client sends a header block beside an open request."""
    return sent(frame(Frame.HEADERS, 5, 3, data))


def pile_up(book: Book) -> None:
    for size in range(80):  # half of them in each of two periods of their meter
        if size in (0, 40):
            book.tick(6)
        book.backend(http2.settings([(Setting.INITIAL_WINDOW_SIZE, 70_000 + size)]))


def many(book: Book) -> None:
    for number in range(257):
        book.request(2 * number + 1)


def drained(book: Book) -> None:
    book.request(1, POST, end=False)
    book.relay.drain(book.now)
    book.tick(2)
    book.request(3)


def shown(prepare: Callable[[Book], object]) -> Play:
    """A relay that is played by a function."""

    def play() -> Book:
        book = Book()
        prepare(book)
        return book

    return play


def first(data: bytes) -> Book:
    book = Book(start=False)
    book.client(data)
    return book


def http1_backend() -> Book:
    book = Book(start=False)
    book.client(PREFACE + http2.settings([]))
    book.request(1)
    book.backend(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    return book


def ws(settles: bool) -> Play:
    """A WebSocket before a backend that offers none, or says nothing at all."""

    def play() -> bridge.Book:
        book = bridge.Book()
        raw = b"GET / HTTP/1.1\r\n" + H1 + b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
        if settles:
            book.send(raw)
            return book
        book.from_client.in_turns(raw, book.now)
        book.look()
        book.bridge.tick(book.now + 11, 300.0)
        return book

    return play


def head_with_body() -> bridge.Book:
    book = bridge.Book()
    book.send(b"HEAD / HTTP/1.1\r\n" + H1 + b"\r\n")
    book.do(book.backend.answer, 200)
    book.do(book.backend.data, b"x", end=True)
    return book


def slow(raw: bytes, seconds: float) -> Play:
    """An HTTP/1.1 client that stops in the middle."""

    def play() -> bridge.Book:
        book = bridge.Book()
        book.send(raw)
        book.wait(seconds)
        return book

    return play


def interims(book: bridge.Book) -> None:
    for _ in range(17):
        book.do(book.backend.raw_head, [(":status", "103")])


def early_answer(book: Book) -> None:
    book.request(1, POST, end=False)
    book.answer(1, OK, end=True)
    book.backend(http2.data(1, b"x"))


def ahead(*uploads: int) -> Book:
    """The client sends so many full frames on one stream after the other, and the backend takes nothing of them."""
    book = Book(backend_settings=[(Setting.INITIAL_WINDOW_SIZE, 0)])
    for stream_id, frames in enumerate(uploads):
        book.request(2 * stream_id + 1, POST, end=False)
        book.client(http2.data(2 * stream_id + 1, bytes(16_384)) * frames)
    return book


def full_window() -> Book:
    book = Book(client_settings=[(Setting.INITIAL_WINDOW_SIZE, 0)])
    book.request(1)
    book.answer(1, OK, end=False)
    book.backend(http2.data(1, b"x", True) + http2.data(1, b"x"))
    return book


def unfinished(book: Book) -> None:
    book.request(1)
    book.backend(frame(Frame.HEADERS, 0, 1, b""))


def late(happen: Callable[[Book], object]) -> Play:
    """Something happens to a relay with an open request."""

    def play() -> Book:
        book = Book()
        book.request(1)
        happen(book)
        return book

    return play


def http1_answer(raw: bytes, fields: list[tuple[str, str]] = GET, end: bool = True) -> Play:
    """A backend of HTTP/1.1 answers the request of an HTTP/2 client with these bytes."""

    def play() -> Ended:
        client = Bridged(None)
        client.handshake()
        client.request(1, fields, end)
        client.lanes.send(raw)
        return Ended(client.ended)

    return play


def before_http1(do: Callable[[Bridged], object], fields: list[tuple[str, str]] = GET, end: bool = True) -> Play:
    """An HTTP/2 client has asked a backend of HTTP/1.1, and something happens."""

    def play() -> Ended:
        client = Bridged(None)
        client.handshake()
        client.request(1, fields, end)
        do(client)
        return Ended(client.ended)

    return play
