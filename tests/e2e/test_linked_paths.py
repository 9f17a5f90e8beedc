"""Paths that are symbolic links: what lies beside a file lies beside the file itself, and a link stays one."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.store.store import Store
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.peers import free_port
from tests.kit.program import Server, environment


def document(folder: Path, **more: Any) -> dict[str, Any]:
    addr = f"127.0.0.1:{free_port()}"
    return {"listeners": [{"addr": addr, "routes": []}], "grpc": grpc_section(folder), **more}


def add(admin: Any, made: dict[str, Any], name: str) -> None:
    route = pb.Route(hostname=name, backend="127.0.0.1:1", mode=pb.MODE_L4)
    admin.AddRoute(pb.AddRouteRequest(listener=made["listeners"][0]["addr"], route=route), timeout=60)


@pytest.mark.parametrize("exists", [True, False], ids=["there", "dangling"])
def test_a_database_behind_a_link_is_changed(exists: bool, nothing_left: None, tmp_path: Path) -> None:
    """Each change was refused: the -wal file was looked for beside the link."""
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk/real.db", tmp_path / "mcproxy.db"
    if exists:
        Store.open(real).close()
    link.symlink_to(real)
    made = document(tmp_path)
    with Server(tmp_path, made) as server, stub(tmp_path) as admin:
        add(admin, made, "a.test")
        command = [sys.executable, "-m", "mcproxy", "snapshot", "-o", str(tmp_path / "copy.db")]
        command += ["-c", str(tmp_path / "mcproxy.toml")]
        subprocess.run(command, env=environment(), check=True, timeout=60, capture_output=True)
        server.process.terminate()
        assert server.wait() == 0
    assert link.is_symlink()
    for path in (real, tmp_path / "copy.db"):
        with closing(Store.open(path)) as store:
            assert "a.test" in next(iter(store.load().listeners.values())).routes


def test_a_link_that_leads_elsewhere_by_now_is_noticed(nothing_left: None, tmp_path: Path) -> None:
    """Else the next start would not have what was acknowledged."""
    link = tmp_path / "mcproxy.db"
    link.symlink_to(tmp_path / "one.db")
    made = document(tmp_path)
    with Server(tmp_path, made), stub(tmp_path) as admin:
        add(admin, made, "a.test")
        Store.open(tmp_path / "two.db").close()
        link.unlink()
        link.symlink_to(tmp_path / "two.db")
        with pytest.raises(grpc.RpcError, match="another file"):
            add(admin, made, "b.test")


@pytest.mark.parametrize("exists", [True, False], ids=["stale", "dangling"])
def test_the_admin_socket_is_made_where_a_link_leads(exists: bool, nothing_left: None, tmp_path: Path) -> None:
    """The link was replaced by the socket, so that who connects to its target found nobody."""
    (tmp_path / "run").mkdir()
    real, link = tmp_path / "run/real.sock", tmp_path / "admin.sock"
    link.symlink_to(real)
    made = document(tmp_path)
    for _ in range(1 + exists):
        with Server(tmp_path, made) as server, stub(tmp_path) as admin:
            assert admin.GetStatus(pb.GetStatusRequest(), timeout=60).generation == 1
            assert real.is_socket()
            assert link.is_symlink()
            server.process.kill() if exists else server.process.terminate()
            server.wait()
