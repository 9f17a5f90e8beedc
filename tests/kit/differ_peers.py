"""The programs that the differential harness compares, each in front of backends of its own.

All have the same routes and the same short timeouts. What a program can't do has no port: Caddy has no l4.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.differ_backend import Record, http, raw
from tests.kit.odd_certificates import ODD
from tests.kit.peers import DEADLINE, Authority, Backend, free_port, until
from tests.kit.program import environment, write_config

NAME = "a.test"
OTHER = "b.test"  # a second l7 route
GOING = "going.test"  # its backend's connections end, which must not disturb other cases: some programs share them
CLOSING = "closing.test"  # the same
ODD_NAMES = {f"odd{number}.test": odd for number, odd in enumerate(ODD)}  # what is odd about their certificates
STREAM = "stream.test"  # l4
TOLD = "told.test"  # l4, and the backend gets a PROXY header
DRAIN_SECONDS = 20
LIMIT = 3  # seconds of every timeout


@dataclass(frozen=True)
class Ports:
    """Where a program listens; 0: it can't do that."""

    l7: int
    l4: int
    behind: int  # l4 behind a load balancer that sends PROXY headers


@dataclass
class Peer:
    """A program that runs."""

    name: str
    ports: Ports
    http: Record
    raw: Record
    process: subprocess.Popen[bytes]
    drain: signal.Signals
    backends: list[Backend] = field(default_factory=list)


@dataclass(frozen=True)
class Setup:
    """What a program's configuration is made of."""

    folder: Path
    ports: Ports
    http: int
    raw: int
    certificates: dict[str, tuple[Path, Path]]


def mcproxy(setup: Setup) -> list[str]:
    """This tree's program."""
    backend, stream = f"127.0.0.1:{setup.http}", f"127.0.0.1:{setup.raw}"
    l7 = [
        {
            "hostname": name, "mode": "l7", "tls_cert": str(chain), "tls_key": str(key),
            "backend": backend,
        }
        for name, (chain, key) in setup.certificates.items()
    ]  # fmt: skip
    l4 = [
        {"hostname": STREAM, "backend": stream},
        {"hostname": TOLD, "backend": stream, "send_proxy_protocol": True},
    ]
    behind = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
    seconds = f"{LIMIT}s"
    path = write_config(
        setup.folder,
        {
            "listeners": [
                {"addr": f"127.0.0.1:{setup.ports.l7}", "routes": l7},
                {"addr": f"127.0.0.1:{setup.ports.l4}", "routes": l4},
                {"addr": f"127.0.0.1:{setup.ports.behind}", "routes": l4, **behind},
            ],
            "proxy": {
                "connect_timeout": seconds, "handshake_timeout": seconds, "idle_timeout": seconds,
                "half_close_timeout": seconds, "shutdown_timeout": f"{DRAIN_SECONDS}s",
            },
        },
    )  # fmt: skip
    return [sys.executable, "-m", "mcproxy", "server", "-c", str(path)]


def haproxy(setup: Setup) -> list[str]:
    """HAProxy, HTTP/2 to the backend."""
    ports, folder = setup.ports, setup.folder
    for name, (chain, key) in setup.certificates.items():
        (folder / f"{name}.both").write_text(chain.read_text() + (key.read_text() if key != chain else ""))
    crt = " ".join(f"crt {folder}/{name}.both" for name in setup.certificates)
    peek = (
        f" tcp-request inspect-delay {LIMIT}s\n tcp-request content accept if {{ req.ssl_hello_type 1 }}\n"
        " tcp-request content reject\n"
        f" use_backend told if {{ req.ssl_sni -i {TOLD} }}\n use_backend stream if {{ req.ssl_sni -i {STREAM} }}\n"
    )
    timeouts = ("client", "server", "connect", "http-request", "http-keep-alive", "client-fin", "server-fin")
    (folder / "haproxy.cfg").write_text(
        f"global\n nbthread 1\n hard-stop-after {DRAIN_SECONDS}s\n"
        "defaults\n mode http\n" + "".join(f" timeout {name} {LIMIT}s\n" for name in timeouts) + " timeout tunnel 3s\n"
        f"frontend l7\n bind 127.0.0.1:{ports.l7} ssl {crt} alpn h2,http/1.1 strict-sni\n"
        " http-request set-header x-forwarded-for %[src]\n http-request set-header x-forwarded-proto https\n"
        f" default_backend http\n"
        f"backend http\n http-reuse never\n server s 127.0.0.1:{setup.http} proto h2\n"
        f"frontend l4\n mode tcp\n bind 127.0.0.1:{ports.l4}\n{peek}"
        f"frontend behind\n mode tcp\n bind 127.0.0.1:{ports.behind} accept-proxy\n{peek}"
        f"backend stream\n mode tcp\n server s 127.0.0.1:{setup.raw}\n"
        f"backend told\n mode tcp\n server s 127.0.0.1:{setup.raw} send-proxy-v2\n"
    )
    return [_program("haproxy"), "-f", f"{folder}/haproxy.cfg"]


def nginx(setup: Setup) -> list[str]:
    """nginx, HTTP/1.1 to the backend; its stream module for l4."""
    ports, folder = setup.ports, setup.folder
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    timeouts = ("client_header", "client_body", "send", "keepalive", "proxy_read", "proxy_send", "proxy_connect")
    limits = "".join(f"{name}_timeout {LIMIT}s;" for name in timeouts)
    servers = "".join(
        f"server {{ listen 127.0.0.1:{ports.l7} ssl http2; server_name {name};\n"
        f" ssl_certificate {chain}; ssl_certificate_key {key};\n"
        f" location / {{ proxy_pass http://127.0.0.1:{setup.http}; }} }}\n"
        for name, (chain, key) in setup.certificates.items()
    )
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    load = f"load_module {module};" if module.exists() else ""
    stream = (
        f"map $ssl_preread_server_name $to {{ {STREAM} 127.0.0.1:{setup.raw}; {TOLD} 127.0.0.1:{ports.l4 + 1}; }}\n"
        f"server {{ listen 127.0.0.1:{ports.l4}; ssl_preread on; proxy_pass $to; }}\n"
        f"server {{ listen 127.0.0.1:{ports.behind} proxy_protocol; ssl_preread on; proxy_pass $to; }}\n"
        f"server {{ listen 127.0.0.1:{ports.l4 + 1}; proxy_protocol on; proxy_pass 127.0.0.1:{setup.raw}; }}\n"
    )
    (folder / "nginx.conf").write_text(
        f"{load} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"{'user root;' if os.getuid() == 0 else ''} worker_shutdown_timeout {DRAIN_SECONDS}s; events {{}}\n"
        f"http {{ access_log off; {paths} {limits} proxy_http_version 1.1; proxy_request_buffering off;\n"
        " map $http_upgrade $upgrading { default Upgrade; '' ''; } proxy_buffering off;\n"
        " proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;\n"
        " proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrading;\n"
        f"{servers} }}\n"
        f"stream {{ preread_timeout {LIMIT}s; proxy_timeout {LIMIT}s; proxy_connect_timeout {LIMIT}s;\n"
        f" proxy_protocol_timeout {LIMIT}s; proxy_half_close on; {stream} }}\n"
    )
    return [_program("nginx"), "-c", f"{folder}/nginx.conf", "-p", str(folder), "-e", f"{folder}/error.log"]


def caddy(setup: Setup) -> list[str]:
    """Caddy, HTTP/2 to the backend; no l4."""
    sites = "".join(
        f"https://{name}:{setup.ports.l7} {{\n bind 127.0.0.1\n tls {chain} {key}\n"
        f" reverse_proxy h2c://127.0.0.1:{setup.http} {{\n"
        f"  transport http {{\n   dial_timeout {LIMIT}s\n   response_header_timeout {LIMIT}s\n   versions h2c\n  }}\n"
        " }\n}\n"
        for name, (chain, key) in setup.certificates.items()
        if name not in ODD_NAMES  # Go's crypto/tls reads few of them: Caddy would not start
    )
    (setup.folder / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n persist_config off\n log {\n  level ERROR\n }\n"
        f" grace_period {DRAIN_SECONDS}s\n"
        f" servers {{\n  timeouts {{\n   read_header {LIMIT}s\n   idle {LIMIT}s\n  }}\n  protocols h1 h2\n }}\n}}\n"
        + sites
    )
    return [_program("caddy"), "run", "--config", f"{setup.folder}/Caddyfile", "--adapter", "caddyfile"]


MAKERS: dict[str, tuple[Callable[[Setup], list[str]], bool, signal.Signals]] = {
    "mcproxy": (mcproxy, True, signal.SIGTERM),
    "haproxy": (haproxy, True, signal.SIGUSR1),
    "nginx": (nginx, True, signal.SIGQUIT),
    "caddy": (caddy, False, signal.SIGTERM),
}


def _program(name: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    found = shutil.which(name, path=path)
    assert found, f"{name} is missing: tests/install-peers.sh and the extra `test` install it"
    return found


def certificates(authority: Authority, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Chain and key of each l7 route, the odd ones included."""
    pairs = {name: authority.pair(name) for name in (NAME, OTHER, GOING, CLOSING)}
    for name, odd in ODD_NAMES.items():
        path = folder / f"{name}.pem"
        path.write_bytes(ODD[odd](name))
        pairs[name] = path, path
    return pairs


@contextmanager
def running(authority: Authority, folder: Path) -> Iterator[dict[str, Peer]]:
    """All of them; they end with the block."""
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for name in MAKERS:
            own = folder / name
            own.mkdir()
            peers[name] = stack.enter_context(_started(name, own, certificates(authority, own)))
        for peer in peers.values():
            _wait(peer)
        yield peers


@contextmanager
def _started(name: str, folder: Path, pairs: dict[str, tuple[Path, Path]]) -> Iterator[Peer]:
    make, l4, drain = MAKERS[name]
    requests, streams = Record(), Record()
    backends = [Backend(http(requests)), Backend(raw(streams))]
    http_port, raw_port = (int(each.address.rpartition(":")[2]) for each in backends)
    ports = Ports(free_port(), free_port(beside=[1]) if l4 else 0, free_port() if l4 else 0)
    log = (folder / "log").open("wb")
    command = make(Setup(folder, ports, http_port, raw_port, pairs))
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environment(**home)
    )
    try:
        yield Peer(name, ports, requests, streams, process, drain, backends)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
        log.close()
        for backend in backends:
            backend.failures.clear()  # a case may be what no backend expects
            backend.close()


def _wait(peer: Peer) -> None:
    def is_up() -> bool:
        assert peer.process.poll() is None, f"{peer.name} ended at once; see its log"
        ports = [port for port in (peer.ports.l7, peer.ports.l4, peer.ports.behind) if port]
        probes = [socket.socket() for _ in ports]
        try:
            return not any(probe.connect_ex(("127.0.0.1", port)) for probe, port in zip(probes, ports, strict=True))
        finally:
            for probe in probes:
                probe.close()

    until(is_up, f"{peer.name} to listen")
