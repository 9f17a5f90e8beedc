"""A backend's name: each of its addresses gets its chance, and one that hangs holds up nobody else's.

The server runs with its own /etc/hosts and /etc/resolv.conf, in a mount namespace, and the system's own resolver.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBackend, listener
from tests.kit.peers import DEADLINE, client_hello, connect, echo, free_port, receive, until
from tests.kit.program import Program, environment, write_config

MOUNT = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'
HANGING = 100  # names without an answer: more than there are threads that look names up
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
    reason="no mount namespaces here",
)

Start = Callable[..., Program]


@pytest.fixture
def start(nothing_left: None, tmp_path: Path) -> Iterator[Start]:
    """Starts a server whose system has these hosts and this name server."""
    with ExitStack() as running:

        def run(document: dict[str, Any], hosts: str, name_server: str = "127.0.0.1") -> Program:
            (tmp_path / "hosts").write_text(hosts)
            (tmp_path / "resolv.conf").write_text(f"nameserver {name_server}\n")
            config = write_config(tmp_path, document)
            server = running.enter_context(
                Program(
                    *("unshare", "--mount", "sh", "-c", MOUNT, "sh", tmp_path / "hosts", tmp_path / "resolv.conf"),
                    *(sys.executable, "-m", "mcproxy", "server", "-c", config),
                    env=environment(),
                )
            )
            server.line("started, generation")
            return server

        yield run


@pytest.fixture
def silent_name_server() -> Iterator[str]:
    """An address where questions arrive and nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        address = f"127.{os.getpid() >> 16 & 255}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 | 2}"
        server.bind((address, 53))
        yield address


def is_served(port: int, name: str) -> bool:
    """Whether a client that asks for this name reaches a backend that echoes."""
    hello = client_hello(name)
    with connect(port) as client:
        client.sendall(hello)
        return receive(client, len(hello)) == hello


def test_the_second_address_serves_where_the_first_swallows_everything(start: Start) -> None:
    """Each address used to be waited for until the whole connect_timeout was over: every connection failed."""
    with ExitStack() as stack:
        dead = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = dead.getsockname()[1]
        stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))  # now its backlog is full
        good = stack.enter_context(socket.create_server(("127.0.0.2", port)))
        good.settimeout(DEADLINE)
        front = free_port()
        document = {
            "listeners": [listener({"a.test": f"several.test:{port}"}, addr=f"127.0.0.1:{front}")],
            "proxy": {"connect_timeout": "5s"},
        }
        start(document, "127.0.0.1 several.test\n127.0.0.2 several.test\n")
        hello = client_hello("a.test")
        for _ in range(2):
            with connect(front) as client:
                client.sendall(hello)
                accepted, _ = good.accept()
                with accepted:
                    assert receive(accepted, len(hello)) == hello


def test_names_in_the_hosts_file_are_found_while_others_hang(
    start: Start, backend: MakeBackend, silent_name_server: str
) -> None:
    """Ten hanging names used to take every thread of the pool, for seconds after their clients had left."""
    front, (_, backend_port) = free_port(), backend(echo).address.rsplit(":", 1)
    routes = {f"h{i}.test": f"h{i}.hanging.test:443" for i in range(HANGING)} | {"a.test": f"here.test:{backend_port}"}
    server = start(
        {"listeners": [listener(routes, addr=f"127.0.0.1:{front}")], "proxy": {"connect_timeout": "2s"}},
        "127.0.0.1 localhost\n127.0.0.1 here.test\n",
        silent_name_server,
    )
    with ExitStack() as stack:
        for i in range(HANGING):
            client = stack.enter_context(connect(front))
            client.sendall(client_hello(f"h{i}.test"))
        assert is_served(front, "a.test")
    until(lambda: sum("backend_timeout" in line for line in server.out) == HANGING, "the others to be refused")
    assert is_served(front, "a.test")


def test_the_program_ends_while_names_hang(start: Start, silent_name_server: str) -> None:
    front = free_port()
    server = start(
        {
            "listeners": [listener({"a.test": "h.hanging.test:443"}, addr=f"127.0.0.1:{front}")],
            "proxy": {"connect_timeout": "1s"},
        },
        "127.0.0.1 localhost\n",
        silent_name_server,
    )
    with connect(front) as client:
        client.sendall(client_hello("a.test"))
        server.line("backend_timeout")
    server.process.terminate()
    assert server.wait() == 0
