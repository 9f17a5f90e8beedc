"""docs/json.md: its examples have the shape of what every command prints with --json, against a running server.

Those of a fleet are compared in test_fleet.py.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mcproxy.cli.main import main
from tests.kit.json_page import Page
from tests.kit.peers import Authority, Backend, client_hello, connect, echo, free_port, is_reset, read_all, until
from tests.kit.program import Server, bounded, environment


class Scene:
    """A real server with a route of each mode, one of which has lost its certificate, and something to tell of all."""

    def __init__(self, folder: Path, authority: Authority, stack: ExitStack) -> None:
        self.addr = f"127.0.0.1:{free_port()}"
        backend = Backend(echo)
        stack.callback(backend.close)
        lost = [folder / each.name for each in authority.pair("lost.example.org")]
        for path, source in zip(lost, authority.pair("lost.example.org"), strict=True):
            path.write_bytes(source.read_bytes())
        nobody = f"127.0.0.1:{free_port()}"
        routes = [
            {"hostname": "git.example.org", "backend": backend.address},
            _l7("www.example.org", nobody, *authority.pair("www.example.org")),
            _l7("lost.example.org", nobody, *lost),
            {"hostname": "acme.example.org", "backend": nobody, "mode": "l7", "tls": "acme"},
        ]
        self._server = Server(
            folder,
            {
                "listeners": [{"addr": self.addr, "routes": routes}],
                "acme": {"accept_terms": True, "directory": f"https://127.0.0.1:{free_port()}/dir"},  # nobody is there
                "grpc": {"addr": f"unix:{folder}/admin.sock"},
                "firewall": {"blocked_cidrs": ["198.51.100.0/24"]},
            },
        )
        stack.enter_context(self._server)
        lost[0].unlink()
        self.folder = folder
        self.config = folder / "mcproxy.toml"
        self._port = int(self.addr.rpartition(":")[2])
        self._context = authority.client_context()
        live = stack.enter_context(connect(self._port))
        live.sendall(client_hello("git.example.org"))
        assert live.recv(1), "the echo: the connection has reached its backend"
        self.traffic()

    def traffic(self) -> None:
        """A refusal, and a request that no backend answers."""
        with connect(self._port) as client:
            client.sendall(client_hello("nobody.example.org"))
            assert is_reset(client)
        with self._context.wrap_socket(connect(self._port), server_hostname="www.example.org") as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n")
            assert b" 502 " in read_all(client)

    def print(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        result = CliRunner().invoke(main, [*arguments, "--json", "-c", str(self.config)])
        assert result.exit_code in {0, 1}, result.output
        return json.loads(result.stdout)

    def watch(self) -> Any:
        """The first event of a route that `watch` prints."""
        command = (sys.executable, "-m", "mcproxy", "watch", "--json", "--refused", "-c", self.config)
        with bounded(*command, env=environment()) as process:
            until(lambda: self.print("status")["watchers"] == 1, "somebody watches")
            self.traffic()
            assert process.stdout is not None
            return json.loads(process.stdout.readline())


def _l7(hostname: str, backend: str, certificate: Path, key: Path) -> dict[str, str]:
    return {
        "hostname": hostname, "backend": backend, "mode": "l7", "tls_cert": str(certificate), "tls_key": str(key),
    }  # fmt: skip


def commands(command: click.Command = main, path: str = "") -> Iterator[str]:
    """Every command that has --json."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, f"{path} {name}".strip())
    if any("--json" in each.opts for each in command.params):
        yield path


# In this order, with these arguments; every command that has --json.
SCRIPT = {
    "status": (),
    "connections list": (),
    "listeners list": (),
    "routes list": (),
    "certificates list": (),
    "certificates renew": ("acme.example.org",),
    "firewall list": (),
    "firewall test": ("198.51.100.7",),
    "explain": ("--sni", "git.example.org", "--from", "192.0.2.7"),
    "routes add": ("new.example.org", "127.0.0.1:3000"),
    "routes set": ("new.example.org", "--backend", "127.0.0.1:3001"),
    "firewall add": ("192.0.2.7", "--ttl", "1h"),
    "listeners add": ("127.0.0.1:0",),
    "listeners set": ("127.0.0.1:0", "--max-connections", "100"),
    "routes history": ("--everything",),
    "diff": (),
    "apply": ("mcproxy.toml", "--prune", "--dry-run"),
    "firewall remove": ("192.0.2.7",),
    "routes remove": ("new.example.org", "--listener", "ADDR"),
    "listeners remove": ("127.0.0.1:0",),
    "rollback": ("2", "--yes"),
    "snapshot": (),
    "database copy": ("COPY",),
}
OF_A_FLEET = ("nodes",)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What every command prints."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "ca").mkdir()
    with ExitStack() as stack:
        scene = Scene(folder, Authority(folder / "ca"), stack)
        found = {"watch": scene.watch()}
        for command, arguments in SCRIPT.items():
            replaced = {"ADDR": scene.addr, "mcproxy.toml": str(scene.config), "COPY": str(folder / "copy.db")}
            found[command] = scene.print(*command.split(), *(replaced.get(each, each) for each in arguments))
        yield found


def test_every_command_has_its_example() -> None:
    assert sorted(Page().examples) == sorted(commands()) == sorted([*SCRIPT, "watch", *OF_A_FLEET])


@pytest.mark.parametrize("command", [*SCRIPT, "watch"])
def test_the_example_has_the_shape_of_what_is_printed(command: str, printed: dict[str, Any]) -> None:
    assert Page().differences(command, printed[command]) == []


def test_a_difference_is_found(printed: dict[str, Any]) -> None:
    page = Page()
    status = {**printed["status"], "colour": "red", "pid": "7", "geoip": None}
    del status["version"]
    assert sorted(each.split(": ")[0] for each in page.differences("status", status)) == [
        ".colour", ".geoip", ".pid", ".version",
    ]  # fmt: skip
    assert page.differences("connections list", []) == [": nothing is printed, so this test shows nothing"]
    change = {**printed["diff"][0], "old": {"addr": ":1"}, "new": None}
    assert len(page.differences("diff", [change])) == 1
