"""`mcproxy check`: where it says OK a start works, where a start fails it says why, beside a running server or not."""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.store.schema import VERSION, VERSION_TABLE
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.peers import DEADLINE, free_port
from tests.kit.program import Program, Server, environment, write_config


def check(folder: Path) -> tuple[int, str, str]:
    """The status, the output and what is on standard error."""
    command = [sys.executable, "-m", "mcproxy", "check", "-c", str(folder / "mcproxy.toml")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def document(**more: Any) -> dict[str, Any]:
    routes = [{"hostname": "a.test", "backend": "127.0.0.1:9"}]
    return {"listeners": [{"addr": f"127.0.0.1:{free_port()}", "routes": routes}], **more}


def seeded(folder: Path, **more: Any) -> dict[str, Any]:
    """A file whose database a start has filled."""
    made = document(**more)
    with Server(folder, made) as server:
        server.process.terminate()
        assert server.wait() == 0
    return made


def starts(folder: Path) -> bool:
    """Whether a server starts with this file."""
    command = [sys.executable, "-m", "mcproxy", "server", "-c", str(folder / "mcproxy.toml")]
    with Program(*command, env=environment()) as program:
        try:
            program.line("started, generation")
        except AssertionError:
            return False
        program.process.terminate()
        return program.wait() == 0


def edit(*statements: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return run


def junk(path: Path) -> None:
    path.write_bytes(b"junk" * 1000)


def foreign(path: Path) -> None:
    path.unlink()
    edit("CREATE TABLE other (a)")(path)


def test_a_good_file_and_a_good_database(nothing_left: None, tmp_path: Path) -> None:
    path = write_config(tmp_path, document())
    assert check(tmp_path) == (0, f"{path}: OK (1 listener, 1 route)\n", "")
    assert [each.name for each in tmp_path.iterdir()] == ["mcproxy.toml"]
    seeded(tmp_path)
    assert check(tmp_path) == (0, f"{path}: OK (1 listener, 1 route, generation 1 of the database)\n", "")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mcproxy.db", "mcproxy.toml"]


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (junk, "is not a SQLite database"),
        (foreign, "not one of mcproxy's"),
        (edit(f"INSERT INTO {VERSION_TABLE} VALUES ({VERSION + 1})"), "run the newer mcproxy"),
        (edit("UPDATE routes SET backend = 'nonsense'"), "column backend can't be read: "),
        (edit("INSERT INTO firewall_rules (kind, value) VALUES ('country', 'AQ')"), "the database's country rules"),
    ],
)
def test_a_database_that_no_start_takes(
    harm: Callable[[Path], None], says: str, nothing_left: None, tmp_path: Path
) -> None:
    seeded(tmp_path)
    harm(tmp_path / "mcproxy.db")
    status, out, err = check(tmp_path)
    assert (status, out) == (2, "")
    assert says in err
    assert not starts(tmp_path)


def test_beside_a_running_server(nothing_left: None, tmp_path: Path) -> None:
    """What it has just changed is in its -wal file, and the addresses that are in use are its own."""
    made = document(grpc=grpc_section(tmp_path))
    path = tmp_path / "mcproxy.toml"
    with Server(tmp_path, made) as server, stub(tmp_path) as admin:
        route = pb.Route(hostname="b.test", backend="127.0.0.1:9")
        admin.AddRoute(pb.AddRouteRequest(route=route), timeout=DEADLINE)
        status, out, err = check(tmp_path)
        assert (status, out) == (0, f"{path}: OK (1 listener, 2 routes, generation 2 of the database)\n")
        assert err == (
            f"{path}: warning: the listeners, routes and rules differ from the database in 1 value; the database is in "
            "force: mcproxy diff\n"
        )
        admin.RemoveRoute(pb.RemoveRouteRequest(hostname="b.test"), timeout=DEADLINE)
        assert check(tmp_path)[2] == ""
        server.process.terminate()
        assert server.wait() == 0


def test_a_running_server_that_nobody_can_ask(nothing_left: None, tmp_path: Path) -> None:
    with Server(tmp_path, document()) as server:
        status, _, err = check(tmp_path)
        assert status == 0, err
        assert f"in use by mcproxy (pid {server.process.pid}), which doesn't answer at [grpc]" in err
        server.process.terminate()
        assert server.wait() == 0


def test_another_program_has_the_address(nothing_left: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        write_config(tmp_path, {"listeners": [{"addr": addr}], "grpc": grpc_section(tmp_path)})
        status, _, err = check(tmp_path)
        assert status == 0, "it may be the one that mcproxy is about to replace"
        assert f"warning: listeners[0].addr: can't listen on {addr}: in use by " in err
        assert not starts(tmp_path)


def test_everything_at_once(nothing_left: None, tmp_path: Path) -> None:
    port = free_port()
    pair = {"mode": "l7", "tls_cert": "absent.pem", "tls_key": "absent.pem"}
    routes = [
        {"hostname": "loop.test", "backend": f"localhost:{port}"},
        {"hostname": "cert.test", "backend": "127.0.0.1:9", **pair},
    ]
    path = write_config(
        tmp_path,
        {
            "listeners": [{"addr": f":{port}", "routes": routes}, {"addr": f"192.0.2.1:{port + 1}"}],
            "grpc": {"addr": "unix:no/admin.sock"}, "firewall": {"geoip_db": "absent.mmdb"}, "proxy": {"workers": 64},
        },
    )  # fmt: skip
    status, out, err = check(tmp_path)
    assert (status, out) == (2, "")
    keys = [line.removeprefix(f"{path}: ").split(": ")[:2] for line in err.splitlines()]
    assert keys[0] == ["warning", "proxy.workers"]
    assert [key[0] for key in keys[1:]] == [
        "firewall.geoip_db", "grpc.addr", "listeners[0].routes[1].tls_cert", "listeners[0].routes[0].backend",
        "listeners[1].addr",
    ]  # fmt: skip
