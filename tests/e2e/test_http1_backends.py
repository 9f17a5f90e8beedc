"""Web applications as they are run, behind an l7 route that says nothing of their HTTP: clients get what they answer.

What comes through the proxy is held against what the server answers directly, for clients of both versions of HTTP.
"""

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived
from websockets.sync.client import connect as connect_websocket
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from mcproxy.messages import ReadRoutes
from tests.kit.apps import FIRST, HELLO, LARGE, LAST, TAG
from tests.kit.http1_backends import FILES_ONLY, GO, SERVERS, WITH_WEBSOCKETS
from tests.kit.http2_backends import l7_listener
from tests.kit.peers import DEADLINE, Authority, connect, pattern, receive, until
from tests.kit.proxy import Proxy, parse_line

pytestmark = pytest.mark.xdist_group("http1_backends")

NAME = "app.test"
VERSIONS = ["--http1.1", "--http2"]
# Fields that belong to a connection or a moment, and not to the answer.
OWN = {"connection", "keep-alive", "transfer-encoding", "date"}
Fields = list[tuple[str, str]]


@dataclass
class Answer:
    """What a client got."""

    status: int
    fields: Fields
    body: bytes

    def field(self, name: str) -> str:
        """The value of a field that is there once."""
        (value,) = (value for key, value in self.fields if key == name)
        return value


@dataclass
class Served:
    """A server, and the proxy in front of it."""

    which: str
    address: str
    folder: Path
    proxy: Proxy
    authority: Authority

    def curl(self, version: str, path: str, *options: str | Path) -> Answer:
        """Ask through the proxy."""
        head = self.folder / "head"
        done = subprocess.run(
            [
                "curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", self.authority.path, version,
                "--resolve", f"{NAME}:{self.proxy.port}:127.0.0.1", "--dump-header", head, *options,
                f"https://{NAME}:{self.proxy.port}{path}",
            ],
            capture_output=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        *_interim, last = head.read_bytes().decode().strip().split("\r\n\r\n")
        first, *lines = last.split("\r\n")
        assert first.startswith("HTTP/2 " if version == "--http2" else "HTTP/1.1 ")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Answer(int(first.split()[1]), fields, done.stdout)

    def directly(self, path: str, method: str = "GET", fields: dict[str, str] | None = None) -> Answer:
        """Ask the server itself."""
        client = HTTPConnection(self.address, timeout=DEADLINE)
        client.request(method, path, headers={"Host": f"{NAME}:{self.proxy.port}", **(fields or {})})
        answer = client.getresponse()
        found = [(name.lower(), value) for name, value in answer.getheaders()]
        body = answer.read()
        client.close()
        return Answer(answer.status, found, body)

    def lines(self, path: str, count: int, skip: int) -> list[dict[str, str]]:
        """The lines of so many requests for a path, after the first `skip` lines."""
        found: list[dict[str, str]] = []

        def come() -> bool:
            requests = [parse_line(line) for line in self.proxy.lines[skip:] if " request " in line]
            found[:] = [each for each in requests if each["path"] == json.dumps(path)]
            return len(found) >= count

        until(come, f"{count} lines for {path}")
        return found


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Served]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        with SERVERS[request.param](folder) as address:
            proxy = Proxy({"listeners": [l7_listener({NAME: address}, authority)]}, folder)
            yield Served(request.param, address, folder, proxy, authority)
            proxy.stop()


def without(fields: Fields, *names: str) -> Fields:
    """The fields of the message itself, in any order: of those with one name the order counts."""
    return sorted((each for each in fields if each[0] not in OWN.union(names)), key=lambda field: field[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_get(version: str, served: Served) -> None:
    got, direct = served.curl(version, "/hello"), served.directly("/hello")
    assert (got.status, got.body) == (direct.status, direct.body) == (200, HELLO)
    assert without(got.fields) == without(direct.fields)
    if served.which not in FILES_ONLY:
        assert [value for name, value in got.fields if name == "set-cookie"] == ["a=1", "b=2"]
        assert got.field("x-host") == f"{NAME}:{served.proxy.port}"


@pytest.mark.parametrize("version", VERSIONS)
def test_head(version: str, served: Served) -> None:
    got, direct = served.curl(version, "/hello", "--head"), served.directly("/hello", "HEAD")
    assert (got.status, direct.body) == (direct.status, b"")
    assert without(got.fields) == without(direct.fields)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_client_has_is_not_sent_again(version: str, served: Served) -> None:
    tag = served.curl(version, "/cached").field("etag")
    assert served.which in FILES_ONLY or tag == TAG
    got = served.curl(version, "/cached", "--header", f"If-None-Match: {tag}")
    direct = served.directly("/cached", fields={"If-None-Match": tag})
    assert (got.status, got.body) == (direct.status, direct.body) == (304, b"")
    assert without(got.fields) == without(direct.fields)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_there(version: str, served: Served) -> None:
    got, direct = served.curl(version, "/none"), served.directly("/none")
    assert (got.status, got.body) == (direct.status, direct.body)
    assert without(got.fields) == without(direct.fields)
    assert got.status == 404


@pytest.mark.parametrize("version", VERSIONS)
def test_a_large_download(version: str, served: Served) -> None:
    got, direct = served.curl(version, "/large"), served.directly("/large")
    assert got.status == 200
    assert got.body == LARGE
    assert without(got.fields) == without(direct.fields)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize("size", [0, 5, 4 << 20])
def test_uploads(size: int, framing: str, version: str, served: Served) -> None:
    if served.which == "nginx":
        # Not of /hello, whose lines others count: where RST_STREAM meets a curl that has left, the line comes late.
        assert served.curl(version, "/cached", "--data", "x").status == 405
        return
    body = pattern(size)
    (served.folder / "body").write_bytes(body)
    # Of a pipe curl doesn't know the length: it sends chunks, or DATA without one.
    chunked = ("--header", "Transfer-Encoding: chunked") if version == "--http1.1" else ("--header", "Content-Length:")
    options = chunked if framing == "chunked" else ()
    got = served.curl(version, "/echo", *options, "--data-binary", f"@{served.folder}/body")
    assert got.status == 200, got.body
    assert got.body == body
    if framing == "content-length":
        assert got.field("x-length") == str(size)


@pytest.mark.parametrize("version", VERSIONS)
def test_connections_are_kept(version: str, served: Served) -> None:
    """All of these keep them, but PHP's built-in server, which closes after each answer."""
    before = len(served.proxy.lines)
    for _ in range(3):
        served.curl(version, "/hello")
    lines = served.lines("/hello", 3, before)
    assert {line["backend_protocol"] for line in lines} == {"http/1.1"}
    assert {line["end"] for line in lines} == {'"done"'}
    assert lines[-1]["reused"] == ("false" if served.which == "php" else "true")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_event_of_a_stream_is_there_at_once(version: str, served: Served) -> None:
    """The second one comes only after the client has seen the first."""
    if served.which in FILES_ONLY:
        assert served.curl(version, "/events").status == 404
        return
    go = served.folder / GO
    go.unlink(missing_ok=True)
    with subprocess.Popen(
        [
            "curl", "--silent", "--no-buffer", "--noproxy", "*", "--cacert", served.authority.path, version,
            "--resolve", f"{NAME}:{served.proxy.port}:127.0.0.1", f"https://{NAME}:{served.proxy.port}/events",
        ],
        stdout=subprocess.PIPE,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        assert client.stdout.read(len(FIRST)) == FIRST
        go.touch()
        assert client.stdout.read() == LAST
    assert client.returncode == 0


def test_status_says_what_was_found(served: Served) -> None:
    served.curl("--http2", "/hello")
    (found,) = served.proxy.app.data.desk.answer(ReadRoutes())
    assert found.spoken is not None
    assert found.spoken.version == "http/1.1"
    assert "HTTP/2" in found.spoken.how


# --- WebSocket --------------------------------------------------------------------------------------------------------

LONG = "€" * (1 << 20)  # 3 MiB of UTF-8


def over_http1(served: Served) -> None:
    """Say something and hear it again, with the library `websockets`."""
    uri, context = f"wss://{NAME}:{served.proxy.port}/ws", served.authority.client_context()
    with connect_websocket(
        uri, sock=connect(served.proxy.port), ssl=context, server_hostname=NAME, max_size=None, proxy=None
    ) as client:
        for said in ("hello", b"\0\1", LONG, ["in ", "two ", "pieces"]):
            client.send(said)
            assert client.recv(DEADLINE) == ("".join(said) if isinstance(said, list) else said)
        client.ping().wait(DEADLINE)


class Http2Socket:
    """A WebSocket over HTTP/2 (RFC 8441), with the library `wsproto`."""

    def __init__(self, served: Served) -> None:
        context = served.authority.client_context()
        context.set_alpn_protocols(["h2"])
        self._sock: ssl.SSLSocket = context.wrap_socket(connect(served.proxy.port), server_hostname=NAME)
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._flush()
        while not self._h2.remote_settings.enable_connect_protocol:
            self._read()
        fields = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/ws"),
            (":authority", f"{NAME}:{served.proxy.port}"), ("sec-websocket-version", "13"),
        ]  # fmt: skip
        self._h2.send_headers(1, fields)
        self._flush()
        self._frames = Connection(ConnectionType.CLIENT)
        self.status = ""
        while not self.status:
            self._read()

    def _flush(self) -> None:
        self._sock.sendall(self._h2.data_to_send())

    def _read(self) -> None:
        data = self._sock.recv(1 << 16)
        assert data, "the connection has ended"
        for event in self._h2.receive_data(data):
            if isinstance(event, ResponseReceived):
                self.status = str(event.headers[0][1])
            elif isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, 1)
                self._frames.receive_data(event.data)
        self._flush()

    def send(self, event: Event) -> None:
        """Send a frame, as windows allow."""
        data = self._frames.send(event)
        while data:
            room = min(self._h2.local_flow_control_window(1), self._h2.max_outbound_frame_size)
            if room:
                self._h2.send_data(1, data[:room])
                data = data[room:]
                self._flush()
            else:
                self._read()

    def receive(self) -> Event:
        """The next frame, or a piece of it."""
        while True:
            for event in self._frames.events():
                return event
            self._read()

    def message(self) -> str | bytes:
        """A whole message."""
        whole: list[str | bytes] = []
        while True:
            event = self.receive()
            assert isinstance(event, TextMessage | BytesMessage)
            whole.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
            if event.message_finished:
                return "".join(map(str, whole)) if isinstance(event, TextMessage) else b"".join(whole)  # type: ignore[arg-type]

    def close(self) -> None:
        """Leave."""
        self._sock.close()


def over_http2(served: Served) -> None:
    """The same by an extended CONNECT."""
    client = Http2Socket(served)
    assert client.status == "200"
    for said in ("hello", LONG):
        client.send(TextMessage(data=said))
        assert client.message() == said
    client.send(BytesMessage(data=b"\0\1"))
    assert client.message() == b"\0\1"
    for piece, last in (("in ", False), ("two ", False), ("pieces", True)):
        client.send(TextMessage(data=piece, message_finished=last))
    assert client.message() == "in two pieces"
    client.send(Ping(payload=b"there?"))
    assert client.receive() == Pong(payload=b"there?")
    client.send(CloseConnection(code=1000))
    assert isinstance(client.receive(), CloseConnection)
    client.close()


@pytest.mark.parametrize("talk", [over_http1, over_http2])
def test_websockets(talk: Callable[[Served], None], served: Served) -> None:
    if served.which not in WITH_WEBSOCKETS:
        assert served.curl("--http1.1", "/ws").status in {404, 426}
        return
    before = len(served.proxy.lines)
    talk(served)
    (line,) = served.lines("/ws", 1, before)
    assert line["backend_protocol"] == "http/1.1"
    assert line["status"] == ("101" if talk is over_http1 else "200")


def test_an_upgrade_to_any_protocol(served: Served) -> None:
    if served.which != "node":
        return
    context = served.authority.client_context()
    with context.wrap_socket(connect(served.proxy.port), server_hostname=NAME) as client:
        client.sendall(f"GET /x HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: again\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += receive(client, 1)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"upgrade: again" in head.lower()
        data = pattern(1 << 20)
        for start in range(0, len(data), 1 << 14):
            client.sendall(data[start : start + (1 << 14)])
            assert receive(client, 1 << 14) == data[start : start + (1 << 14)]
