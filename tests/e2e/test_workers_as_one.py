"""Two workers as an operator meets them: each command shows and changes both, as if there were one.

Clients come from many addresses, so that each worker has some of them.
"""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kit.commands import Shell
from tests.kit.geoip_files import located, write_database
from tests.kit.peers import DEADLINE, Backend, client_hello, echo, free_port, is_reset, receive, until
from tests.kit.program import Server, bounded, environment, write_config

WORKERS = 2
CLIENTS = [f"127.0.0.{last}" for last in range(10, 26)]
NUMBERS = {str(number) for number in range(1, WORKERS + 1)}


class Scene:
    """A server with two workers and an echo behind it, somebody at a shell, and clients."""

    def __init__(self, folder: Path, stack: ExitStack, **firewall: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.addr = f"127.0.0.1:{self.port}"
        backend = Backend(echo)
        stack.callback(backend.close)
        self.backend = backend.address
        self.document: dict[str, Any] = {
            "listeners": [{"addr": self.addr, "routes": [{"hostname": "a.test", "backend": self.backend}]}],
            "grpc": {"addr": f"unix:{folder}/admin.sock"},
            "proxy": {"workers": WORKERS, "shutdown_timeout": "3s"},
            "firewall": firewall,
        }
        self.server = stack.enter_context(Server(folder, self.document))
        self.shell = Shell(folder / "mcproxy.toml")
        self._stack = stack

    def client(self, address: str) -> socket.socket:
        """A client from this address."""
        return self._stack.enter_context(
            socket.create_connection(("127.0.0.1", self.port), DEADLINE, source_address=(address, 0))
        )

    def served(self, address: str, name: str = "a.test") -> socket.socket:
        """A client that has asked for a name and has had all of its hello echoed by its backend."""
        made, hello = self.client(address), client_hello(name)
        made.sendall(hello)
        assert receive(made, len(hello)) == hello
        return made

    def refuses(self, address: str, name: str = "a.test") -> bool:
        """True if a client from this address that asks for a name gets a RST, even within connect()."""
        try:
            made = self.client(address)
            made.sendall(client_hello(name))
        except ConnectionError:
            return True
        return is_reset(made)

    def everywhere(self, name: str = "a.test") -> list[socket.socket]:
        """Open connections at each of the workers."""
        made = [self.served(address, name) for address in CLIENTS]
        workers = {row[1] for row in self.shell.rows("connections", "list")}
        assert workers == NUMBERS, "the addresses are spread"
        return made

    def workers(self) -> list[dict[str, Any]]:
        """As `status` has them."""
        found: list[dict[str, Any]] = self.shell.json("status")["workers"]
        return found

    def kill_all(self, restarts: int) -> None:
        """Kill the workers; their successors are then those of so many restarts, and serve."""
        for worker in self.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        expected = [(restarts, "serving")] * WORKERS
        until(lambda: [(each["restarts"], each["state"]) for each in self.workers()] == expected, "successors")

    def listener(self) -> dict[str, Any]:
        """The counters of the listener."""
        (found,) = self.shell.json("status")["listeners"]
        return dict(found)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


def test_each_worker_is_listed_and_counted(scene: Scene) -> None:
    clients = scene.everywhere()
    workers = scene.workers()
    assert [each["number"] for each in workers] == [1, 2]
    assert {each["state"] for each in workers} == {"serving"}
    assert len({scene.server.process.pid, *(each["pid"] for each in workers)}) == 3
    until(lambda: sum(each["connections"] for each in scene.workers()) == len(clients), "the workers' own counts")
    assert (scene.listener()["connections"], scene.listener()["accepted"]) == (len(clients), len(clients))
    text = scene.shell.ok("status")
    assert re.search(r"^1\tserving\t\d+\t\w+\t\d+\t0\t[\d.]+ ms$", text, re.MULTILINE)


def test_connections_are_listed_in_pages_closed_and_killed_at_each(scene: Scene) -> None:
    clients = dict(zip(CLIENTS, scene.everywhere(), strict=True))
    listed = scene.shell.json("connections", "list")
    assert len({each["id"] for each in listed}) == len(clients)
    assert {each["id"] % 100 for each in listed} == {1, 2}
    assert [each["started_at"] for each in listed] == sorted(each["started_at"] for each in listed)
    closed = [each for each in listed if each["client"].startswith(("127.0.0.10:", "127.0.0.11:"))]
    said = scene.shell.ok("connections", "close", *(each["id"] for each in closed))
    assert said.splitlines() == [f"closed connection {each['id']}" for each in closed]
    for each in closed:
        assert is_reset(clients.pop(each["client"].partition(":")[0]))
    assert "there is no connection" in scene.shell.fails(1, "connections", "close", closed[0]["id"])
    said = scene.shell.ok("firewall", "add", "127.0.0.12/30", "--kill", "--yes")
    assert re.search(r"\b4\b", said), said
    for address in ("127.0.0.12", "127.0.0.13", "127.0.0.14", "127.0.0.15"):
        assert is_reset(clients.pop(address))
        assert scene.refuses(address)
    assert len(scene.shell.json("connections", "list")) == len(clients)
    for client in clients.values():
        client.sendall(b"still here")
        assert receive(client, 10)


def test_a_change_is_in_force_at_each_worker_when_it_is_answered(scene: Scene) -> None:
    for turn in range(5):
        scene.shell.ok("routes", "add", f"n{turn}.test", scene.backend)
        for address in CLIENTS[:6]:
            scene.served(address, f"n{turn}.test")
        scene.shell.ok("routes", "remove", f"n{turn}.test")
        for address in CLIENTS[:6]:
            assert scene.refuses(address, f"n{turn}.test")
    generation = scene.shell.json("status")["generation"]
    scene.shell.ok("routes", "set", "a.test", "--backend", f"127.0.0.1:{free_port()}")
    for address in CLIENTS[:6]:
        assert scene.refuses(address)
    scene.shell.ok("rollback", generation, "--yes")
    for address in CLIENTS[:6]:
        scene.served(address)


def test_a_listener_that_comes_and_goes_does_so_at_each(scene: Scene) -> None:
    port = free_port()
    addr = f"127.0.0.1:{port}"
    scene.shell.ok("listeners", "add", addr)
    scene.shell.ok("routes", "add", "b.test", scene.backend, "--listener", addr)
    scene.port, first = port, scene.port
    for address in CLIENTS:
        scene.served(address, "b.test")
    scene.shell.ok("listeners", "remove", addr, "--yes")
    with pytest.raises(ConnectionRefusedError):
        scene.client(CLIENTS[0])
    scene.port = first
    scene.everywhere()


def test_events_of_each_are_watched(scene: Scene) -> None:
    command = (sys.executable, "-m", "mcproxy", "watch", "--json", "-c", scene.shell.config)
    with bounded(*command, env=environment()) as process:
        until(lambda: scene.shell.json("status")["watchers"] == 1, "somebody watches")
        clients = scene.everywhere()
        assert scene.refuses(CLIENTS[0], "nobody.test")
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline()) for _ in range(len(clients) + 1)]
    assert sorted(each["kind"] for each in events) == ["opened"] * len(clients) + ["refused"]
    assert {each["connection"]["worker"] for each in events} == {1, 2}


def test_the_log_s_level_is_that_of_each(scene: Scene) -> None:
    scene.shell.ok("log-level", "warning")
    for client in scene.everywhere():
        client.close()
    until(lambda: scene.listener()["connections"] == 0, "the connections to have ended")
    scene.shell.ok("log-level", "info")
    for client in scene.everywhere():
        client.close()
    assert len(scene.server.connections(len(CLIENTS))) == len(CLIENTS), "none of those before"
    assert all(line.endswith("\n") and re.match(r"\S+Z info ", line) for line in scene.server.out[-len(CLIENTS) :])


def test_a_reload_is_taken_by_each_or_by_none(scene: Scene) -> None:
    scene.everywhere()
    broken = {**scene.document, "proxy": {"workers": WORKERS, "idle_timeout": "soon"}}
    write_config(scene.folder, broken)
    scene.server.signal(signal.SIGHUP)
    scene.server.line("error", "proxy.idle_timeout")
    scene.server.line("not reloaded", "nothing has changed")
    assert "changed nothing" in scene.shell.ok("status")
    write_config(scene.folder, {**scene.document, "firewall": {"max_connections_per_ip": 1}})
    scene.server.signal(signal.SIGHUP)
    scene.server.line("reloaded", "firewall.max_connections_per_ip from 0 to 1")
    for address in CLIENTS:
        assert scene.refuses(address), "it has its one connection"
    refused = scene.listener()["refused_by_reason"]
    assert refused == {"limit_per_ip": len(CLIENTS)}
    said = scene.shell.ends(1, "explain", "--sni", "a.test", "--from", CLIENTS[0])
    assert "limit_per_ip" in said
    assert "limit_per_ip" not in scene.shell.ok("explain", "--sni", "a.test", "--from", "127.0.0.99", "--dial")


def test_counters_do_not_fall_when_a_worker_is_replaced(scene: Scene) -> None:
    scene.everywhere()
    before, (first, _second) = scene.listener(), scene.workers()
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: scene.workers()[0]["restarts"] == 1 and scene.workers()[0]["state"] == "serving", "its successor")
    (now, other) = scene.workers()
    assert now["pid"] != first["pid"]
    assert now["failure"], "it is said how the last one ended"
    assert (other["restarts"], other["failure"]) == (0, "")
    assert scene.listener()["accepted"] >= before["accepted"]
    left = len(scene.shell.json("connections", "list"))
    assert 0 < left < len(CLIENTS), "its own connections were cut, and no others"
    assert scene.listener()["connections"] == left
    new = [scene.served(address) for address in CLIENTS]
    assert scene.listener()["accepted"] >= before["accepted"] + len(new)
    ids = [each["id"] for each in scene.shell.json("connections", "list")]
    assert len(set(ids)) == len(ids)
    text = scene.shell.ok("metrics")
    assert 'mcproxy_worker_restarts_total{worker="1"} 1.0' in text
    assert 'mcproxy_worker_serving{worker="1"} 1.0' in text
    scene.shell.ok("routes", "add", "b.test", scene.backend)
    for address in CLIENTS:
        scene.served(address, "b.test")


def test_a_successor_knows_countries_whatever_has_become_of_the_database_s_file(tmp_path: Path) -> None:
    """It read the file again, and went on without countries where it couldn't: the blocked ones came in."""
    path = write_database(tmp_path / "geo.mmdb", {"127.0.0.0/28": located("DE"), "127.0.0.16/28": located("FR")})
    with ExitStack() as stack:
        scene = Scene(tmp_path, stack, geoip_db=str(path), blocked_countries=["DE"])
        blocked, free = CLIENTS[:6], CLIENTS[6:]

        def is_kept() -> bool:
            return all(map(scene.refuses, blocked)) and all(map(scene.served, free))

        assert is_kept()
        path.write_bytes(b"junk")
        for restarts in (1, 2):
            scene.kill_all(restarts)
            assert is_kept()
            scene.server.signal(signal.SIGHUP)  # which the next ones must not lose it by
            scene.server.line("geo.mmdb is not a MaxMind DB", "the open database stays in use")
        write_database(path, {"127.0.0.0/28": located("FR"), "127.0.0.16/28": located("DE")})
        scene.server.signal(signal.SIGHUP)
        scene.server.line("reloaded", "GeoIP database of")
        assert all(map(scene.refuses, free))
        assert all(map(scene.served, blocked))


def test_a_listener_has_one_line_before_the_server_has_started(scene: Scene) -> None:
    """Each worker wrote its own, and they came behind "started"."""
    scene.server.signal(signal.SIGTERM)
    assert scene.server.wait() == 0
    said = [re.sub(r"^\S+ info \w+: ", "", line).rstrip() for line in scene.server.out]
    opened, closed = f"listening on {scene.addr}", f"no longer listening on {scene.addr}"
    assert [said.count(line) for line in (opened, closed)] == [1, 1]
    (started,) = (line for line in said if "started, generation" in line)
    assert said.index(opened) < said.index(started) < said.index(closed)


def test_signals_are_heard_while_the_workers_drain(scene: Scene) -> None:
    """The parent waited for its workers, and heard a SIGHUP when they had drained."""
    client = scene.served(CLIENTS[0])
    scene.server.signal(signal.SIGTERM)
    scene.server.line("draining")
    scene.server.signal(signal.SIGHUP)
    scene.server.line("not reloaded: the server is stopping")
    client.sendall(b"still here")
    assert receive(client, 10) == b"still here"
    client.close()
    assert scene.server.wait() == 0
