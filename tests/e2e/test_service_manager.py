"""The proxy and its service manager: it says what it is doing, feeds the watchdog, and takes sockets that are open."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBackend
from tests.kit.hellos import TINY
from tests.kit.peers import connect, echo, free_port, is_reset
from tests.kit.program import Program, environment, write_config
from tests.kit.service_manager import Activated, Manager

BOTH = pytest.mark.parametrize("workers", [1, 2])


def document(addr: str, backend: str, workers: int = 1) -> dict[str, Any]:
    return {
        "listeners": [{"addr": addr, "routes": [{"hostname": "a.test", "backend": backend}]}],
        "proxy": {"shutdown_timeout": "5s", "workers": workers},
    }


def echoed(port: int, host: str = "127.0.0.1") -> None:
    """A connection through the proxy, whole."""
    with connect(port, host) as client:
        client.sendall(TINY)
        assert client.recv(1000) == TINY
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


@BOTH
def test_it_says_what_it_is_doing(workers: int, tmp_path: Path, backend: MakeBackend) -> None:
    port = free_port()
    path = write_config(tmp_path, document(f"127.0.0.1:{port}", backend(echo).address, workers))
    with Manager(tmp_path) as manager:
        told = environment(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="900000")
        with Program(sys.executable, "-m", "mcproxy", "server", "-c", path, env=told) as program:
            manager.hear("READY=1")
            with connect(port) as client:  # ready means that it listens
                client.sendall(TINY)
                assert client.recv(1000) == TINY
                manager.hear("STATUS=serving: 1 connection open, generation 1")
                for _ in range(3):
                    manager.hear("WATCHDOG=1")
                program.signal(signal.SIGHUP)
                since = int(manager.hear("RELOADING=1\nMONOTONIC_USEC=").rpartition("=")[2])
                assert 0 <= time.monotonic_ns() // 1000 - since < 60e6
                manager.hear("READY=1")
                program.signal(signal.SIGTERM)
                manager.hear("STOPPING=1")
                manager.hear("WATCHDOG=1")  # while it drains too
                client.shutdown(socket.SHUT_WR)
            assert program.wait() == 0


@BOTH
@pytest.mark.parametrize(
    ("bound", "addr"), [("127.0.0.1", "127.0.0.1:{}"), ("0.0.0.0", ":{}"), ("::", ":{}"), ("::1", "[::1]:{}")]
)
def test_it_takes_sockets_that_are_open(
    bound: str, addr: str, workers: int, tmp_path: Path, backend: MakeBackend
) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    client_host = "::1" if bound == "::1" else "127.0.0.1"
    with (
        socket.create_server((bound, 0), family=family, dualstack_ipv6=bound == "::") as sock,
        socket.create_server(("127.0.0.1", 0)) as nobodys,
    ):
        port = sock.getsockname()[1]
        early = connect(port, client_host)  # before there is a process
        wanted = document(addr.format(port), backend(echo).address, workers)
        with Activated(tmp_path, wanted, [nobodys, sock]) as program:
            program.line("started, generation")
            program.line(f"listens on 127.0.0.1:{nobodys.getsockname()[1]}, which is no listener's address")
            with early:
                early.sendall(TINY)
                assert early.recv(1000) == TINY
            echoed(port, client_host)
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        connect(port, client_host).close()  # the socket has outlived it


def test_systemds_own_activation(tmp_path: Path, backend: MakeBackend) -> None:
    tool = shutil.which("systemd-socket-activate")
    assert tool, "tests/install-peers.sh installs systemd"
    port = free_port()
    path = write_config(tmp_path, document(f"127.0.0.1:{port}", backend(echo).address))
    kept = [f"--setenv={name}={value}" for name, value in environment().items() if name in ("PATH", "PYTHONPATH")]
    command: list[str | Path] = [
        tool,
        f"--listen=127.0.0.1:{port}",
        *kept,
        sys.executable,
        "-m",
        "mcproxy",
        "server",
        "-c",
        path,
    ]
    with Program(*command) as program:
        program.line("Listening on")
        echoed(port)
        program.signal(signal.SIGTERM)
        assert program.wait() == 0


def test_a_refusal_is_a_reset_on_a_socket_of_others_too(tmp_path: Path, backend: MakeBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        with Activated(tmp_path, document(f"127.0.0.1:{port}", backend(echo).address), [sock]) as program:
            program.line("started, generation")
            with connect(port) as client:
                client.sendall(b"not TLS")
                assert is_reset(client)
            program.signal(signal.SIGTERM)
            assert program.wait() == 0


def test_no_client_is_refused_or_reset_by_restarts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kit.restarts", str(tmp_path), "3", "400"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"(\d+) connections over (\d+) restarts, 0 failed.*\n", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= 400
    assert found[2] == "3"
