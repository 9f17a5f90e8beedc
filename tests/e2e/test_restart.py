"""A server that is killed and started again: what it had acknowledged is in force, and temporary rules end on time."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.peers import DEADLINE, free_port, until
from tests.kit.program import Program, environment


class Server:
    """`mcproxy` at a shell, with one configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "mcproxy.toml"
        self.config.write_text(
            f'[database]\npath = "mcproxy.db"\n[[listeners]]\naddr = "127.0.0.1:{self.port}"\n'
            f'[grpc]\naddr = "unix:{folder}/admin.sock"\n'
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mcproxy", *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def ok(self, *arguments: str) -> str:
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def expired(self) -> list[Any]:
        """The rows of the audit that say which rule was over."""
        return [row for row in self.json("routes", "history", "--everything") if row["who"] == "expiry"]

    def rules(self) -> set[str]:
        return {each["value"] for each in self.json("firewall", "list")}

    @contextmanager
    def running(self, end: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        """From when it serves until it is ended by this signal."""
        with Program(sys.executable, "-m", "mcproxy", "server", "-c", self.config, env=environment()) as program:
            program.line("started, generation")
            yield
            program.signal(end)
            assert program.wait() == (0 if end is signal.SIGTERM else -end), program.err


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running(signal.SIGKILL):
        server.ok("routes", "add", "a.example.org", "127.0.0.1:1")
        server.ok("firewall", "add", "ip", "203.0.113.2", "--ttl", "1h")
        server.ok("firewall", "add", "ip", "203.0.113.1", "--ttl", "2s")
    assert (tmp_path / "admin.sock").exists(), "it was killed"
    with server.running():
        assert [each["hostname"] for each in server.json("routes", "list")] == ["a.example.org"]
        until(server.expired, "the rule of two seconds to end")
        (ended,) = server.expired()
        assert (ended["action"], server.rules()) == ("rule.expire", {"203.0.113.2"})
        assert ended["at"] >= ended["old_json"]["expires_at"]
        assert server.json("status")["generation"] == ended["generation"] == 5
        server.ok("rollback", "2", "--yes")
        assert server.rules() == set()
    assert not (tmp_path / "admin.sock").exists()
    assert server.command("status").returncode == 3


def test_a_snapshot_is_restored_by_stop_copy_start(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running():
        server.ok("routes", "add", "kept.example.org", "127.0.0.1:1")
        server.ok("snapshot", "-o", str(tmp_path / "good.db"))
        server.ok("routes", "add", "regretted.example.org", "127.0.0.1:1")
    (tmp_path / "mcproxy.db").write_bytes((tmp_path / "good.db").read_bytes())
    for suffix in ("-wal", "-shm"):
        Path(f"{tmp_path}/mcproxy.db{suffix}").unlink(missing_ok=True)
    with server.running():
        assert [each["hostname"] for each in server.json("routes", "list")] == ["kept.example.org"]
        assert server.json("status")["generation"] == 2
        server.ok("routes", "add", "next.example.org", "127.0.0.1:1")
        assert "- route next.example.org" in server.command("diff").stdout


def test_drained_while_a_stream_is_open(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running():
        watching = subprocess.Popen([sys.executable, "-m", "mcproxy", "watch", "-c", str(server.config)])
        until(lambda: server.json("status")["watchers"] == 1, "it to watch")
    assert watching.wait(DEADLINE) == 0
