"""Commands run in this process, against a control plane whose data plane only remembers."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mcproxy.cli.main import main
from mcproxy.store.store import ListenerRoutes
from tests.kit.control_plane import SEED as ROUTES
from tests.kit.control_plane import Control, running

SEED = """
[[listeners]]
addr = ":443"
  [[listeners.routes]]
  hostname = "git.example.org"
  backend = "127.0.0.1:3000"
  [[listeners.routes]]
  hostname = "www.example.org"
  backend = "127.0.0.1:3001"
[firewall]
blocked_ips = ["192.0.2.1"]
blocked_cidrs = ["198.51.100.0/24"]
"""


# Variables that the machine of these tests may have set.
FOREIGN = (
    "MCPROXY_CONFIG", "MCPROXY_SERVER", "MCPROXY_CA", "MCPROXY_CERT", "MCPROXY_KEY", "SUDO_USER", "SSH_CONNECTION",
)  # fmt: skip


def typed(*arguments: object, **environment: object) -> Result:
    """One command with these arguments alone, and with these variables of ours alone."""
    variables: dict[str, str | None] = {**dict.fromkeys(FOREIGN), **{k: str(v) for k, v in environment.items()}}
    return CliRunner().invoke(main, [*map(str, arguments)], env=variables)


@dataclass
class Shell:
    """Somebody at a shell."""

    config: Path

    def run(self, *arguments: object) -> Result:
        """One command, however it ends."""
        return typed(*arguments, "-c", self.config)

    def ok(self, *arguments: object) -> str:
        """One command that does what it should; its standard output."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def ends(self, status: int, *arguments: object) -> str:
        """One command that answers and ends with this status; its standard output."""
        result = self.run(*arguments)
        assert result.exit_code == status, result.output
        assert result.stderr == ""
        return result.stdout

    def json(self, *arguments: object) -> Any:
        """One command with --json."""
        return json.loads(self.ok(*arguments, "--json"))

    def rows(self, *arguments: object) -> list[list[str]]:
        """The table that a pipe gets, without its head."""
        return [line.split("\t") for line in self.ok(*arguments).splitlines()[1:]]

    def fails(self, status: int, *arguments: object) -> str:
        """One command that ends with this status, one sentence on standard error, and nothing else."""
        result = self.run(*arguments)
        assert result.exit_code == status, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        return result.stderr.strip()


def write_config(folder: Path, grpc: str) -> Path:
    """A configuration file with a [grpc] of these lines ("": without)."""
    path = folder / "mcproxy.toml"
    section = ["[grpc]", grpc] if grpc else []
    path.write_text("\n".join(["[database]", 'path = "mcproxy.db"', *section, SEED]))
    return path


@contextmanager
def shell(folder: Path, seed: Sequence[ListenerRoutes] = ROUTES) -> Iterator[tuple[Shell, Control]]:
    """A shell beside a running server, on a UNIX socket."""
    with running(folder, seed=seed) as control:
        yield Shell(write_config(folder, f'addr = "unix:{folder}/admin.sock"')), control
