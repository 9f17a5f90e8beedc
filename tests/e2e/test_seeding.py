"""The seed: a start that fails leaves the database unseeded, so that the file that is corrected then still counts.

Once a failed start seeded the database with an example's routes, and the operator's own file was ignored from then on.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcproxy.store.store import read_table
from tests.kit.admin_stub import grpc_section
from tests.kit.peers import Authority, free_port
from tests.kit.program import Program, Server, environment, write_config

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

Document = dict[str, Any]


def port_taken(folder: Path, addr: str, authority: Authority) -> Document:
    return {"listeners": [{"addr": addr}, {"addr": "127.0.0.1:{taken}"}]}


def port_not_permitted(folder: Path, addr: str, authority: Authority) -> Document:
    if int(UNPRIVILEGED.read_text()) <= 1:
        pytest.skip("this system lets everybody have every port")
    return {"listeners": [{"addr": addr}, {"addr": "127.0.0.1:1"}]}


def no_such_address(folder: Path, addr: str, authority: Authority) -> Document:
    return {"listeners": [{"addr": "192.0.2.1:443"}]}


def no_folder_for_the_socket(folder: Path, addr: str, authority: Authority) -> Document:
    return {"listeners": [{"addr": addr}], "grpc": {"addr": f"unix:{folder}/no/folder/admin.sock"}}


def socket_taken(folder: Path, addr: str, authority: Authority) -> Document:
    return {"listeners": [{"addr": addr}], "grpc": {"addr": f"unix:{folder}/taken.sock"}}


def admin_port_taken(folder: Path, addr: str, authority: Authority) -> Document:
    certificate, key = authority.pair("127.0.0.1")
    pair = {"tls_cert": str(certificate), "tls_key": str(key)}
    return {"listeners": [{"addr": addr}], "grpc": {"addr": "127.0.0.1:{taken}", **pair}}


def certificate_unusable(folder: Path, addr: str, authority: Authority) -> Document:
    certificate, _ = authority.pair("127.0.0.1")
    pair = {"tls_cert": str(certificate), "tls_key": str(certificate)}
    return {"listeners": [{"addr": addr}], "grpc": {"addr": "127.0.0.1:0", **pair}}


def geoip_broken(folder: Path, addr: str, authority: Authority) -> Document:
    (folder / "geo.mmdb").write_bytes(b"not a database" * 100)
    return {"listeners": [{"addr": addr}], "firewall": {"geoip_db": "geo.mmdb", "blocked_countries": ["AQ"]}}


FAILURES: dict[Callable[[Path, str, Authority], Document], tuple[int, str]] = {
    port_taken: (1, "another program listens there"),
    port_not_permitted: (1, "CAP_NET_BIND_SERVICE"),
    no_such_address: (1, "this machine has no such address"),
    no_folder_for_the_socket: (1, "grpc.addr: can't listen on unix:"),
    socket_taken: (1, "another process listens on"),
    admin_port_taken: (1, "grpc.addr: can't listen on 127.0.0.1:"),
    certificate_unusable: (2, "grpc.tls_key: "),
    geoip_broken: (2, "firewall.geoip_db: "),
}


@contextmanager
def taken(folder: Path) -> Iterator[int]:
    """A port and a socket that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "taken.sock"))
        unix.listen()
        yield int(tcp.getsockname()[1])


def without_privileged_ports() -> list[str]:
    return ["setpriv", "--bounding-set=-net_bind_service"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
def test_a_start_that_fails_does_not_seed(
    failure: Callable[[Path, str, Authority], Document], nothing_left: None, authority: Authority, tmp_path: Path
) -> None:
    status, told = FAILURES[failure]
    addr = f"127.0.0.1:{free_port()}"
    with taken(tmp_path) as port:
        path = write_config(tmp_path, failure(tmp_path, addr, authority))
        path.write_text(path.read_text().replace("{taken}", str(port)))
        command: list[str | Path] = [*without_privileged_ports(), sys.executable, "-m", "mcproxy", "server", "-c", path]
        with Program(*command, env=environment()) as program:
            assert program.wait() == status
        (line,) = program.err
        assert told in line
    database = tmp_path / "mcproxy.db"
    assert not database.exists() or read_table(database).generation == 0

    corrected = {"listeners": [{"addr": addr, "max_connections": 7}], "grpc": grpc_section(tmp_path)}
    with Server(tmp_path, corrected) as server:
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    held = read_table(database)
    assert {each: found.listener.max_connections for each, found in held.listeners.items()} == {addr: 7}
