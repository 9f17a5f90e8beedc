"""What an HTTP/1.1 backend gets of a client, byte for byte, and what clients get of a backend that breaks HTTP.

The backend's h11 reads what it received: one request with the framing that was meant, or none (RFC 9112, section 11.2).
"""

import json
import socket
import ssl
import threading
from dataclasses import dataclass

import h11
import pytest

from mcproxy.wire import http2
from mcproxy.wire.http2 import Frame
from tests.conftest import MakeBackend, MakeProxy
from tests.kit.http2_backends import l7_listener
from tests.kit.http2_peer import HOST
from tests.kit.l7_proxy import SocketClient
from tests.kit.peers import Authority, connect, until
from tests.kit.proxy import Proxy


@dataclass
class Arrived:
    """A request as the backend reads it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""

    @property
    def framing(self) -> list[tuple[str, str]]:
        return [each for each in self.fields if each[0] in ("content-length", "transfer-encoding")]


class Recorder:
    """A backend of HTTP/1.1 that answers each request with its target, and keeps all."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self.broken: list[str] = []  # what it could not read, once a request had begun
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket) -> None:
        server = h11.Connection(h11.SERVER)
        request: Arrived | None = None
        while True:
            event = server.next_event()
            if event is h11.NEED_DATA:
                data = connection.recv(65_536)
                if not data and request is not None:
                    self.broken.append(f"{request.target} broke off")
                if not data:
                    return
                server.receive_data(data)
            elif isinstance(event, h11.Request):
                fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                request = Arrived(event.method.decode(), event.target.decode("latin-1"), fields)
            elif isinstance(event, h11.Data) and request is not None:
                request.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                with self._lock:
                    self.arrived.append(request)
                body = b"" if request.method == "HEAD" else request.target.encode("latin-1")
                length = [("content-length", str(len(request.target)))]
                connection.sendall(server.send(h11.Response(status_code=200, headers=length)) or b"")
                connection.sendall(server.send(h11.Data(data=body)) or b"")
                connection.sendall(server.send(h11.EndOfMessage()) or b"")
                request = None
                if server.our_state is h11.MUST_CLOSE:
                    return
                server.start_next_cycle()
            else:
                self.broken.append(str(event))
                return


def tls(running: Proxy, authority: Authority) -> ssl.SSLSocket:
    return authority.client_context().wrap_socket(
        connect(running.port), server_hostname=HOST, suppress_ragged_eofs=False
    )


def http2_client(running: Proxy, authority: Authority) -> SocketClient:
    client = SocketClient(running.port, authority)
    client.handshake()
    return client


def exchange(running: Proxy, authority: Authority, sent: bytes) -> bytes:
    """What a client gets that sends this, and waits for the end. b"reset" at the end: that was one."""
    got = b""
    with tls(running, authority) as client:
        client.sendall(sent)
        try:
            while part := client.recv(1 << 16):
                got += part
        except (ConnectionResetError, ssl.SSLEOFError):
            got += b"reset"
    return got


GET = b"GET /a HTTP/1.1\r\nHost: %b\r\n" % HOST.encode()
POST = GET.replace(b"GET", b"POST")
CODED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode()
END = b"Connection: close\r\n\r\n"
LENGTH = [("content-length", "5")]
CHUNKS = [("transfer-encoding", "chunked")]
PASSED: dict[str, tuple[bytes, list[tuple[str, str]], bytes]] = {  # sent, framing and body that arrive
    "GET": (GET + END, [], b""),
    "GET with a body": (GET + b"Content-Length: 30\r\n" + END + HIDDEN[:30], [("content-length", "30")], HIDDEN[:30]),
    "POST without a body": (POST + END, [("content-length", "0")], b""),
    "counted": (POST + b"Content-Length: 0005\r\n" + END + b"hello", LENGTH, b"hello"),
    "counted, and more behind it": (POST + b"Content-Length: 5\r\n" + END + b"hello" + HIDDEN, LENGTH, b"hello"),
    "chunked": (POST + CODED + END + b"5;a=b\r\nhello\r\n0\r\nX-T: a\r\n\r\n", CHUNKS, b"hello"),
    "chunked, and more behind it": (POST + CODED + END + b"5\r\nhello\r\n0\r\n\r\n" + HIDDEN, CHUNKS, b"hello"),
    "a request in a chunk": (POST + CODED + END + b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN), CHUNKS, HIDDEN),
    "a length that Connection names": (
        POST + b"Connection: content-length\r\nContent-Length: 5\r\n" + END + b"hello", CHUNKS, b"hello",
    ),
    "a coding that Connection names": (
        POST + b"Connection: transfer-encoding\r\n" + CODED + END + b"5\r\nhello\r\n0\r\n\r\n", CHUNKS, b"hello",
    ),
    "h2c": (GET + b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n" + END, [], b""),
    "HTTP/1.0": (b"POST /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello" + HIDDEN, LENGTH, b"hello"),
}  # fmt: skip
REFUSED = {
    "CL.TE": POST + b"Content-Length: 6\r\n" + CODED + b"\r\n0\r\n\r\nG" + HIDDEN,
    "TE.CL": POST + CODED + b"Content-Length: 4\r\n\r\n5c\r\n" + HIDDEN,
    "TE.TE": POST + CODED + b"Transfer-encoding: x\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE with a blank": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE in HTTP/1.0": POST.replace(b"HTTP/1.1", b"HTTP/1.0") + CODED + b"\r\n0\r\n\r\n" + HIDDEN,
    "CL twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + HIDDEN,
    "CL list": POST + b"Content-Length: 5, 5\r\n\r\nhello" + HIDDEN,
    "bare LF": GET + b"X: a\nContent-Length: 44\r\n\r\n" + HIDDEN,
    "bare CR": GET + b"X: a\rContent-Length: 44\r\n\r\n" + HIDDEN,
    "folded": GET + b"X: a\r\n Content-Length: 44\r\n\r\n" + HIDDEN,
}
BROKEN = {  # within a body that has begun: the backend may get a part of one request, and never the end of it
    "chunk sign": POST + CODED + b"\r\n+2\r\nab\r\n0\r\n\r\n" + HIDDEN,
    "chunk LF": POST + CODED + b"\r\n2\nab\r\n0\r\n\r\n" + HIDDEN,
    "chunk too long": POST + CODED + b"\r\n2\r\nabc\r\n0\r\n\r\n" + HIDDEN,
    "trailer with a fold": POST + CODED + b"\r\n0\r\nX: a\r\n b\r\n\r\n" + HIDDEN,
}


def serve(handler: Recorder, backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> Proxy:
    address = backend(handler).address
    return proxy({"listeners": [l7_listener({HOST: address}, authority, backend_protocol="http/1.1")]})


def test_what_arrives_of_an_http1_client(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    recorder = Recorder()
    running = serve(recorder, backend, authority, proxy)
    for name, (sent, framing, body) in PASSED.items():
        got = exchange(running, authority, sent)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n"), (name, got)
        assert got.endswith(b"/a"), (name, got)
        (arrived,) = recorder.arrived
        recorder.arrived.clear()
        assert (arrived.method, arrived.target) == (sent.split(b" ")[0].decode(), "/a"), name
        assert (arrived.framing, arrived.body) == (framing, body), name
        names = [field for field, _ in arrived.fields]
        assert names.count("host") == 1, name
        assert not {"upgrade", "http2-settings", "te", "keep-alive"} & set(names), name
        assert ("connection" in names) == (name == "GET with a body"), name
    for name, sent in REFUSED.items():
        got = exchange(running, authority, sent)
        assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), (name, got)
        assert got.count(b"HTTP/1.1 ") == 1, (name, got)
    assert (recorder.arrived, recorder.broken) == ([], [])
    for name, sent in BROKEN.items():
        got = exchange(running, authority, sent)
        assert got.startswith(b"HTTP/1.1 400 "), (name, got)
        assert got.count(b"HTTP/1.1 ") == 1, (name, got)
    assert exchange(running, authority, GET + END).endswith(b"/a"), "with a connection that is clean"
    assert [(each.method, each.body) for each in recorder.arrived] == [("GET", b"")]
    assert set(recorder.broken) <= {"/a broke off"}


def test_what_arrives_of_an_http2_client(backend: MakeBackend, authority: Authority, proxy: MakeProxy) -> None:
    recorder = Recorder()
    running = serve(recorder, backend, authority, proxy)
    pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/a")]
    client = http2_client(running, authority)
    bad = {
        "coding": [*pseudo, ("transfer-encoding", "chunked")],
        "two lengths": [*pseudo, ("content-length", "5"), ("content-length", "6")],
        "signed length": [*pseudo, ("content-length", "+5")],
        "line in a value": [*pseudo, ("x", "a\r\ncontent-length: 5")],
        "line in a name": [*pseudo, ("x: a\r\ncontent-length", "5")],
        "line in a path": [*pseudo[:3], (":path", "/ HTTP/1.1\r\nHost: x\r\n\r\nGET /hidden")],
        "line in a method": [(":method", "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\nGET"), *pseudo[1:]],
        "line in an authority": [*pseudo[:2], (":authority", f"{HOST}\r\nX: a"), pseudo[3]],
    }
    stream_id = 1
    for name, fields in bad.items():
        client.request(stream_id, fields, end=True)
        seen = client.wait()
        while seen is not None and seen.stream_id != stream_id:
            seen = client.wait()
        assert seen is not None, name
        assert seen.kind in (Frame.RST_STREAM, Frame.HEADERS), name
        stream_id += 2
    assert (recorder.arrived, recorder.broken) == ([], [])

    for declared, sent in ((5, b"hello"), (5, b"hello!"), (5, b"hell"), (None, b"hello")):
        more = [("content-length", str(declared))] if declared is not None else []
        client.request(stream_id, [*pseudo, *more, ("cookie", "a=b"), ("te", "trailers"), ("cookie", "c=d")], end=False)
        client.send(http2.data(stream_id, sent, end_stream=True))
        if sent == b"hello":
            assert client.find(Frame.HEADERS, stream_id) is not None
            arrived = recorder.arrived[-1]
            assert (arrived.framing, arrived.body) == (LENGTH if declared else CHUNKS, b"hello")
            assert [each for each in arrived.fields if each[0] in ("cookie", "te", "host")] == [
                ("host", HOST), ("cookie", "a=b; c=d"),
            ]  # fmt: skip
        else:
            assert client.find(Frame.RST_STREAM, stream_id) is not None
        stream_id += 2
    client.close()
    assert len(recorder.arrived) == 2
    assert set(recorder.broken) <= {"/a broke off"}


OK = b"HTTP/1.1 200 OK\r\n"
EVIL = {  # what the backend sends, and what of it the request's line names
    "two lengths": (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "content-length"),
    "equal lengths": (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "content-length"),
    "a list of lengths": (OK + b"Content-Length: 5, 5\r\n\r\nhello", "Content-Length"),
    "length beside coding": (
        OK + b"Content-Length: 5\r\n" + CODED + b"\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding",
    ),
    "another coding": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer coding"),
    "folded": (OK + b"X-A: a\r\n b\r\nContent-Length: 0\r\n\r\n", "X-A"),
    "bare LF": (OK + b"X-A: a\nX-B: b\r\n\r\n", "bare LF"),
    "no token": (OK + b"X A: a\r\n\r\n", "X?A"),
    "no status line": (b"220 mail.test ESMTP\r\n", "status line"),
    "too large": (OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n", "65536 bytes"),
    "101 unasked": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "101"),
}
BROKEN_OFF = {  # an answer that must never look whole
    "counted": OK + b"Content-Length: 50\r\n\r\nhello",
    "chunked": OK + CODED + b"\r\n5\r\nhello\r\n",
    "bad chunk": OK + CODED + b"\r\n5\r\nhello\r\nx\r\n",
}


class Script:
    """A backend that answers each request, by its path, with what a test says, and then ends the connection."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers

    def __call__(self, connection: socket.socket) -> None:
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            data = connection.recv(65_536)
            if not data:
                return
            got += data
        connection.sendall(self._answers[got.split(b" ")[1].decode().strip("/").replace("-", " ")])


def faults(running: Proxy) -> dict[str, tuple[int, str, str]]:
    """Status, end and detail of each request, by its path."""
    lines = [json.loads(line) for line in list(running.lines)]
    return {
        each["path"].strip("/").replace("-", " "): (each["status"], each["end"], each["detail"])
        for each in lines
        if each["event"] == "request"
    }


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_a_backend_that_breaks_http(
    protocol: str, backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    script = Script({name: raw for name, (raw, _) in EVIL.items()} | BROKEN_OFF)
    listener = l7_listener({HOST: backend(script).address}, authority, backend_protocol="http/1.1")
    running = proxy({"log": {"format": "json"}, "listeners": [listener]})
    client = http2_client(running, authority)
    stream_id = -1
    for name in (*EVIL, *BROKEN_OFF):
        path = "/" + name.replace(" ", "-")
        stream_id += 2
        if protocol == "http/1.1":
            got = exchange(running, authority, GET.replace(b"/a", path.encode()) + END)
            if name in EVIL:
                assert got.startswith(b"HTTP/1.1 502 "), (name, got)
            else:
                assert got.endswith(b"reset"), (name, got)
                assert b"0\r\n\r\n" not in got
            continue
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path)]
        client.request(stream_id, fields, end=True)
        assert client.find(Frame.HEADERS, stream_id) is not None
        if name in BROKEN_OFF:
            assert client.find(Frame.RST_STREAM, stream_id) is not None
    client.close()
    until(lambda: len(faults(running)) == len(EVIL) + len(BROKEN_OFF), "a line for each request")
    found = faults(running)
    for name, (_, why) in EVIL.items():
        status, end, detail = found[name]
        assert (status, end) == (502, "backend fault"), name
        assert why in detail, name
    for name in BROKEN_OFF:
        assert found[name][1] in ("backend gone", "backend fault"), name


def test_what_a_backend_sends_too_much_reaches_nobody(
    backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    """A second answer behind the first poisons the connection: the next request goes over another one."""

    def twice(connection: socket.socket) -> None:
        served = 0
        while (data := connection.recv(65_536)) and b"\r\n\r\n" in data:
            served += 1
            path = data.split(b" ")[1]
            answer = OK + b"Content-Length: %d\r\n\r\n%b" % (len(path), path)
            connection.sendall(answer + OK + b"Content-Length: 4\r\n\r\nevil" if served == 1 else answer)

    listener = l7_listener({HOST: backend(twice).address}, authority, backend_protocol="http/1.1")
    running = proxy({"listeners": [listener]})
    for number in range(10):
        got = exchange(running, authority, b"GET /%d HTTP/1.1\r\nHost: %b\r\n%b" % (number, HOST.encode(), END))
        assert got.endswith(b"\r\n\r\n/%d" % number)
        assert b"evil" not in got


class Overlooking:
    """A backend that overlooks the body of its first request, and takes it for the next one: "CL.0".

    It answers what it takes for the next one only when a third comes, so that a proxy sees nothing amiss before.
    """

    def __init__(self) -> None:
        self.closes: list[bool] = []  # of each connection: whether its first request said that it would be the last

    def __call__(self, connection: socket.socket) -> None:
        data, served = b"", 0
        while part := connection.recv(65_536):
            data += part
            heads = data.count(b" HTTP/1.1\r\n")
            if not served and data.count(b"\r\n\r\n"):
                self.closes.append(b"connection: close\r\n" in data)
                connection.sendall(OK + b"Content-Length: 5\r\n\r\nfirst")
                served = 1
                if self.closes[-1]:
                    return
            elif heads > 2 or (heads == 2 and b"/hidden" not in data):
                targets = [line.split(b" ")[1] for line in data.split(b"\r\n") if line.endswith(b" HTTP/1.1")]
                connection.sendall(OK + b"Content-Length: %d\r\n\r\n%b" % (len(targets[1]), targets[1]))
                return


HIDING = b"Content-Length: %d\r\n" % len(HIDDEN)


@pytest.mark.parametrize(
    "head",
    [
        GET + HIDING,
        GET.replace(b"GET", b"OPTIONS") + HIDING,
        POST + HIDING + b"Expect: 100-continue\r\n",
        POST + HIDING + b"Expect: y 100-continue\r\n",
    ],
    ids=["GET", "OPTIONS", "expects", "expects something else"],
)
def test_a_body_that_a_backend_overlooks_reaches_no_other_client(
    head: bytes, backend: MakeBackend, authority: Authority, proxy: MakeProxy
) -> None:
    """What such a backend answers to it went to the next client of its connection, whoever that was."""
    overlooking = Overlooking()
    listener = l7_listener({HOST: backend(overlooking).address}, authority, backend_protocol="http/1.1")
    running = proxy({"log": {"format": "json"}, "listeners": [listener]})
    with tls(running, authority) as attacker:
        attacker.sendall(head + b"\r\n" + HIDDEN)
        got = b""
        while not got.endswith(b"first"):
            part = attacker.recv(65_536)
            assert part, got
            got += part
        until(lambda: faults(running), "the first request's end")
        victim = exchange(running, authority, GET + END)
    assert victim.endswith(b"first"), "over another connection"
    assert overlooking.closes[0]
