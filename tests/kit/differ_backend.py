"""The backend behind every program that the differential harness compares: it records requests and answers by path.

It speaks HTTP/2 without TLS to whoever sends the preface and HTTP/1.1 to others, checks nothing, and keeps each request
as it came. A path chooses what it does, so that a case is only bytes: /hang never answers, /big sends megabytes and so
on (`Answers`). A second server keeps raw streams, for what is passed without being read.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from mcproxy.wire.http2 import PREFACE, Frame
from tests.kit.http2_peer import Cutter, Seen, frame
from tests.kit.peers import pattern, receive

Fields = list[tuple[str, str]]
BIG = 3_000_000  # bytes of a large answer: more than the sockets between hold
MANY = 5  # requests of one case, from where only the first and the last are shown
PING_EVERY = 0.5  # seconds; several times within every timeout of the programs
# What programs add of their own accord, or what belongs to one connection of HTTP/1.1.
ADDED = {"accept-encoding", "forwarded", "via", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
OF_A_CONNECTION = {"connection", "keep-alive", "host", "transfer-encoding", "content-length", "upgrade"}


@dataclass
class Request:
    """A request as it came."""

    framing: str  # "h2", "length", "chunked" or "none"
    fields: Fields
    body: int = 0  # bytes
    ended: bool = False
    trailers: Fields = field(default_factory=list)

    def get(self, name: str) -> str:
        return next((value for key, value in self.fields if key == name), "")

    def __str__(self) -> str:
        """In words that don't depend on the protocol."""
        hidden = ADDED | (OF_A_CONNECTION if self.framing != "h2" else {"content-length", "host"})
        kept = sorted(each for each in self.fields if each[0] not in hidden and each[0][:1] != ":")
        parts = [self.get(":method"), self.get(":authority") or self.get("host") or "(nobody)", self.get(":path")]
        parts += [f"{name}={value if len(value) < 60 else f'{len(value)} bytes'}" for name, value in kept[:6]]
        parts += [f"and {len(kept) - 6} more fields"] if len(kept) > 6 else []
        if self.get("upgrade") and self.framing != "h2":
            parts[0] = "CONNECT"  # what HTTP/2 calls it
        if parts[0] == "CONNECT" and self.framing == "h2" and self.get("content-length"):
            parts.append(f"content-length={self.get('content-length')}")  # which would bound the tunnel
        if self.body:
            parts.append(f"body={self.body}")
        parts += [f"trailer {name}={value}" for name, value in sorted(self.trailers)]
        return " ".join(parts).encode("latin-1", "replace").decode("latin-1")


@dataclass
class Record:
    """What a backend has received, in the order of arrival."""

    requests: list[Request] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)


class Http2:
    """One HTTP/2 connection of the backend."""

    def __init__(self, sock: socket.socket, record: Record) -> None:
        self.sock = sock
        self.record = record
        self.cutter = Cutter()
        self.decoder = Decoder(max_header_list_size=1 << 20)
        self.encoder = Encoder()
        self.requests: dict[int, Request] = {}
        self.block: dict[int, bytes] = {}
        self.window = 65_535
        self.initial = 65_535
        self.windows: dict[int, int] = {}
        self.unsent: dict[int, tuple[bytes, Callable[[int], None]]] = {}

    def serve(self) -> None:
        """Until the connection ends."""
        receive(self.sock, len(PREFACE))
        settings = struct.pack(">HLHL", 8, 1, 4, 1 << 20)  # extended CONNECT; a window for each stream
        self.sock.sendall(frame(Frame.SETTINGS, 0, 0, settings) + frame(Frame.WINDOW_UPDATE, 0, 0, b"\0\x40\0\0"))
        while data := self.sock.recv(1 << 16):
            for seen in self.cutter.feed(data):
                self.take(seen)

    def take(self, seen: Seen) -> None:
        """One frame."""
        if seen.kind == Frame.SETTINGS and not seen.flags & 1:
            self.settings(seen.payload)
        elif seen.kind == Frame.PING and not seen.flags & 1:
            self.sock.sendall(frame(Frame.PING, 1, 0, seen.payload))
        elif seen.kind == Frame.WINDOW_UPDATE:
            more = int.from_bytes(seen.payload, "big")
            if seen.stream_id:
                self.windows[seen.stream_id] = self.windows.get(seen.stream_id, self.initial) + more
            else:
                self.window += more
            self.send_more()
        elif seen.kind in (Frame.HEADERS, Frame.CONTINUATION):
            self.head(seen)
        elif seen.kind == Frame.DATA and seen.stream_id in self.requests:
            request = self.requests[seen.stream_id]
            padding = seen.payload[0] + 1 if seen.flags & 8 else 0
            request.body += len(seen.payload) - padding
            if seen.payload:
                more_room = len(seen.payload).to_bytes(4, "big")
                self.sock.sendall(frame(Frame.WINDOW_UPDATE, 0, 0, more_room))
                self.sock.sendall(frame(Frame.WINDOW_UPDATE, 0, seen.stream_id, more_room))
            self.end(seen)
        elif seen.kind == Frame.RST_STREAM:
            self.unsent.pop(seen.stream_id, None)

    def settings(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HL", payload):
            if key == 4:
                self.windows = {stream: old + value - self.initial for stream, old in self.windows.items()}
                self.initial = value
        self.sock.sendall(frame(Frame.SETTINGS, 1))
        self.send_more()

    def head(self, seen: Seen) -> None:
        payload = seen.payload
        if seen.kind == Frame.HEADERS:
            padding = payload[0] if seen.flags & 8 else 0
            payload = payload[(1 if seen.flags & 8 else 0) + (5 if seen.flags & 0x20 else 0) : len(payload) - padding]
        self.block[seen.stream_id] = self.block.get(seen.stream_id, b"") + payload
        if not seen.flags & 4:
            return
        raw = self.decoder.decode(self.block.pop(seen.stream_id), raw=True)
        fields = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in raw]
        if seen.stream_id in self.requests:
            self.requests[seen.stream_id].trailers = fields
        else:
            request = self.requests[seen.stream_id] = Request("h2", fields)
            self.windows.setdefault(seen.stream_id, self.initial)
            if request.get(":method") == "CONNECT" and request.get(":protocol"):
                request.fields = [(name, value) for name, value in fields if name != ":protocol"]
                request.ended = True
                self.record.requests.append(request)
                self.answer(seen.stream_id, [(":status", "200")], b"", open_after=True)
                return
            self.record.requests.append(request)
        self.end(seen)

    def end(self, seen: Seen) -> None:
        request = self.requests[seen.stream_id]
        if seen.flags & 1 and not request.ended:
            request.ended = True
            Answers(self, seen.stream_id, request).give()

    def answer(self, stream: int, head: Fields, body: bytes = b"", open_after: bool = False) -> None:
        """A head, a body as windows allow, and the end unless it stays open."""
        self.sock.sendall(frame(Frame.HEADERS, 4, stream, self.encoder.encode(head)))

        def finish(stream: int) -> None:
            if not open_after:
                self.sock.sendall(frame(Frame.DATA, 1, stream))

        self.unsent[stream] = (body, finish)
        self.send_more()

    def send_more(self) -> None:
        for stream, (body, finish) in list(self.unsent.items()):
            rest = body
            while rest and (room := min(self.window, self.windows[stream], 16_384)) > 0:
                self.sock.sendall(frame(Frame.DATA, 0, stream, rest[:room]))
                self.window -= len(rest[:room])
                self.windows[stream] -= len(rest[:room])
                rest = rest[room:]
            self.unsent[stream] = (rest, finish)
            if not rest:
                del self.unsent[stream]
                finish(stream)


class Answers:
    """How a path is answered over HTTP/2."""

    def __init__(self, connection: Http2, stream: int, request: Request) -> None:
        self.connection = connection
        self.stream = stream
        self.path = request.get(":path").partition("?")[0]
        self.head = [(":status", "200"), ("x-target", self.path.encode("latin-1", "replace").decode("latin-1"))]
        self.body = b"" if request.get(":method") == "HEAD" else b"ok"

    def give(self) -> None:
        """Answer, or do what the path says."""
        name = "do_" + self.path.strip("/").split("/")[0].replace("-", "_")
        getattr(self, name, self.do_default)()

    def send(self, kind: int, flags: int = 0, payload: bytes = b"", stream: int | None = None) -> None:
        self.connection.sock.sendall(frame(kind, flags, self.stream if stream is None else stream, payload))

    def encoded(self, fields: Fields) -> bytes:
        return self.connection.encoder.encode(fields)

    def with_fields(self, *fields: tuple[str, str], body: bytes | None = None) -> None:
        body = self.body if body is None else body
        self.connection.answer(self.stream, [*self.head, ("content-length", str(len(body))), *fields], body)

    def do_default(self) -> None:
        self.with_fields()

    def do_hang(self) -> None:
        """Never."""

    def do_pings(self) -> None:
        """Never, but with a PING now and then."""
        thread = threading.Thread(target=self._ping, daemon=True)
        thread.start()

    def _ping(self) -> None:
        try:
            while True:
                time.sleep(PING_EVERY)
                self.send(Frame.PING, 0, b"alive???", 0)
        except OSError:
            return

    def do_refuse(self) -> None:
        self.send(Frame.RST_STREAM, 0, b"\0\0\0\7")

    def do_reset(self) -> None:
        self.send(Frame.RST_STREAM, 0, b"\0\0\0\2")

    def do_close(self) -> None:
        self.connection.sock.shutdown(socket.SHUT_RDWR)

    def do_connection_field(self) -> None:
        self.with_fields(("connection", "close"))

    def do_upper(self) -> None:
        self.with_fields(("X-Upper", "a"))

    def do_blank(self) -> None:
        self.with_fields(("content-security-policy", "default-src 'self'; "))

    def do_control(self) -> None:
        self.with_fields(("set-cookie", "a=\x01b"))

    def do_alt_svc(self) -> None:
        self.with_fields(("alt-svc", 'h3=":443"'))

    def do_interim(self) -> None:
        self.send(Frame.HEADERS, 4, self.encoded([(":status", "103"), ("link", "</a.css>; rel=preload")]))
        self.with_fields()

    def do_many_interim(self) -> None:
        for _ in range(200):
            self.send(Frame.HEADERS, 4, self.encoded([(":status", "103")]))
        self.with_fields()

    def _at_once(self, fields: Fields, body: bytes, trailers: Fields | None = None) -> None:
        """In one piece, so that a program sees all of it or nothing."""
        stream, last = self.stream, 0 if trailers else 1
        parts = [frame(Frame.HEADERS, 4, stream, self.encoded(fields)), frame(Frame.DATA, last, stream, body)]
        parts += [frame(Frame.HEADERS, 5, stream, self.encoded(trailers))] if trailers else []
        self.connection.sock.sendall(b"".join(parts))

    def do_beyond(self) -> None:
        self._at_once([*self.head, ("content-length", "1")], b"two")

    def do_short(self) -> None:
        self._at_once([*self.head, ("content-length", "9")], b"two")

    def do_head_data(self) -> None:
        self._at_once([*self.head, ("content-length", "3")], b"abc")

    def do_trailers(self) -> None:
        self._at_once(self.head, b"ok", [("x-sum", "1")])

    def do_odd_trailers(self) -> None:
        self._at_once(self.head, b"ok", [(":status", "200")])

    def do_watch(self) -> None:
        """A stream with one message, which stays open."""
        self.connection.answer(self.stream, self.head, b"tick", open_after=True)

    def do_big(self) -> None:
        self.with_fields(body=pattern(BIG))

    def do_big_goaway(self) -> None:
        self._big_then(lambda: self.send(Frame.GOAWAY, 0, self.stream.to_bytes(4, "big") + bytes(4), 0))

    def do_big_close(self) -> None:
        self._big_then(lambda: self.connection.sock.shutdown(socket.SHUT_WR))

    def _big_then(self, act: Callable[[], None]) -> None:
        length = ("content-length", str(BIG))
        self.connection.answer(self.stream, [*self.head, length], pattern(BIG), open_after=False)
        body, finish = self.connection.unsent.pop(self.stream, (b"", None))

        def then(stream: int) -> None:
            if finish:
                finish(stream)
            act()

        if finish is None:
            act()
        else:
            self.connection.unsent[self.stream] = (body, then)


class Http1:
    """One HTTP/1.1 connection of the backend, for programs that speak nothing else to backends."""

    def __init__(self, sock: socket.socket, record: Record) -> None:
        self.file = sock.makefile("rb")
        self.sock = sock
        self.record = record

    def serve(self) -> None:
        """Until the connection ends."""
        while line := self.file.readline(1 << 20):
            method, _, rest = line.decode("latin-1").rstrip("\r\n").partition(" ")
            target = rest.rpartition(" ")[0]
            fields = self.fields()
            names = dict(fields)
            framing = "chunked" if "transfer-encoding" in names else "length" if "content-length" in names else "none"
            whole = [(":method", method), (":authority", names.get("host", "")), (":path", target), *fields]
            request = Request(framing, whole)
            self.record.requests.append(request)
            if not self.body(request):
                return
            request.ended = True
            if not self.answer(request, target.partition("?")[0]):
                return

    def fields(self) -> Fields:
        found = []
        while (line := self.file.readline(1 << 20).decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = line.partition(":")
            found.append((name.lower(), value.strip(" ")))
        return found

    def body(self, request: Request) -> bool:
        """Whether all of it came."""
        if request.framing == "length":
            left = int(request.get("content-length"))
            while left:
                data = self.file.read1(left)
                left -= len(data)
                request.body += len(data)
                if not data:
                    return False
        while request.framing == "chunked":
            size = int(self.file.readline().split(b";")[0] or b"0", 16)
            if not size:
                request.trailers = self.fields()
                break
            request.body += len(self.file.read(size + 2)) - 2
        return True

    def say(self, head: str, body: bytes = b"") -> None:
        self.sock.sendall(head.encode("latin-1") + b"\r\n" + body)

    def answer(self, request: Request, path: str) -> bool:
        """Whether the connection goes on."""
        body = b"" if request.get(":method") == "HEAD" else b"ok"
        head = f"HTTP/1.1 200 OK\r\nX-Target: {path}\r\n"
        length = f"Content-Length: {len(body)}\r\n"
        extra = {
            "/upper": "X-Upper: a\r\n", "/blank": "Content-Security-Policy: default-src 'self'; \r\n",
            "/control": "Set-Cookie: a=\x01b\r\n", "/alt-svc": 'Alt-Svc: h3=":443"\r\n',
        }.get(path, "")  # fmt: skip
        if request.get("upgrade"):
            self.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        elif path in ("/hang", "/pings", "/refuse", "/reset", "/close"):
            if path in ("/hang", "/pings"):
                self.file.read()
            return False
        elif path in ("/big", "/big-goaway", "/big-close"):
            self.say(head + f"Content-Length: {BIG}\r\n", pattern(BIG))
            return path == "/big"
        elif path in ("/interim", "/many-interim"):
            interim = "HTTP/1.1 103 Early Hints\r\n\r\n" * (1 if path == "/interim" else 200)
            self.say(interim + head + length, body)
        elif path == "/watch":
            self.say(head + "Transfer-Encoding: chunked\r\n", b"4\r\ntick\r\n")
            self.file.read()
        elif path == "/trailers":
            self.say(head + "Trailer: x-sum\r\nTransfer-Encoding: chunked\r\n", b"2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n")
        elif path in ("/beyond", "/short", "/head-data"):
            size = {"/beyond": 1, "/short": 9, "/head-data": 3}[path]
            self.say(head + f"Content-Length: {size}\r\n", b"two")
            return False
        else:
            self.say(head + length + extra, body)
        return True


def http(record: Record) -> Callable[[socket.socket], None]:
    """Records requests of either protocol."""

    def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = sock.recv(len(PREFACE), socket.MSG_PEEK)
        while PREFACE.startswith(start) and 0 < len(start) < len(PREFACE):
            start = sock.recv(len(PREFACE), socket.MSG_PEEK)
        try:
            (Http2 if start == PREFACE else Http1)(sock, record).serve()
        except (AssertionError, ValueError) as error:  # nonsense came: that is what the record is to say
            record.streams.append(f"broken: {type(error).__name__}")

    return serve


def raw(record: Record) -> Callable[[socket.socket], None]:
    """Sends each stream back, says bye at its end, and records its size and the client that a PROXY header names."""

    def serve(sock: socket.socket) -> None:
        start = sock.recv(1 << 16)
        who, start = named_client(start)
        size = len(start)
        if not start and not who:
            record.streams.append("nothing")
            return
        sock.sendall(start)
        try:
            while data := sock.recv(1 << 16):
                size += len(data)
                sock.sendall(data)
            sock.sendall(b"bye")
        finally:
            record.streams.append(f"{size} bytes{who}")

    return serve


def named_client(data: bytes) -> tuple[str, bytes]:
    """The IPv4 client of a PROXY header of either version, and what is behind it."""
    if data.startswith(b"PROXY "):
        line, _, rest = data.partition(b"\r\n")
        return " of " + line.split()[2].decode() if b"TCP4" in line else " of nobody", rest
    if data.startswith(b"\r\n\r\n\0\r\nQUIT\n"):
        end = 16 + int.from_bytes(data[14:16], "big")
        return " of " + socket.inet_ntoa(data[16:20]) if data[13] == 0x11 else " of nobody", data[end:]
    return "", data


def said(requests: Iterable[Request], authority: bool) -> str:
    """What a backend received whole, in a line; `authority` notes the requests that have none."""

    def line(request: Request) -> str:
        lacks = authority and request.framing == "h2" and not request.get(":authority")
        return f"{request} (no :authority)" if lacks else str(request)

    lines = [line(request) for request in requests if request.ended]
    return "; ".join(lines if len(lines) < MANY else [lines[0], "...", lines[-1]]) or "-"
