"""A reload of the real program: what changes for its clients, what it says, and that nothing of it can do harm."""

import json
import os
import signal
import socket
import sqlite3
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.store.store import Store
from tests.conftest import MakeBackend
from tests.e2e.test_start import has_open
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.peers import DEADLINE, client_hello, connect, echo, free_port, is_reset, read_all, receive, says, until
from tests.kit.program import WORKERS, Program, Server, environment, write_config

HELLO = client_hello("a.test")


class Running:
    """The program with one listener and one route, and its file."""

    def __init__(self, stack: ExitStack, folder: Path, target: str, document: dict[str, Any]) -> None:
        self.port = free_port()
        self.folder = folder
        self.listeners = [
            {"addr": f"127.0.0.1:{self.port}", "routes": [{"hostname": "a.test", "backend": target}]}
        ]  # fmt: skip
        self.path = folder / "mcproxy.toml"
        self.server = stack.enter_context(Server(folder, {"listeners": self.listeners, **document}))

    def client(self) -> socket.socket:
        client = connect(self.port)
        client.sendall(HELLO)
        return client

    def is_served(self) -> bool:
        with self.client() as client:
            try:
                return b"here" in read_all(client)
            except ConnectionResetError:
                return False

    def write(self, **tables: Any) -> None:
        write_config(self.folder, {"listeners": self.listeners, **tables})

    def reload(self, *says: str, **tables: Any) -> str:
        """Write this file, send SIGHUP, and wait for a line with these words, or of one that is through."""
        self.write(**tables)
        seen = len(self.server.out)
        self.server.signal(signal.SIGHUP)
        found: list[str] = []

        def look() -> bool:
            found[:] = [line for line in self.server.out[seen:] if "reloaded" in line]
            return bool(found)

        until(look, "the end of a reload")
        said = "".join(self.server.out[seen:])
        assert all(part in said for part in says), said
        return found[0]

    def ends(self) -> int:
        self.server.signal(signal.SIGTERM)
        return self.server.wait()


Run = Callable[..., Running]


@pytest.fixture
def run(nothing_left: None, tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as stack:
        yield lambda target, **document: Running(stack, tmp_path, target, document)


# --- what changes -----------------------------------------------------------------------------------------------------


def test_new_time_outs_hold_for_new_connections_at_once(run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address, proxy={"idle_timeout": "1h"})
    with running.client() as client:
        assert len(receive(client, len(HELLO))) == len(HELLO)
        running.reload("proxy.idle_timeout from 1h to 100ms", proxy={"idle_timeout": "100ms"})
        with running.client() as fresh:
            assert len(receive(fresh, len(HELLO))) == len(HELLO)
            assert is_reset(fresh)
        client.sendall(b"still here")
        assert receive(client, 10) == b"still here", "its deadline is looked at in a quarter of an hour"
    assert running.ends() == 0


def test_new_time_outs_hold_for_open_connections_within_a_quarter_of_the_old(run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address, proxy={"idle_timeout": DEADLINE + 4})
    with running.client() as client:
        assert len(receive(client, len(HELLO))) == len(HELLO)
        running.reload(proxy={"idle_timeout": "100ms"})
        assert is_reset(client), f"which would take {DEADLINE + 4} s with the old time"
    assert running.ends() == 0


def test_limits_hold_from_now_on_and_count_who_was_there(run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address)
    with running.client() as first, running.client() as second:
        assert receive(first, 10)
        assert receive(second, 10)
        running.reload(firewall={"max_connections_per_ip": 2})
        with connect(running.port) as third:
            assert is_reset(third)
        first.close()
        running.server.connections(2)
        with running.client() as third:
            assert receive(third, 10)
        running.reload("proxy.max_connections from 0 to 1", proxy={"max_connections": 1})
        with connect(running.port) as fourth:
            assert is_reset(fourth)
        running.reload()
        with running.client() as fifth:
            assert receive(fifth, 10)
    reasons = [line.split("reason=")[1].split()[0] for line in running.server.connections(6)]
    assert sorted(reasons) == ["limit_per_ip", "limit_total", "ok", "ok", "ok", "ok"]
    assert running.ends() == 0
    assert running.server.err == []


def test_the_log_changes_its_format_and_level(run: Run, backend: MakeBackend) -> None:
    running = run(backend(says("here")).address)
    line = running.reload(log={"format": "json"})
    assert json.loads(line)["message"].endswith("log.format from text to json")
    assert running.is_served()
    assert json.loads(running.server.connections(1)[0])["verdict"] == "routed"
    line = running.reload(log={"format": "text", "level": "warning"})
    assert "log.level from info to warning" in line, "the reload that makes it quiet is still told"
    seen = len(running.server.out)
    assert running.is_served()
    running.reload("log.level from warning to info", log={"level": "info"})
    assert [line for line in running.server.out[seen:] if " connection " in line] == []
    assert running.ends() == 0


def test_the_time_to_drain_is_the_new_one(run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address, proxy={"shutdown_timeout": "1h"})
    running.reload(proxy={"shutdown_timeout": 0})
    with running.client() as client:
        assert receive(client, 10)
        running.server.signal(signal.SIGTERM)
        assert "draining for up to 0 s" in running.server.line("draining")
        assert running.server.wait() == 1


# --- what does not ----------------------------------------------------------------------------------------------------


def test_a_broken_file_changes_nothing_and_each_problem_is_told(run: Run, backend: MakeBackend) -> None:
    running = run(backend(says("here")).address, log={"level": "info"})
    told = running.reload(
        f"error reload: {running.path}: log.lvel: is not a key", f"{running.path}: proxy.idle_timeout: ",
        log={"lvel": "debug"}, proxy={"idle_timeout": "long", "max_connections": 0},
    )  # fmt: skip
    assert f"not reloaded: {running.path} has 2 problems; nothing has changed" in told
    running.path.write_text("[[[")
    running.server.signal(signal.SIGHUP)
    running.server.line("is not TOML")
    assert running.is_served()
    assert running.ends() == 0


def test_keys_that_need_a_restart_and_the_seed_are_named(run: Run, backend: MakeBackend) -> None:
    running = run(backend(says("here")).address)
    running.listeners = []
    told = running.reload(
        f"proxy.workers from {WORKERS} to 4: it takes a new process", "grpc from no table to a table: it takes",
        "firewall.blocked_ips: only read into an empty database",
        proxy={"workers": 4}, grpc=grpc_section(running.folder), firewall={"blocked_ips": ["127.0.0.1"]},
    )  # fmt: skip
    assert "no key has changed" in told
    assert running.is_served()
    assert running.ends() == 0


# --- when -------------------------------------------------------------------------------------------------------------


def test_a_signal_during_the_start_is_not_lost(nothing_left: None, tmp_path: Path) -> None:
    """What the start has read before the signal came may have changed since."""
    Store.open(tmp_path / "mcproxy.db").close()
    document = {"listeners": [{"addr": f"127.0.0.1:{free_port()}"}]}
    path = write_config(tmp_path, document)
    with closing(sqlite3.connect(tmp_path / "mcproxy.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Program(sys.executable, "-m", "mcproxy", "server", "-c", path, env=environment()) as program:
            until(lambda: has_open(program, "mcproxy.db-wal"), "the program to have read its file")
            write_config(tmp_path, {**document, "log": {"format": "json"}})
            for _ in range(3):
                program.signal(signal.SIGHUP)
            other.execute("ROLLBACK")
            program.line("started, generation")
            assert "log.format from text to json" in program.line("reloaded")
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
            assert program.err == []


def test_signals_come_as_they_like(run: Run, backend: MakeBackend) -> None:
    """However they fall together, the last file is the one in force, and every client is served."""
    running = run(backend(says("here")).address)
    wrong: list[bool] = []
    stop = threading.Event()

    def come() -> None:
        while not stop.is_set():
            wrong.extend([False] * (not running.is_served()))

    traffic = threading.Thread(target=come)
    traffic.start()
    try:
        for number in range(1, 101):
            running.write(proxy={"connect_timeout": number})
            running.server.signal(signal.SIGHUP)
        running.server.line("to 1m40s")
    finally:
        stop.set()
        traffic.join(DEADLINE)
    assert not wrong
    assert running.ends() == 0
    assert running.server.err == []


def test_a_signal_while_it_drains_changes_nothing(run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address)
    with running.client() as client:
        assert receive(client, len(HELLO))
        running.server.signal(signal.SIGTERM)
        running.server.line("draining")
        running.write(log={"format": "json"})
        running.server.signal(signal.SIGHUP)
        running.server.line("info reload: not reloaded: the server is stopping")
        client.sendall(b"still here")
        assert receive(client, 10) == b"still here"
    assert running.server.wait() == 0


def test_a_file_that_can_not_be_read_to_its_end_stops_nobody(run: Run, backend: MakeBackend) -> None:
    """As on a network's disk that hangs: not the data path, and not the end."""
    running = run(backend(says("here")).address)
    running.path.unlink()
    os.mkfifo(running.path)
    running.server.signal(signal.SIGHUP)
    with running.path.open("w"):  # from here on it is being read
        assert running.is_served()
        assert running.ends() == 0


# --- the admin API ----------------------------------------------------------------------------------------------------


def test_the_api_reloads_too(run: Run, backend: MakeBackend, tmp_path: Path) -> None:
    running = run(backend(says("here")).address, grpc=grpc_section(tmp_path))
    running.write(grpc=grpc_section(tmp_path), proxy={"idle_timeout": 3, "workers": 4})
    with stub(tmp_path) as admin:
        answer = admin.Reload(pb.ReloadRequest(), timeout=DEADLINE)
        assert [(each.key, each.old, each.new) for each in answer.applied] == [("proxy.idle_timeout", "5m", "3s")]
        assert [each.key for each in answer.needs_restart] == ["proxy.workers"]
        last = admin.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE).last_reload
        assert (last.refused, [each.key for each in last.needs_restart]) == ("", ["proxy.workers"])
        running.write(grpc=grpc_section(tmp_path), proxy={"idle": 3})
        with pytest.raises(grpc.RpcError) as caught:
            admin.Reload(pb.ReloadRequest(), timeout=DEADLINE)
        last = admin.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE).last_reload
        assert last.refused.endswith(" has 1 problem")
    refused: Any = caught.value
    assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "nothing has changed: proxy.idle: is not a key" in refused.details()
    running.server.line("info reload: reloaded", "proxy.idle_timeout from 5m to 3s")
    assert running.ends() == 0


def test_the_apis_certificates_are_those_of_the_new_paths(run: Run, backend: MakeBackend, tmp_path: Path) -> None:
    addr = f"127.0.0.1:{free_port()}"
    sections, authorities = [], [trustme.CA(), trustme.CA()]
    for number, authority in enumerate(authorities):
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{number}.pem")
        sections.append({"addr": addr, "tls_cert": f"{number}.pem", "tls_key": f"{number}.pem"})

    def generation(authority: trustme.CA) -> int:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(addr, credentials, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            api: Any = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
            return int(api.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE).generation)

    def shown() -> bytes:
        host, _, port = addr.rpartition(":")
        return ssl.get_server_certificate((host, int(port)), timeout=DEADLINE).encode()

    running = run(backend(says("here")).address, grpc=sections[0])
    assert generation(authorities[0]) == 1
    (tmp_path / "broken.pem").write_text("junk")
    broken = {**sections[1], "tls_key": "broken.pem"}
    said = running.reload("error reload: grpc.tls_key: ", "the admin API keeps its old certificate", grpc=broken)
    assert "no key has changed; but 1 problem" in said
    assert shown() in (tmp_path / "0.pem").read_bytes()
    assert "grpc.tls_cert from " in running.reload(grpc=sections[1])
    assert generation(authorities[1]) == 1
    assert shown() in (tmp_path / "1.pem").read_bytes()
    assert running.ends() == 0
