"""Certificates of a fleet: one node orders from a real CA, any node answers it, all serve what it issues.

`edge` listens, and has no [acme]; the nodes that order can't have its address. So the CA always looks at a node that
doesn't order.
"""

import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.kit.commands import Shell
from tests.kit.pebble import Pebble
from tests.kit.peers import Authority, Backend, connect, echo, free_port, until
from tests.kit.postgres import postgres_server
from tests.kit.program import Server, environment

pytestmark = pytest.mark.xdist_group("fleet")

WWW = "www.example.org"


class Scene:
    """A CA, a database, and nodes that are started by name."""

    def __init__(self, stack: ExitStack, folder: Path, **variables: str) -> None:
        self.port = free_port()
        self.pebble = Pebble(stack, folder, self.port, **variables)
        self.database = stack.enter_context(postgres_server())
        self.nodes: dict[str, Server] = {}
        self._backend = Backend(echo)
        stack.callback(self._backend.close)
        self._url = self.database.create("fleet")
        self._folder = folder
        self._stack = stack

    def folder(self, name: str) -> Path:
        return self._folder / name

    def start(self, name: str) -> Server:
        self.folder(name).mkdir(exist_ok=True)
        routes = [{"hostname": "seed.example.org", "backend": self._backend.address}]
        document: dict[str, Any] = {
            "database": {"url": self._url, "cache": "cache.db"},
            "node": {"name": name},
            "grpc": {"addr": "unix:admin.sock"},
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}],
        }
        if name != "edge":
            document["acme"] = self.pebble.section()
        self.nodes[name] = self._stack.enter_context(Server(self.folder(name), document))
        return self.nodes[name]

    def ok(self, name: str, *arguments: str) -> str:
        command = [sys.executable, "-m", "mcproxy", *arguments, "-c", str(self.folder(name) / "mcproxy.toml")]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add(self, name: str, *options: str) -> None:
        self.ok(name, "routes", "add", WWW, self._backend.address, "--mode", "l7", *(options or ("--acme",)))

    def listed(self, name: str) -> dict[str, Any]:
        found = Shell(self.folder(name) / "mcproxy.toml").json("certificates", "list")  # asked again and again
        return next((each for each in found if each["hostname"] == WWW), {})

    def serial(self, cafile: Path | None = None) -> str:
        """The serial number of the certificate that `edge` serves, verified; "": it serves none."""
        if cafile is None:
            cafile = self._folder / "root.pem"
            cafile.write_bytes(self.pebble.root())
        context = ssl.create_default_context(cafile=str(cafile))
        try:
            with context.wrap_socket(connect(self.port), server_hostname=WWW) as client:
                certificate = client.getpeercert()
        except (ConnectionError, ssl.SSLError):
            return ""
        assert certificate is not None
        return str(certificate["serialNumber"])

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        return self.database.execute("fleet", statement)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


def test_a_node_that_does_not_order_answers_serves_and_keeps_what_is_ordered(scene: Scene) -> None:
    scene.pebble.start()
    edge = scene.start("edge")
    orderer = scene.start("orderer")
    orderer.line("this node orders the fleet's certificates")
    scene.add("orderer")
    until(scene.serial, "a certificate")
    assert (scene.pebble.orders(), scene.pebble.issued()) == (1, 1)
    assert any(" sni=www.example.org " in line and "alpn=acme-tls/1" in line for line in edge.out)
    assert not any("the CA is told to look though" in line for line in orderer.out), "it waited for the other node"
    until(lambda: scene.listed("edge")["state"] == scene.listed("orderer")["state"] == "waiting")
    first = scene.serial()
    scene.ok("edge", "certificates", "renew", WWW)
    until(lambda: scene.serial() not in {"", first}, "another certificate, which `edge` has asked for")
    renewed = scene.serial()
    no_key_is_anywhere_but_in_databases(scene)
    scene.database.stop()
    orderer.line("node orderer is alone")
    assert scene.serial() == renewed, "without the database"
    edge.close()
    scene.start("edge").line("node edge is alone")
    assert scene.serial() == renewed, "without the database since its start"


def no_key_is_anywhere_but_in_databases(scene: Scene) -> None:
    copy = scene.folder("edge") / "copy.db"
    scene.ok("edge", "snapshot", "-o", str(copy))
    for path in (copy, scene.folder("edge") / "cache.db"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = [
        str(key) for (key,) in scene.execute("SELECT key FROM certificates UNION ALL SELECT key FROM acme_accounts")
    ]
    assert len(keys) == 2
    commands = [("export",), ("certificates", "list", "--json"), ("routes", "history", "--everything"), ("nodes",)]
    shown = [line for node in scene.nodes.values() for line in (*node.out, *node.err)]
    shown += [scene.ok("edge", *command) for command in commands]
    everything = "\n".join(shown)
    assert not any(line in everything for key in keys for line in key.splitlines()[1:-1])


def test_another_node_goes_on_with_the_order_of_one_that_was_killed(scene: Scene) -> None:
    scene.pebble.start()
    scene.start("edge")
    orderer = scene.start("orderer")
    orderer.line("this node orders the fleet's certificates")
    scene.start("second")
    scene.add("orderer")
    orderer.line(f"{WWW}: validating")
    orderer.signal(signal.SIGKILL)
    orderer.wait()
    scene.execute("UPDATE nodes SET seen_at = seen_at - 60 WHERE name = 'orderer'")
    scene.nodes["second"].line("this node orders the fleet's certificates")
    until(scene.serial, "a certificate")
    assert (scene.pebble.orders(), scene.pebble.issued()) == (1, 1)


def test_a_route_moves_from_files_to_acme_on_all_nodes_without_a_gap(scene: Scene, authority: Authority) -> None:
    """The CA is away; the files are read by the node that takes the command, and `edge` serves what they hold."""
    scene.start("edge")
    scene.start("orderer")
    chain, key = map(str, authority.pair(WWW))
    scene.add("orderer", "--tls-cert", chain, "--tls-key", key)
    until(lambda: scene.serial(authority.path), "the certificate from files")
    old = scene.serial(authority.path)
    scene.ok("orderer", "routes", "set", WWW, "--acme")
    until(lambda: scene.listed("edge").get("source") == "acme", "the change on the other node")
    assert scene.serial(authority.path) == old
    with closing(psycopg.connect(scene.database.url("fleet"))) as connection:
        assert connection.execute("SELECT hostname FROM certificates").fetchall() == [(WWW,)]
