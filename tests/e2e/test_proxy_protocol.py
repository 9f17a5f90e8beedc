"""The PROXY protocol: who the client is, taken from trusted proxies and told to backends, in both versions.

Taken: what the header says counts, everywhere, and the backend gets not a byte of it. Told: version 2, read here by a
reader of its own, and by HAProxy and nginx, which report what they understood; they speak to us in turn.
"""

import os
import shutil
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.peers import DEADLINE, Authority, Handler, client_hello, connect, free_port, read_all, says, tls, until
from tests.kit.program import Program

HELLO = client_hello("a.test", alpn=("h2", "http/1.1"))
TRUSTING = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8", "::1/128"]}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

# --- taken ------------------------------------------------------------------------------------------------------------


def version_2(command: int, family: int, addresses: bytes, *tlvs: tuple[int, bytes]) -> bytes:
    rest = addresses + b"".join(struct.pack(">BH", kind, len(value)) + value for kind, value in tlvs)
    return SIGNATURE + struct.pack(">BBH", command, family, len(rest)) + rest


V4_ADDRESSES = bytes([192, 0, 2, 7, 192, 0, 2, 8]) + struct.pack(">HH", 4711, 443)
V6_ADDRESSES = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack(">HH", 4711, 443)
MAPPED_ADDRESSES = 2 * socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") + struct.pack(">HH", 4711, 443)
TLVS = ((0x01, b"h2"), (0x02, b"other.test"), (0x04, bytes(100)), (0x20, b"\x01\0\0\0\0"), (0xE0, b"custom"))
V4, V6 = "192.0.2.7:4711", "[2001:db8::7]:4711"
# The header, and the client that it names; "": the proxy itself.
HEADERS = {
    "v1 tcp4": (b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n", V4),
    "v1 tcp6": (b"PROXY TCP6 2001:db8::7 2001:db8::8 4711 443\r\n", V6),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", ""),
    "v1 unknown and more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""),
    "v2 tcp4": (version_2(0x21, 0x11, V4_ADDRESSES), V4),
    "v2 tcp6": (version_2(0x21, 0x21, V6_ADDRESSES), V6),
    "v2 mapped": (version_2(0x21, 0x21, MAPPED_ADDRESSES), V4),
    "v2 with TLVs": (version_2(0x21, 0x11, V4_ADDRESSES, *TLVS), V4),
    "v2 tcp6 with TLVs": (version_2(0x21, 0x21, V6_ADDRESSES, *TLVS), V6),
    "v2 of 4 KiB": (version_2(0x21, 0x11, V4_ADDRESSES, (0xE0, bytes(4000))), V4),
    "v2 local": (version_2(0x20, 0x00, b""), ""),
    "v2 local with addresses": (version_2(0x20, 0x11, V4_ADDRESSES), ""),
    "v2 unspecified": (version_2(0x21, 0x00, b""), ""),
    "v2 unix": (version_2(0x21, 0x31, bytes(216)), ""),
}


class Recorder:
    """Keeps all that a connection brings."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        self.received.append(read_all(connection))


@pytest.mark.parametrize("pace", ["at once", "header first", "byte by byte"])
@pytest.mark.parametrize(("header", "named"), HEADERS.values(), ids=HEADERS)
def test_what_the_header_says_counts_and_the_backend_gets_none_of_it(
    header: bytes, named: str, pace: str, backend: MakeBackend, proxy: MakeProxy
) -> None:
    recorder = Recorder()
    running = proxy({"listeners": [listener({"a.test": backend(recorder).address}, **TRUSTING)]})
    with connect(running.port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = header + HELLO
        cuts = {"at once": [len(whole)], "header first": [len(header), len(whole)]}.get(pace, range(len(whole) + 1))
        start = 0
        for cut in cuts:
            client.sendall(whole[start:cut])
            start = cut
        client.shutdown(socket.SHUT_WR)
        own = f"127.0.0.1:{client.getsockname()[1]}"
        assert read_all(client) == b""
    assert running.connection(client=named or own)["end"] == "closed"
    assert recorder.received == [HELLO]


@pytest.mark.parametrize("source", ["127.0.0.9", "::1"])
def test_a_proxy_is_known_by_its_address_on_a_socket_of_both_families(
    source: str, backend: MakeBackend, proxy: MakeProxy
) -> None:
    options = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.9/32", "::1/128"]}
    running = proxy({"listeners": [{**listener({"a.test": backend(says("here")).address}, **options), "addr": ":0"}]})
    header, named = HEADERS["v2 tcp6"]
    where = ("::1" if ":" in source else "127.0.0.1", running.port)
    with socket.create_connection(where, DEADLINE, (source, 0)) as client:
        client.sendall(header + HELLO)
        assert b"here" in read_all(client)
    assert running.connection(client=named)["reason"] == "ok"


# --- told -------------------------------------------------------------------------------------------------------------


class Told:
    """A version 2 header as a backend reads it, from the front, and what comes behind it."""

    def __init__(self, stream: bytes) -> None:
        assert stream[:12] == SIGNATURE
        command, self.family, length = stream[12], stream[13], int.from_bytes(stream[14:16], "big")
        assert command == 0x21
        size = {0x11: 4, 0x21: 16}[self.family]
        self.source = socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, stream[16 : 16 + size])
        self.destination = socket.inet_ntop(
            socket.AF_INET if size == 4 else socket.AF_INET6, stream[16 + size : 16 + 2 * size]
        )
        self.ports = struct.unpack(">HH", stream[16 + 2 * size : 20 + 2 * size])
        self.behind = stream[16 + length :]
        self.tlvs: dict[int, bytes] = {}
        rest = stream[20 + 2 * size : 16 + length]
        while rest:
            kind, length = rest[0], int.from_bytes(rest[1:3], "big")
            assert len(rest) >= 3 + length
            assert kind not in self.tlvs
            self.tlvs[kind], rest = rest[3 : 3 + length], rest[3 + length :]


ALPN, AUTHORITY = 0x01, 0x02


def telling(target: str, **options: Any) -> dict[str, Any]:
    route = {"hostname": "a.test", "backend": target, "send_proxy_protocol": True}
    return {"addr": "127.0.0.1:0", "routes": [route], **options}


MakeTold = Callable[..., Told]


@pytest.fixture
def told(backend: MakeBackend, proxy: MakeProxy) -> MakeTold:
    """What a backend learns of a client that connects to this listener and sends this."""

    def tell(sends: bytes = HELLO, host: str = "127.0.0.1", family: int = socket.AF_INET, **options: Any) -> Told:
        recorder = Recorder()
        path = options.pop("path", "")
        running = proxy({"listeners": [telling(backend(recorder, family, path).address, **options)]})
        with connect(running.port, host) as client:
            own, there = client.getsockname(), client.getpeername()
            client.sendall(sends)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        (stream,) = recorder.received
        found = Told(stream)
        if not options.get("proxy_protocol"):
            assert (found.source, found.destination, found.ports) == (own[0], there[0], (own[1], there[1]))
        return found

    return tell


def test_a_backend_is_told_addresses_name_and_protocol_before_the_first_byte(told: MakeTold) -> None:
    found = told()
    assert found.family == 0x11
    assert found.tlvs == {AUTHORITY: b"a.test", ALPN: b"h2"}
    assert found.behind == HELLO


def test_the_name_is_told_as_it_was_matched(told: MakeTold) -> None:
    sends = client_hello("A.TEST")
    found = told(sends)
    assert found.tlvs == {AUTHORITY: b"a.test"}
    assert found.behind == sends


def test_an_ipv6_client(told: MakeTold) -> None:
    found = told(host="::1", addr="[::1]:0")
    assert (found.family, found.behind) == (0x21, HELLO)


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", 0x11), ("::1", 0x21)])
def test_a_client_of_a_socket_of_both_families(host: str, family: int, told: MakeTold) -> None:
    assert told(host=host, addr=":0").family == family


def test_an_ipv6_backend_is_told_of_an_ipv4_client(told: MakeTold) -> None:
    assert told(family=socket.AF_INET6).family == 0x11


def test_a_unix_backend(told: MakeTold, tmp_path: Path) -> None:
    assert told(family=socket.AF_UNIX, path=str(tmp_path / "backend.sock")).behind == HELLO


def test_what_was_taken_is_told_on(told: MakeTold) -> None:
    for header, source, destination in (
        (HEADERS["v1 tcp4"][0], "192.0.2.7", "192.0.2.8"),
        (HEADERS["v1 tcp6"][0], "2001:db8::7", "2001:db8::8"),
        (HEADERS["v2 with TLVs"][0], "192.0.2.7", "192.0.2.8"),
    ):
        found = told(header + HELLO, **TRUSTING)
        assert (found.source, found.destination, found.ports) == (source, destination, (4711, 443))
        assert found.tlvs == {AUTHORITY: b"a.test", ALPN: b"h2"}
        assert found.behind == HELLO


def test_early_data_comes_behind_the_hello(told: MakeTold) -> None:
    assert told(HELLO + bytes(9000)).behind == HELLO + bytes(9000)


# --- HAProxy and nginx ------------------------------------------------------------------------------------------------

SYSTEM_PATH = os.environ["PATH"] + ":/usr/sbin"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # Debian's; elsewhere it is part of the program


@pytest.fixture
def start(nothing_left: None, tmp_path: Path) -> Iterator[Callable[[str, str], int]]:
    """Starts "haproxy" or "nginx" with a configuration in which PORT stands for the port that is returned."""
    with ExitStack() as stack:

        def run(name: str, configuration: str) -> int:
            port = free_port()
            path = tmp_path / f"{name}.conf"
            path.write_text(configuration.replace("PORT", str(port)))
            program = shutil.which(name, path=SYSTEM_PATH)
            assert program, f"{name} is not installed; tests/install-peers.sh does it"
            options: dict[str, list[str | Path]] = {
                "haproxy": ["-db", "-f", path],
                "nginx": ["-p", tmp_path, "-c", path, "-e", "stderr"],
            }
            process = stack.enter_context(Program(program, *options[name]))

            def answers() -> bool:
                assert process.process.poll() is None, process.err
                with socket.socket() as sock:
                    return sock.connect_ex(("127.0.0.1", port)) == 0

            until(answers, f"{name} to listen: {process.err}")
            return port

        yield run


Start = Callable[[str, str], int]

HAPROXY = """
global
    maxconn 100
defaults
    timeout connect 5s
    timeout client 20s
    timeout server 20s
"""
HAPROXY_SENDS = (
    HAPROXY
    + """
listen sends
    mode tcp
    bind 127.0.0.1:PORT
    server us 127.0.0.1:{port} {options}
"""
)
HAPROXY_ACCEPTS = (
    HAPROXY
    + """
frontend accepts
    mode http
    bind 127.0.0.1:PORT accept-proxy ssl crt {pem}
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[fc_pp_authority]"
"""
)
NGINX = f"""
{f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""}
daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 100; }}
"""
NGINX_SENDS = (
    NGINX
    + """
stream { server { listen 127.0.0.1:PORT; proxy_pass 127.0.0.1:%d; proxy_protocol on; } }
"""
)
NGINX_ACCEPTS = (
    NGINX
    + """
stream {
    server {
        listen 127.0.0.1:PORT ssl proxy_protocol;
        ssl_certificate %s;
        ssl_certificate_key %s;
        return "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $ssl_server_name";
    }
}
"""
)


def ask(port: int, context: ssl.SSLContext, source: str = "127.0.0.1") -> tuple[str, int]:
    """The answer to a real TLS client from there, and its port."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0)) as plain:
        own = plain.getsockname()[1]
        with context.wrap_socket(plain, server_hostname="a.test") as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return read_all(client).decode(), own


def secured(authority: Authority, handle: Handler) -> Handler:
    return tls(authority.server_context("a.test"), handle)


@pytest.mark.parametrize(
    "options", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl"]
)
def test_haproxy_tells_us(
    options: str, authority: Authority, backend: MakeBackend, proxy: MakeProxy, start: Start
) -> None:
    target = backend(secured(authority, says("here"))).address
    running = proxy({"listeners": [listener({"a.test": target}, **TRUSTING)]})
    port = start("haproxy", HAPROXY_SENDS.format(port=running.port, options=options))
    answer, own = ask(port, authority.client_context(), "127.0.0.7")
    assert answer.endswith("here\n")
    assert running.connection(client=f"127.0.0.7:{own}")["end"] == "closed"


def test_nginx_tells_us(authority: Authority, backend: MakeBackend, proxy: MakeProxy, start: Start) -> None:
    target = backend(secured(authority, says("here"))).address
    running = proxy({"listeners": [listener({"a.test": target}, **TRUSTING)]})
    answer, own = ask(start("nginx", NGINX_SENDS % running.port), authority.client_context(), "127.0.0.7")
    assert answer.endswith("here\n")
    assert running.connection(client=f"127.0.0.7:{own}")["reason"] == "ok"


def test_haproxy_understands_us(authority: Authority, proxy: MakeProxy, start: Start, tmp_path: Path) -> None:
    pem = tmp_path / "both.pem"
    pem.write_bytes(b"".join(path.read_bytes() for path in authority.pair("a.test")))
    running = proxy({"listeners": [telling(f"127.0.0.1:{start('haproxy', HAPROXY_ACCEPTS.format(pem=pem))}")]})
    answer, own = ask(running.port, authority.client_context(), "127.0.0.7")
    assert answer.split("\r\n\r\n")[1] == f"127.0.0.7 {own} 127.0.0.1 a.test"


def test_nginx_understands_us(authority: Authority, proxy: MakeProxy, start: Start) -> None:
    running = proxy({"listeners": [telling(f"127.0.0.1:{start('nginx', NGINX_ACCEPTS % authority.pair('a.test'))}")]})
    answer, own = ask(running.port, authority.client_context(), "127.0.0.7")
    assert answer == f"127.0.0.7 {own} 127.0.0.1 a.test"


def test_what_one_haproxy_told_us_another_one_hears(
    authority: Authority, proxy: MakeProxy, start: Start, tmp_path: Path
) -> None:
    pem = tmp_path / "both.pem"
    pem.write_bytes(b"".join(path.read_bytes() for path in authority.pair("a.test")))
    target = f"127.0.0.1:{start('haproxy', HAPROXY_ACCEPTS.format(pem=pem))}"
    running = proxy({"listeners": [telling(target, **TRUSTING)]})
    port = start("haproxy", HAPROXY_SENDS.format(port=running.port, options="send-proxy-v2"))
    answer, own = ask(port, authority.client_context(), "127.0.0.7")
    assert answer.split("\r\n\r\n")[1] == f"127.0.0.7 {own} 127.0.0.1 a.test"
