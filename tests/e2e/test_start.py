"""The start of the real program: signals that come meanwhile, no listener at all."""

import re
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.store.store import Store
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.peers import DEADLINE, client_hello, connect, free_port, is_reset, until
from tests.kit.program import Program, Server, environment, write_config


def start(folder: Path, document: dict[str, Any]) -> Program:
    return Program(
        sys.executable, "-m", "mcproxy", "server", "-c", write_config(folder, document), env=environment()
    )  # fmt: skip


def catches(program: Program, number: signal.Signals) -> bool:
    found = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{program.process.pid}/status").read_text())
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def has_open(program: Program, name: str) -> bool:
    for link in Path(f"/proc/{program.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if link.readlink().name == name:
                return True
    return False


def test_a_server_without_listeners_lives_and_takes_one(nothing_left: None, tmp_path: Path) -> None:
    addr = f"127.0.0.1:{free_port()}"
    with Server(tmp_path, {"grpc": grpc_section(tmp_path)}) as server:
        with stub(tmp_path) as admin:
            for _ in range(2):
                request = pb.AddListenerRequest(listener=pb.Listener(addr=addr))
                admin.AddListener(request, timeout=DEADLINE, wait_for_ready=True)
                with connect(int(addr.rpartition(":")[2])) as client:
                    client.sendall(client_hello("nobody.test"))
                    assert is_reset(client)
                admin.RemoveListener(pb.RemoveListenerRequest(addr=addr), timeout=DEADLINE)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.err == []


def test_a_server_with_neither_listener_nor_admin_api_waits_for_its_end(nothing_left: None, tmp_path: Path) -> None:
    with Server(tmp_path, {}) as server:
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.err == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_is_told_to_stop_ends_clean(number: signal.Signals, nothing_left: None, tmp_path: Path) -> None:
    with start(tmp_path, {"listeners": [{"addr": f"127.0.0.1:{free_port()}"}]}) as program:
        # SIGHUP would not tell: under nohup it is ignored from the start. Python itself catches SIGINT.
        until(lambda: catches(program, signal.SIGTERM), "the program to look after its signals")
        program.signal(signal.SIGHUP)
        program.signal(number)
        assert program.wait() == 0
        assert program.err == []


def test_signals_while_the_database_is_waited_for(nothing_left: None, tmp_path: Path) -> None:
    Store.open(tmp_path / "mcproxy.db").close()
    document = {"listeners": [{"addr": f"127.0.0.1:{free_port()}"}]}
    with closing(sqlite3.connect(tmp_path / "mcproxy.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with start(tmp_path, document) as program:
            until(lambda: has_open(program, "mcproxy.db-wal"), "the program to open its database")
            program.signal(signal.SIGHUP)
            program.signal(signal.SIGTERM)
            other.execute("ROLLBACK")
            assert program.wait() == 0
            assert program.err == []
            assert program.out[-1].endswith(" info app: stopped\n")


LOADED = """
import signal, sys
from mcproxy.cli.main import main
def show(*_):
    print("loaded", *sorted(sys.modules), flush=True)
signal.signal(signal.SIGUSR1, show)
main(prog_name="mcproxy")
"""
# What a server loads only once it needs it, or leaves to another process: most never do, and these took 45 of 109 MB,
# and a fifth of the start.
_FOR_LATER = {
    "acme", "alembic", "argparse", "asyncio", "bz2", "cryptography", "ctypes", "email",
    "google.protobuf.descriptor_pb2", "google.protobuf.internal.python_message", "grpc.aio", "hpack.hpack",
    "importlib.metadata", "josepy", "lzma", "mako", "maxminddb", "mcproxy.config", "multiprocessing",
    "prometheus_client", "psycopg", "pydantic", "pygments", "requests", "rich", "sqlalchemy.connectors.asyncio",
    "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite.aiosqlite", "textual", "zipfile",
}  # fmt: skip


def test_a_server_has_loaded_what_it_needs(nothing_left: None, tmp_path: Path) -> None:
    """At its first start, which makes the database, and after a reload: with the admin API, and no l7 route."""
    listener = {"addr": f"127.0.0.1:{free_port()}", "routes": [{"hostname": "a.test", "backend": "127.0.0.1:9"}]}
    config = write_config(tmp_path, {"grpc": grpc_section(tmp_path), "listeners": [listener]})
    with Program(sys.executable, "-c", LOADED, "server", "-c", config, env=environment()) as program:
        until(lambda: any(" started, " in line for line in program.err + program.out), "the server to start")
        program.signal(signal.SIGHUP)
        until(lambda: any(" reloaded " in line for line in program.err + program.out), "the reload")
        program.signal(signal.SIGUSR1)
        until(lambda: any(line.startswith("loaded ") for line in program.out), "the list")
        loaded = set(next(line for line in program.out if line.startswith("loaded ")).split())
        assert {"grpc", "sqlalchemy", "gevent"} <= loaded
        assert loaded & _FOR_LATER == set()
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
