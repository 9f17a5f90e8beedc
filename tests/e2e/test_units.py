"""deploy/systemd: systemd finds nothing wrong with the units, little is exposed, and the proxy lives in its sandbox."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcproxy import config
from tests.conftest import MakeBackend
from tests.e2e.test_service_manager import document, echoed
from tests.kit.peers import echo, free_port
from tests.kit.program import ROOT, Program, environment, write_config

UNITS = ROOT / "deploy" / "systemd"
SERVICE = UNITS / "mcproxy.service"
SYSTEM = Path("/lib/systemd/system")
MOST_EXPOSED = 1.5  # of 10, by systemd's own count


def analyze(*arguments: str | Path) -> str:
    command = ["systemd-analyze", "--no-pager", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings(unit: Path) -> Iterator[tuple[str, str]]:
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            yield name, value


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    shutil.copytree(SYSTEM, tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")  # older versions look there
    ours = tmp_path / "etc/systemd/system"
    shutil.copytree(UNITS, ours)
    for program in ("srv/mcproxy/venv/bin/mcproxy", "srv/mcproxy/bin/backup.sh"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
    names = sorted(unit.name for unit in UNITS.iterdir() if unit.suffix in {".service", ".socket", ".timer"})
    assert len(names) >= 4
    assert analyze(f"--root={tmp_path}", "verify", *names) == ""


@pytest.mark.parametrize("unit", sorted(UNITS.glob("*.service")), ids=lambda unit: unit.name)
def test_little_is_exposed(unit: Path) -> None:
    said = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSED * 10:g}", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found
    assert float(found[1]) < MOST_EXPOSED


def test_it_has_time_to_drain_and_is_not_root() -> None:
    found = dict(settings(SERVICE))
    assert float(found["TimeoutStopSec"].removesuffix("s")) > config.ProxySection().shutdown_timeout + 10
    assert found["User"] == "mcproxy"
    assert found["AmbientCapabilities"] == found["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"


def test_database_and_admin_socket_are_where_it_may_write() -> None:
    shipped = config.load(ROOT / "deploy" / "mcproxy.toml")
    (writable,) = dict(settings(SERVICE))["ReadWritePaths"].split()
    home = dict(settings(SERVICE))["WorkingDirectory"]
    assert shipped.grpc is not None
    for path in (shipped.database.path, shipped.grpc.addr.removeprefix("unix:")):
        assert Path(home, Path(path).relative_to(ROOT / "deploy")).parent == Path(writable)


def expanded(group: str) -> set[str]:
    """The system calls of a group of systemd's, and of the groups in it."""
    calls = set()
    for line in analyze("syscall-filter", group).splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= expanded(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def allowed_calls() -> set[str]:
    allowed: set[str] = set()
    for name, value in settings(SERVICE):
        if name == "SystemCallFilter":
            denied = value.startswith("~")
            calls = {call for word in value.removeprefix("~").split()
                     for call in (expanded(word) if word.startswith("@") else {word})}  # fmt: skip
            allowed = allowed - calls if denied else allowed | calls
    return allowed


# SQLite gives its files to the owner of the database, but only as root, which the service isn't.
AS_ROOT_ONLY = {"fchown"} if os.geteuid() == 0 else set()

# What MemoryDenyWriteExecute refuses (systemd.exec(5)), and families that RestrictAddressFamilies lets through.
_WRITE_AND_EXECUTE = re.compile(r"mmap\([^)\n]*PROT_WRITE\|PROT_EXEC|mprotect\([^)\n]*PROT_EXEC|SHM_EXEC")
_FAMILY = re.compile(r" socket\((AF_\w+)")


def test_the_proxy_can_live_in_its_sandbox(tmp_path: Path, backend: MakeBackend) -> None:
    """Without PID 1 here to hold it to them, what it does is compared with what the unit allows."""
    port, trace = free_port(), tmp_path / "trace"
    whole = {**document(f"127.0.0.1:{port}", backend(echo).address), "grpc": {"addr": f"unix:{tmp_path}/a.sock"}}
    path = write_config(tmp_path, whole)
    command: list[str | Path] = ["strace", "-f", "-qq", "-o", trace, sys.executable, "-m", "mcproxy"]
    with Program(*command, "server", "-c", path, env=environment()) as program:
        program.line("started, generation")
        echoed(port)
        add = [sys.executable, "-m", "mcproxy", "firewall", "add", "ip", "192.0.2.1", "-c", str(path)]
        subprocess.run(add, env=environment(), timeout=60, check=True, capture_output=True)
        traced = re.search(r"^(\d+) ", trace.read_text())
        assert traced
        os.kill(int(traced[1]), signal.SIGHUP)
        program.line("reload")
        os.kill(int(traced[1]), signal.SIGTERM)
        assert program.wait() == 0
    said = trace.read_text()
    made = set(re.findall(r"^\d+ +(\w+)\(", said, re.MULTILINE))
    assert {"accept4", "epoll_wait", "execve", "connect"} <= made, "what was traced is the proxy"
    assert made - allowed_calls() - AS_ROOT_ONLY == set()
    assert not _WRITE_AND_EXECUTE.search(said)
    assert set(_FAMILY.findall(said)) <= set(dict(settings(SERVICE))["RestrictAddressFamilies"].split())
