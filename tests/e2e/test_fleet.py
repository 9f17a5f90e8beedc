"""A fleet as it is run: each node a process, one PostgreSQL, and what operators see of both."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mcproxy.store import schema
from tests.kit import peers
from tests.kit.commands import Shell
from tests.kit.json_page import Page
from tests.kit.peers import DEADLINE, Backend, client_hello, connect, echo, free_port, receive, until
from tests.kit.postgres import PostgresServer, postgres_server
from tests.kit.program import Program, Server, environment
from tests.kit.service_manager import Manager

pytestmark = pytest.mark.xdist_group("fleet")


class Fleet:
    """A database, and nodes that are started by name."""

    def __init__(self, folder: Path, database: PostgresServer, stack: ExitStack) -> None:
        self.database = database
        self.nodes: dict[str, Server] = {}
        self._folder = folder
        self._stack = stack
        self._url = database.create("fleet")
        self.port = free_port()
        self._addr = f"127.0.0.1:{self.port}"

    def folder(self, name: str) -> Path:
        return self._folder / name

    def start(self, name: str, *prefix: str, workers: int = 1) -> Server:
        """`prefix` begins the command."""
        folder = self.folder(name)
        folder.mkdir(exist_ok=True)
        document: dict[str, Any] = {
            "database": {"url": self._url, "cache": "cache.db"},
            "node": {"name": name},
            "grpc": {"addr": "unix:admin.sock"},
            "proxy": {"workers": workers},
            "listeners": [{"addr": self._addr, "routes": [{"hostname": "seed.test", "backend": "127.0.0.1:1"}]}],
        }
        self.nodes[name] = self._stack.enter_context(Server(folder, document, prefix))
        return self.nodes[name]

    def run(self, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mcproxy", *arguments, "-c", str(self.folder(name) / "mcproxy.toml")]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE, env=environment())

    def adds(self, name: str, hostname: str) -> bool:
        return self.run(name, "routes", "add", hostname, "127.0.0.1:2").returncode == 0

    def shell(self, name: str) -> Shell:
        """For what is asked again and again: a command in this process takes a sixtieth of one of its own."""
        return Shell(self.folder(name) / "mcproxy.toml")

    def names(self, name: str) -> set[str]:
        return {each["hostname"] for each in self.shell(name).json("routes", "list")}

    def lines(self, name: str, *arguments: str) -> list[str]:
        return self.shell(name).run(*arguments).stdout.splitlines()[1:]

    def status(self, name: str) -> Any:
        return self.shell(name).json("status")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, stack.enter_context(postgres_server()), stack)


def test_every_node_writes_and_all_have_it(fleet: Fleet) -> None:
    fleet.start("edge1")
    fleet.start("edge2", workers=2).line("another program listens there; this node serves without it")
    assert fleet.run("edge1", "routes", "add", "a.test", "127.0.0.1:2").returncode == 0
    assert fleet.run("edge2", "routes", "add", "b.test", "127.0.0.1:2").returncode == 0
    until(lambda: fleet.names("edge1") == fleet.names("edge2") == {"seed.test", "a.test", "b.test"})
    assert " on edge1\t" in fleet.run("edge2", "routes", "history", "a.test").stdout
    shown = fleet.run("edge2", "status").stdout
    assert "node edge2, following since " in shown
    assert "warning: can't listen on 127.0.0.1:" in shown
    assert "another program listens there; it serves without this address and tries again" in shown
    addr = f"127.0.0.1:{free_port()}"
    added = fleet.run("edge1", "listeners", "add", addr, "--node", "edge2")
    assert added.stdout == f"added listener {addr} of edge2 (generation 4)\n"
    until(lambda: addr in {each["addr"] for each in fleet.status("edge2")["listeners"]})
    assert len(fleet.status("edge2")["workers"]) == 2
    assert addr not in {each["addr"] for each in fleet.status("edge1")["listeners"]}
    explained = fleet.run("edge1", "explain", "--listener", addr, "--sni", "a.test", "--from", "192.0.2.1")
    assert f"{addr} is a listener of edge2, and this node is edge1: ask there" in explained.stdout


def test_the_nodes_are_listed_and_one_that_is_gone_is_forgotten(fleet: Fleet) -> None:
    fleet.start("edge1")
    fleet.start("edge2")
    assert fleet.run("edge1", "routes", "add", "a.test", "127.0.0.1:2").returncode == 0
    until(lambda: [line.split("\t")[2:4] for line in fleet.lines("edge2", "nodes")] == [["2", "-"]] * 2)
    until(lambda: "another program listens there" in fleet.shell("edge1").ok("nodes"))
    found = json.loads(fleet.run("edge1", "nodes", "--json").stdout)
    assert [each["name"] for each in found] == ["edge1", "edge2"]
    assert Page().differences("nodes", found) == []
    refused = fleet.run("edge1", "nodes", "remove", "edge2")
    assert refused.returncode == 2
    assert "node edge2 is running, seen " in refused.stderr
    assert "add --yes to do it" in refused.stderr
    fleet.nodes["edge2"].signal(signal.SIGTERM)
    assert fleet.nodes["edge2"].wait() == 0
    until(lambda: [each.rpartition("\t")[0][-7:] for each in fleet.lines("edge1", "nodes")] == ["running", "stopped"])
    assert fleet.run("edge1", "nodes", "remove", "edge2").stdout == "forgot node edge2\n"
    assert "there is no node edge2" in fleet.run("edge1", "nodes", "remove", "edge2").stderr
    assert [each["name"] for each in json.loads(fleet.run("edge1", "nodes", "--json").stdout)] == ["edge1"]


def test_a_ban_cuts_the_connections_of_all_nodes(fleet: Fleet) -> None:
    fleet.start("edge1")
    fleet.start("edge2")
    hello = client_hello("a.test")
    with peers.closing(backend := Backend(echo)):
        assert fleet.run("edge1", "routes", "add", "a.test", backend.address).returncode == 0
        client = connect(fleet.port)
        client.sendall(hello)
        assert receive(client, len(hello)) == hello
        banned = fleet.run("edge2", "firewall", "add", "127.0.0.1", "--kill", "--yes")
        assert banned.stdout == "blocked ip 127.0.0.1, 1 connection cut (generation 3)\n", banned.stderr
        with client:
            assert peers.is_reset(client)


def test_a_node_is_upgraded_as_any_server(fleet: Fleet) -> None:
    """It goes on where its successor fails; a reload for a key that takes another process succeeds it."""
    old = fleet.start("edge1")
    config = fleet.folder("edge1") / "mcproxy.toml"
    (before,) = json.loads(fleet.run("edge1", "nodes", "--json").stdout)
    heir = [sys.executable, "-m", "tests.kit.heirs", str(config.with_name("cache.db")), str(config), "ready", "edge1"]
    with Program(*heir, env=environment()) as failing:
        failing.line("ready")
        failing.signal(signal.SIGKILL)
        old.line("nothing was handed over; going on as before")
    until(lambda: fleet.adds("edge1", "a.test"))
    config.write_text(config.read_text().replace("workers = 1", "workers = 2"))
    reload = [sys.executable, "-m", "mcproxy", "server", "--reload", str(old.process.pid), "-c", str(config)]
    with Program(*reload, env=environment()) as done:
        line = done.line("has taken over from process")
        assert old.wait() == 0
        status = fleet.status("edge1")
        assert line == f"mcproxy: process {status['pid']} has taken over from process {old.process.pid}\n"
        assert (status["node"]["state"], len(status["workers"])) == ("following", 2)
        last = fleet.start("edge1", workers=2)  # so that this one, which is nobody's child, ends
    until(lambda: fleet.status("edge1")["pid"] == last.process.pid)
    assert fleet.adds("edge1", "b.test")
    (after,) = json.loads(fleet.run("edge1", "nodes", "--json").stdout)
    assert after["started_at"] > before["started_at"]


def test_nodes_outlive_the_database(fleet: Fleet) -> None:
    """It is stopped; a node is killed and started without it; it comes back, and so does everything else."""
    fleet.start("edge1")
    fleet.start("edge2")
    fleet.database.stop()
    until(lambda: fleet.status("edge2")["node"]["state"] == "alone")
    refused = fleet.run("edge2", "routes", "add", "a.test", "127.0.0.1:2")
    assert refused.returncode == 1
    assert "mcproxy: node edge2 is alone since" in refused.stderr
    fleet.nodes["edge2"].close()
    fleet.start("edge2").line("node edge2 is alone and takes no changes; generation 1 stays in force: ")
    assert fleet.names("edge2") == {"seed.test"}
    assert "mcproxy_node_following 0.0" in fleet.run("edge2", "metrics").stdout
    fleet.database.start()
    until(lambda: fleet.shell("edge2").run("routes", "add", "a.test", "127.0.0.1:2").exit_code == 0)
    until(lambda: "a.test" in fleet.names("edge1"))


def test_a_node_that_is_too_old_for_the_schema_serves_and_says_so(fleet: Fleet, tmp_path: Path) -> None:
    """Another node, of a newer version, has changed the schema, by what this version can ignore."""
    with Manager(tmp_path) as manager:
        node = fleet.start("edge1", "env", f"NOTIFY_SOCKET={manager.address}")
        fleet.database.execute("fleet", "ALTER TABLE routes ADD COLUMN colour text NOT NULL DEFAULT ''")
        fleet.database.execute("fleet", f"INSERT INTO schema_version VALUES ({schema.VERSION + 1})")
        why = (
            f"the database has schema version {schema.VERSION + 1}, this mcproxy knows {schema.VERSION}: run the newer"
        )
        node.line("node edge1 is outdated and takes no changes; generation 1 stays in force", why)
        assert fleet.names("edge1") == {"seed.test"}
        shown = fleet.run("edge1", "status").stdout
        assert "node edge1, outdated since " in shown
        assert f"warning: it serves on and takes no changes: {why}" in shown
        assert why in fleet.run("edge1", "routes", "add", "a.test", "127.0.0.1:2").stderr
        assert "mcproxy_node_following 0.0" in fleet.run("edge1", "metrics").stdout
        until(lambda: why in fleet.shell("edge1").ok("nodes"))
        manager.hear(f"STATUS=serving: 0 connections open, generation 1, outdated: {why}")


def test_a_killed_node_loses_nothing_that_was_acknowledged(fleet: Fleet) -> None:
    fleet.start("edge1")
    done: list[str] = []
    for turn in range(3):
        fleet.start("edge2")
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(fleet.adds, "edge2", f"r{turn}-{number}.test") for number in range(8)]
            wait(waiting, DEADLINE, FIRST_COMPLETED)
            fleet.nodes["edge2"].signal(signal.SIGKILL)
            done += [f"r{turn}-{number}.test" for number, each in enumerate(waiting) if each.result(DEADLINE)]
    assert done
    until(lambda: set(done) <= fleet.names("edge1"))


def test_a_node_stops_at_once_with_and_without_the_database(fleet: Fleet) -> None:
    node = fleet.start("edge1")
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    node = fleet.start("edge1")
    fleet.database.stop()
    node.line("node edge1 is alone")
    began = time.monotonic()
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert time.monotonic() - began < DEADLINE
