"""The client of the differential harness: sends what a case says and puts in a few words what becomes of it.

TLS is done in memory, so that a bare FIN, a RST and an alert can be told apart and any bytes can be sent at any pace.
"""

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hpack import Decoder, Encoder

from mcproxy.wire.http2 import PREFACE, ErrorCode, Frame
from tests.kit.http2_peer import Cutter, Seen, frame

PATIENCE = 13.0  # seconds without a byte, after which the outcome is "silence"; longer than what any program waits
PROBE = "/probe"
WINDOW = (1 << 20).to_bytes(4, "big")  # of HTTP/2
CODES = {int(code): code.name for code in ErrorCode}


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for so long."""

    seconds: float


@dataclass(frozen=True)
class Fin:
    """A bare FIN of TCP, without close_notify."""


Step = bytes | Pause | Fin
Steps = Sequence[Step]
T = TypeVar("T")


@dataclass(frozen=True)
class Slowly:
    """How an answer is read: first nothing for so long, or small pieces for so long; then the rest at once."""

    pause: float = 0.0
    trickle: float = 0.0
    rate: int = 100_000  # bytes a second


class Ended(Exception):
    """The connection ended; the text says how."""


class Wire:
    """A TCP connection, with TLS inside if it has a name."""

    def __init__(
        self, port: int, name: str | None = None, alpn: str = "", slow: bool = False, ciphers: str = ""
    ) -> None:
        self.sock = socket.socket()
        if slow:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._slow_until = 0.0
        self._rate = 0
        self.tls: ssl.SSLObject | None = None
        if name is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = _context(alpn, ciphers).wrap_bio(self._incoming, self._outgoing, server_hostname=name)
            try:
                self._drive(self.tls.do_handshake)
            except Ended:
                self.sock.close()
                raise

    def _drive(self, call: Callable[[], T]) -> T:
        while True:
            try:
                done = call()
                self._flush()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._recv()
                if not data:
                    self._incoming.write_eof()
                    raise Ended("closed") from None
                self._incoming.write(data)
            except ssl.SSLError as error:
                found = re.search(r"ALERT_(\w+)|alert (\w+)", str(error))
                raise Ended(f"alert {found[1] or found[2]}" if found else "closed") from None
            else:
                return done

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._sendall(data)

    def _sendall(self, data: bytes) -> None:
        # Whoever refuses may close before all is sent: what it said is still to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def _recv(self) -> bytes:
        try:
            return self.sock.recv(1 << 16)
        except TimeoutError:
            raise Ended("silence") from None
        except ConnectionResetError:
            raise Ended("reset") from None

    def send(self, data: bytes) -> None:
        if self.tls is None:
            self._sendall(data)
            return
        view = memoryview(data)
        while view:
            view = view[self._write(view) :]

    def _write(self, view: memoryview) -> int:
        assert self.tls
        try:
            sent = self.tls.write(view[:16_384])
        except ssl.SSLError:  # it ended while we were sending: reading will say how
            sent = len(view)
        self._flush()
        return sent

    def recv(self) -> bytes:
        """Some bytes. Raises Ended."""
        tls = self.tls
        data = self._drive(lambda: tls.read(1 << 16)) if tls else self._recv()
        if not data:
            raise Ended("closed")
        return data

    def take(self, steps: Steps) -> None:
        """Send these."""
        for step in steps:
            if isinstance(step, bytes):
                self.send(step)
            elif isinstance(step, Pause):
                time.sleep(step.seconds)
            else:
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)

    def dawdle(self, slowly: Slowly) -> None:
        """From now on read as slowly as that."""
        time.sleep(slowly.pause)
        self._rate = slowly.rate
        self._slow_until = time.monotonic() + slowly.trickle

    def read(self) -> bytes:
        """Some bytes. Raises Ended."""
        data = self.recv()
        if time.monotonic() < self._slow_until:
            time.sleep(len(data) / self._rate)
        return data

    def close(self) -> None:
        self.sock.close()


def _context(alpn: str, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what is compared is whether it is served
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


@dataclass
class Answer:
    """One answer over HTTP/1.1."""

    status: int
    fields: dict[str, str]
    cut: str = ""

    def shown(self, fields: Sequence[str]) -> str:
        more = "".join(f" {name}={self.fields[name]!r}" for name in fields if name in self.fields)
        return f"{self.status}{more}{self.cut and ' ' + self.cut}"


class Http1Reader:
    """Answers, as they come."""

    def __init__(self, wire: Wire, heads: bool, slowly: Slowly | None) -> None:
        self.wire = wire
        self.buffer = b""
        self.heads = heads  # the case asks with HEAD: no answer but the probe's has a body
        self.slowly = slowly

    def _more(self) -> None:
        self.buffer += self.wire.read()

    def answer(self) -> Answer:
        """The next one. Raises Ended."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.lower()] = value[1:]
        words = first.split()
        answer = Answer(int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, fields)
        try:
            self._body(answer)
        except Ended as ended:
            answer.cut = f"cut ({ended})"
        return answer

    def _body(self, answer: Answer) -> None:
        if answer.status < 200 or answer.status in (204, 304):
            return
        if self.heads and answer.fields.get("x-target") != PROBE:
            return
        if self.slowly:
            self.wire.dawdle(self.slowly)
        if "chunked" in answer.fields.get("transfer-encoding", ""):
            self._chunks()
        elif "content-length" in answer.fields:
            self._skip(int(answer.fields["content-length"]))
        else:
            with contextlib.suppress(Ended):
                while True:
                    self._more()
            self.buffer = b""

    def _chunks(self) -> None:
        while (size := int(self._line().split(b";")[0] or b"0", 16)) > 0:
            self._skip(size + 2)
        while self._line():
            continue

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _skip(self, size: int) -> None:
        while len(self.buffer) < size:
            size -= len(self.buffer)
            self.buffer = b""
            self._more()
        self.buffer = self.buffer[size:]


def http1(
    port: int, steps: Steps, *, sni: str, heads: bool = False, probe: bool = True, slowly: Slowly | None = None,
    shows: Sequence[str] = (),
) -> str:  # fmt: skip
    """What becomes of these bytes within TLS: the answers, and "end" where the connection serves nothing more."""
    found: list[str] = []
    try:
        wire = Wire(port, sni, "http/1.1", slow=slowly is not None)
    except Ended as ended:
        return str(ended)
    reader = Http1Reader(wire, heads, slowly)
    try:
        wire.take(steps)
        answer = reader.answer()
        while answer.status < 200 and answer.status != 101:
            found[:] = [str(answer.status)]  # that there are some: how many came before an end is a matter of time
            answer = reader.answer()
        found.append(answer.shown(shows))
        if answer.cut or answer.status == 101 or not probe:
            return " ".join(found)
        wire.send(f"GET {PROBE} HTTP/1.1\r\nHost: {sni}\r\n\r\n".encode())
        while (answer := reader.answer()).fields.get("x-target") != PROBE:
            found.append(answer.shown(shows))
    except Ended as ended:
        return " ".join([*found, "end"] if found else [str(ended)])
    else:
        return " ".join(found)
    finally:
        wire.close()


def block(fields: Sequence[tuple[str | bytes, str | bytes]]) -> bytes:
    """A header block that leaves nothing in the table, whatever the fields are."""
    encoder = Encoder()
    pairs = [(n.encode() if isinstance(n, str) else n, v.encode() if isinstance(v, str) else v) for n, v in fields]
    return encoder.encode([(n, v, True) for n, v in pairs], huffman=False)


@dataclass
class Http2Stream:
    """What came on a stream."""

    status: str = ""
    shown: str = ""
    interim: int = 0
    size: int = 0
    length: int | None = None
    ended: bool = False
    reset: str = ""
    trailers: str = ""

    @property
    def over(self) -> bool:
        return self.ended or bool(self.reset)

    def __str__(self) -> str:
        parts = ["103"] * min(self.interim, 1) + ([self.status + self.shown] if self.status else [])
        whole = self.ended and (self.length is None or self.length == self.size or not self.size)
        if self.reset and not whole:
            parts.append(f"RST_STREAM {self.reset}")
        elif not whole:
            parts.append("cut" if self.status else "nothing")
        return " ".join(parts)


@dataclass
class Http2Reader:
    """Frames, as they come."""

    wire: Wire
    shows: Sequence[str]
    cutter: Cutter = field(default_factory=Cutter)
    decoder: Decoder = field(default_factory=lambda: Decoder(max_header_list_size=1 << 20))
    streams: dict[int, Http2Stream] = field(default_factory=dict)
    block: bytes = b""
    goaway: str = ""
    pings: int = 0

    def read(self) -> None:
        """Some frames. Raises Ended."""
        for seen in self.cutter.feed(self.wire.read()):
            self.take(seen)

    def take(self, seen: Seen) -> None:
        """One frame."""
        stream = self.streams.setdefault(seen.stream_id, Http2Stream())
        if seen.kind in (Frame.HEADERS, Frame.CONTINUATION):
            self.block += seen.payload[5 if seen.kind == Frame.HEADERS and seen.flags & 0x20 else 0 :]
            if seen.flags & 4:
                self.head(stream)
        elif seen.kind == Frame.DATA:
            self.data(stream, seen)
        elif seen.kind == Frame.RST_STREAM:
            stream.reset = CODES.get(seen.code, str(seen.code))
        elif seen.kind == Frame.GOAWAY and seen.code:
            self.goaway = CODES.get(seen.code, str(seen.code))
        elif seen.kind == Frame.PING and seen.flags & 1:
            self.pings += 1
        elif seen.kind in (Frame.SETTINGS, Frame.PING) and not seen.flags & 1:
            self.wire.send(frame(seen.kind, 1, 0, seen.payload if seen.kind == Frame.PING else b""))
        stream.ended = stream.ended or seen.ends

    def data(self, stream: Http2Stream, seen: Seen) -> None:
        stream.size += len(seen.payload)
        if seen.payload and not seen.ends:
            more = len(seen.payload).to_bytes(4, "big")
            self.wire.send(frame(Frame.WINDOW_UPDATE, 0, 0, more) + frame(Frame.WINDOW_UPDATE, 0, seen.stream_id, more))

    def head(self, stream: Http2Stream) -> None:
        fields = {str(name): str(value) for name, value in self.decoder.decode(self.block)}
        self.block = b""
        status = fields.get(":status", "")
        if status.startswith("1"):
            stream.interim += 1
        elif stream.status:
            stream.trailers = " ".join(fields)
        else:
            stream.status = status
            stream.length = int(fields["content-length"]) if "content-length" in fields else None
            stream.shown = "".join(f" {name}={fields[name]!r}" for name in self.shows if name in fields)


def http2(
    port: int, steps: Steps, *, sni: str, streams: Sequence[int] = (1,), slowly: Slowly | None = None,
    shows: Sequence[str] = (), paced: bool = False,
) -> str:  # fmt: skip
    """What becomes of these frames, which follow the preface: each stream, and how the connection is afterwards.

    `paced` sends one step after the other, each once the one before has brought DATA.
    """
    try:
        wire = Wire(port, sni, "h2", slow=slowly is not None)
    except Ended as ended:
        return str(ended)
    reader = Http2Reader(wire, shows)
    end = ""
    try:
        wire.send(PREFACE + frame(Frame.SETTINGS, 0, 0, b"\0\4" + WINDOW) + frame(Frame.WINDOW_UPDATE, 0, 0, WINDOW))
        _talk(reader, steps, streams, slowly, paced)
    except Ended as ended:
        end = str(ended)
    finally:
        wire.close()
    came = {each: found for each in streams if (found := reader.streams.get(each))}
    if reader.goaway:
        return " ".join([*(str(found) for found in came.values() if found.status), f"GOAWAY {reader.goaway}"])
    if end and not any(found.status or found.reset for found in came.values()):
        return end
    return ", ".join(map(str, came.values())) + (f" {'silence' if end == 'silence' else 'end'}" if end else "")


def _talk(reader: Http2Reader, steps: Steps, streams: Sequence[int], slowly: Slowly | None, paced: bool) -> None:
    if paced:
        _pace(reader, steps)
    else:
        reader.wire.take(steps)
    if slowly:
        while not any(stream.size for stream in reader.streams.values()):
            reader.read()
        reader.wire.dawdle(slowly)
    while not all(reader.streams.setdefault(stream, Http2Stream()).over for stream in streams) and not reader.goaway:
        reader.read()
    if not reader.goaway:
        reader.wire.send(frame(Frame.PING, 0, 0, b"probing!"))
        while not reader.pings and not reader.goaway:
            reader.read()


def _pace(reader: Http2Reader, steps: Steps) -> None:
    for step in steps:
        assert isinstance(step, bytes)
        before = sum(stream.size for stream in reader.streams.values())
        reader.wire.send(step)
        while step[3] == Frame.HEADERS and sum(stream.size for stream in reader.streams.values()) == before:
            if reader.goaway:
                return
            reader.read()


def stream(port: int, steps: Steps, expected: int) -> str:
    """What becomes of these bytes in plain TCP: "served" where all came back, then a goodbye and a FIN."""
    try:
        wire = Wire(port)
    except Ended as ended:
        return str(ended)
    got = b""
    try:
        wire.take(steps)
        while True:
            got += wire.recv()
    except Ended as ended:
        if not got:
            return str(ended)
        if got[:1] == b"\x15" and len(got) >= 7:
            return f"alert {got[6]} {ended}"
        whole = len(got) == expected + 3 and got.endswith(b"bye")
        return "served" if whole and str(ended) == "closed" else f"{len(got)} bytes {ended}"
    finally:
        wire.close()


def tls(port: int, sni: str, ciphers: str) -> str:
    """What becomes of a TLS 1.2 handshake with these ciphers only."""
    try:
        wire = Wire(port, sni, "http/1.1", ciphers=ciphers)
    except Ended as ended:
        return str(ended)
    wire.close()
    return "handshake"
