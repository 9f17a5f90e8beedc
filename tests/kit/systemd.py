"""A real systemd, as process 1 of namespaces of its own, with units of a folder and nothing else.

It has its own processes, mounts, control groups and /run; files and network are the machine's. mcproxy is installed
in /srv/mcproxy there, which is empty otherwise. Needs root, and version 2 of control groups somewhere.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.kit.peers import DEADLINE, until
from tests.kit.program import ROOT, toml

SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = [
    "unshare", "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private",
]  # fmt: skip
USER = "64999"  # of the unit's name, mcproxy

# Without a unit of its own each service would lack what all depend on by default.
TARGETS = ("basic.target", "shutdown.target", "sysinit.target", "default.target")
BOOT = """
set -e
mount -t proc proc /proc
umount -l -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs {folder}/etc
mkdir {folder}/etc/upper {folder}/etc/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={folder}/etc/upper,workdir={folder}/etc/work /etc
echo mcproxy:x:{user}:{user}::/srv/mcproxy:/usr/sbin/nologin >>/etc/passwd
echo mcproxy:x:{user}: >>/etc/group
mount --bind {folder}/srv /srv
{reachable}
exec env -i PATH="$PATH" container=mcproxy-test SYSTEMD_UNIT_PATH={folder}/units {systemd} --system --log-target=null
"""
PROGRAM = """\
#!/bin/sh
exec env PYTHONPATH=/srv/mcproxy/lib PYTHONDONTWRITEBYTECODE=1 {python} -m mcproxy "$@"
"""
HERE = """\
[Service]
# The interpreter may be in somebody's home.
ProtectHome=no
# There is no journal.
StandardOutput=append:{folder}/log
StandardError=inherit
"""


def control_groups() -> Path | None:
    """Where version 2 of control groups is mounted; None: nowhere."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next((Path(each[1]) for each in mounts if each[2] == "cgroup2"), None)


def available() -> bool:
    """Whether this machine lets us boot one."""
    return (
        os.geteuid() == 0
        and SYSTEMD.exists()
        and control_groups() is not None
        and not subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode
    )


class Systemd:
    """systemd, with mcproxy.service of deploy/ and this configuration."""

    def __init__(self, folder: Path, document: dict[str, Any], reachable: str) -> None:
        """`reachable` has shell commands that let every user run this interpreter."""
        self._folder = folder
        self.home = folder / "srv/mcproxy"
        for each in ("etc", "units/mcproxy.service.d", "srv/mcproxy/venv/bin", "srv/mcproxy/data"):
            (folder / each).mkdir(parents=True)
        for name in TARGETS:
            (folder / "units" / name).write_text("[Unit]\nDefaultDependencies=no\n")
        shutil.copy(ROOT / "deploy/systemd/mcproxy.service", folder / "units")
        (folder / "units/mcproxy.service.d/here.conf").write_text(HERE.format(folder=folder))
        self.configure(document)
        self.install()
        program = self.home / "venv/bin/mcproxy"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        shutil.chown(self.home / "data", int(USER), int(USER))
        groups = control_groups()
        assert groups is not None
        self._group = groups / f"mcproxy-test-{os.getpid()}"
        self._group.mkdir()
        boot = BOOT.format(folder=folder, user=USER, systemd=SYSTEMD, reachable=reachable)
        # The shell enters the group first, which is the root of the new namespace then.
        enter = f'echo $$ >{self._group}/cgroup.procs; exec "$@"'
        self._process = subprocess.Popen(["sh", "-c", enter, "sh", *NAMESPACES, "sh", "-c", boot], cwd="/")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        until(lambda: children.read_text().strip(), "the namespaces")
        self._pid = children.read_text().strip()
        until(lambda: self.run("systemctl", "is-system-running").stdout in ("running\n", "degraded\n"), "systemd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.send_signal(signal.SIGKILL)  # its child gets one too, and with process 1 all the others
        self._process.wait(DEADLINE)
        until(self._removed, "the control groups to be empty")

    def _removed(self) -> bool:
        for folder, _, _ in os.walk(self._group, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        return not self._group.exists()

    def configure(self, document: dict[str, Any]) -> None:
        """Write the configuration file."""
        whole = {"database": {"path": "data/mcproxy.db"}, "grpc": {"addr": "unix:data/admin.sock"}, **document}
        text = "".join(f"{key} = {toml(value)}\n" for key, value in whole.items())
        (self.home / "mcproxy.toml").write_text(text)

    def install(self) -> None:
        """Install mcproxy, in the place of what is there; the files are other ones."""
        fresh, lib = self.home / "fresh", self.home / "lib"
        shutil.copytree(ROOT / "mcproxy", fresh / "mcproxy", ignore=shutil.ignore_patterns("__pycache__"))
        if lib.exists():
            lib.rename(self.home / "old")
        fresh.rename(lib)
        shutil.rmtree(self.home / "old", ignore_errors=True)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command there."""
        inside = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--cgroup", "--ipc", "--uts"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, check=False, timeout=DEADLINE)

    def show(self, *names: str) -> dict[str, str]:
        """Properties of the service."""
        shown = self.run("systemctl", "show", "mcproxy", *(f"--property={each}" for each in names)).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def forget_log(self) -> None:
        """Empty the log."""
        (self._folder / "log").write_bytes(b"")

    def log(self) -> str:
        """What the service has written, but for connections."""
        lines = (self._folder / "log").read_text().splitlines(keepends=True)
        return "".join(line for line in lines if " connection id=" not in line)
