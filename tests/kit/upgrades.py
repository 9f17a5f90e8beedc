"""Clients that never stop connecting, while one server takes over from another again and again.

    python -m tests.kit.upgrades [--fleet] FOLDER UPGRADES CONNECTIONS [WORKERS]

An upgrade is a second `mcproxy server` with the same configuration. Every client must be served whole, as in
restarts.py. Before each upgrade a client connects that stays: the old server must go on serving it, and end once it has
gone. A route is added before each upgrade and after the last: all of them must be there in the end. The
servers have WORKERS workers, 1 by default; with "2,1,3" one after the other has that many, over and over.

With --fleet it is a node of a fleet that is upgraded, and every second upgrade is done while the fleet's database, a
PostgreSQL that is started here, is stopped. Another node adds a route before each upgrade and while the new server
starts. The node's name and its place as the one that orders certificates must never be free, or another's.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.kit.commands import Shell
from tests.kit.hellos import TINY
from tests.kit.peers import DEADLINE, Backend, connect, echo, free_port, until
from tests.kit.postgres import postgres_server
from tests.kit.program import ROOT, Program, Server, environment, write_config
from tests.kit.restarts import Clients

MOST_SECONDS = 5.0  # for a connection, on a busy machine; a drain takes as long as the client that stays

PLACE_LOST = """
    CREATE TABLE place_lost (what text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO place_lost VALUES (TG_ARGV[0]); RETURN NULL; END $$;
    CREATE TRIGGER a AFTER UPDATE ON nodes FOR EACH ROW WHEN (OLD.name = 'edge1' AND OLD.identity <> NEW.identity)
        EXECUTE FUNCTION note('the name');
    CREATE TRIGGER b AFTER DELETE ON nodes FOR EACH ROW EXECUTE FUNCTION note('the row');
    CREATE TRIGGER c AFTER UPDATE ON acme_head FOR EACH ROW WHEN (OLD.orderer <> NEW.orderer)
        EXECUTE FUNCTION note('ordering certificates');
"""  # by what the database itself has seen


class Upgraded:
    """The server that runs, and those that drain."""

    def __init__(self, folder: Path, workers: Sequence[int], **more: Any) -> None:
        """`more` goes into the configuration."""
        self.backend = Backend(echo)
        self.port = free_port()
        self.folder = folder
        routes = [{"hostname": "a.test", "backend": self.backend.address}]
        self.document = {
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}],
            "grpc": {"addr": f"unix:{self.folder}/a.sock"},
            **more,
        }
        self._workers = cycle(workers)
        self.program = self.begin()

    def begin(self) -> Program:
        """A server that serves, with the next number of workers."""
        proxy = {"shutdown_timeout": f"{DEADLINE:g}s", "workers": next(self._workers)}
        self.config = write_config(self.folder, {**self.document, "proxy": proxy})
        program = Program(sys.executable, "-m", "mcproxy", "server", "-c", self.config, env=environment())
        try:
            program.line("started, generation")
        except BaseException:
            program.close()
            raise
        return program

    def upgrade(self) -> Program:
        """Have a new server take over; returns the old one, which drains."""
        old = self.program
        self.program = self.begin()
        old.line("has taken over: draining")
        return old

    def command(self, *arguments: str) -> str:
        """A command's output."""
        done = subprocess.run(
            [sys.executable, "-m", "mcproxy", *arguments, "-c", str(self.config)],
            env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End it."""
        self.program.signal(signal.SIGTERM)
        status = self.program.wait()
        self.backend.close()
        assert status == 0, "".join(self.program.err)


def stays(port: int) -> socket.socket:
    """A client that has been served, and stays."""
    client = connect(port)
    client.sendall(TINY)
    assert client.recv(1000) == TINY
    return client


def talks(client: socket.socket) -> None:
    """The client is served still."""
    client.sendall(b"still here")
    assert client.recv(1000) == b"still here"


class Fleet:
    """The database of the node that is upgraded, and another node."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.database = stack.enter_context(postgres_server())
        self.settings = {"database": {"url": self.database.create("fleet"), "cache": "cache.db"}}
        self._folder = folder / "other"
        self._stack = stack

    def watch(self) -> None:
        """Note from now on whatever becomes of the node's place in the fleet. Starts the other node."""
        until(
            lambda: self._asked("SELECT orderer FROM acme_head WHERE orderer <> ''"), "the node to order certificates"
        )
        self._asked(PLACE_LOST)
        self._folder.mkdir()
        grpc = {"addr": f"unix:{self._folder}/a.sock"}
        node = {**self.settings, "node": {"name": "edge2"}, "grpc": grpc}
        self._config = self._folder / "mcproxy.toml"
        self._stack.enter_context(Server(self._folder, node))

    def add(self, name: str) -> "subprocess.Popen[bytes]":
        """Begin to add a route, on the other node."""
        command = [sys.executable, "-m", "mcproxy", "routes", "add", name, "127.0.0.1:1", "-c", str(self._config)]
        return subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL)

    def is_followed(self, server: Upgraded) -> bool:
        """Whether the server that is upgraded has the database."""
        return follows(server.config)

    def is_followed_by_all(self, server: Upgraded) -> bool:
        """Whether the other node has it, too: after a time without it nodes try again at different times."""
        return self.is_followed(server) and follows(self._config)

    def failures(self) -> list[str]:
        """What has become of the node's place."""
        return [f"the place was lost: {what}" for (what,) in self._asked("SELECT what FROM place_lost")]

    def _asked(self, statement: str) -> list[tuple[object, ...]]:
        return self.database.execute("fleet", statement)


def upgrade_under_load(
    folder: Path, upgrades: int, connections: int, workers: Sequence[int], fleet: Fleet | None = None
) -> tuple[int, list[str], float]:
    """Returns how many connections there were, what failed, and the slowest one's seconds."""
    server = Upgraded(folder, workers, **(node_settings(fleet) if fleet is not None else {}))
    if fleet is not None:
        fleet.watch()
    clients = Clients(server.port)
    try:
        for i in range(upgrades):
            server.command("routes", "add", f"{i}.test", "127.0.0.1:1")
            with stays(server.port) as client:
                clients.wait_for(clients.done + connections // (upgrades + 1))
                old = server.upgrade() if fleet is None else upgrade_node(server, fleet, i)
                before = clients.done
                clients.wait_for(before + 10)  # while the old one drains
                talks(client)
                assert old.process.poll() is None, "it serves the client that stays"
            assert old.wait() == 0, "".join(old.err)
        clients.wait_for(connections)
        server.command("routes", "add", "last.test", "127.0.0.1:1")
    except BaseException:
        server.program.close()
        raise
    finally:
        clients.stop()
    routes = {each["hostname"] for each in json.loads(server.command("routes", "list", "--json"))}
    wanted = {"a.test", "last.test", *(f"{i}.test" for i in range(upgrades))}
    if fleet is not None:
        wanted |= {f"{i}.of-edge2.test" for i in range(upgrades)}
    failures = [*clients.failures, *(f"the route {name} is missing" for name in wanted - routes)]
    failures += fleet.failures() if fleet is not None else []
    server.close()
    if clients.slowest > MOST_SECONDS:
        failures.append(f"a connection took {clients.slowest:.1f} s")
    return clients.done, failures, clients.slowest


def follows(config: Path) -> bool:
    """Whether the node with this configuration has its fleet's database."""
    return bool(Shell(config).json("status")["node"]["state"] == "following")


def node_settings(fleet: Fleet) -> dict[str, Any]:
    """What makes the server a node, which orders the fleet's certificates; there are none to order."""
    acme = {"directory": "https://127.0.0.1:1/", "email": "a@example.org", "accept_terms": True}
    return {**fleet.settings, "node": {"name": "edge1"}, "acme": acme}


def upgrade_node(server: Upgraded, fleet: Fleet, number: int) -> Program:
    """Have a new server take over: with another node's change meanwhile, or without the fleet's database."""
    name, is_away = f"{number}.of-edge2.test", bool(number % 2)
    if is_away:
        assert fleet.add(name).wait(DEADLINE) == 0
        fleet.database.stop()
        old = server.upgrade()
        assert not fleet.is_followed(server)
        fleet.database.start()
    else:
        with fleet.add(name) as adding:
            old = server.upgrade()
        assert adding.returncode == 0
    until(lambda: fleet.is_followed_by_all(server), "both nodes to follow")
    return old


def main() -> int:
    """Run it, and return 1 where a client was failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("upgrades", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("workers", nargs="?", default="1")
    parser.add_argument("--fleet", action="store_true")
    given = parser.parse_args()
    workers = [int(each) for each in given.workers.split(",")]
    began = time.monotonic()
    with ExitStack() as stack:
        fresh = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.folder)))
        fleet = Fleet(fresh, stack) if given.fleet else None
        done, failures, slowest = upgrade_under_load(fresh, given.upgrades, given.connections, workers, fleet)
    print(
        f"{done} connections over {given.upgrades} upgrades in {time.monotonic() - began:.0f} s, "
        f"{len(failures)} failed, the slowest took {slowest:.2f} s"
    )
    for failure in failures[:10]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
