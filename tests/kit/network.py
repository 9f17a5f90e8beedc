"""A network of hosts on this machine: a bridge in this program's own namespaces, and a namespace for each host.

The program that makes one has to run in `alone`: whatever it mounts, starts and leaves behind ends with it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kit.peers import DEADLINE, until
from tests.kit.program import ROOT

NAMESPACES = ["unshare", "--mount", "--net", "--ipc", "--pid", "--mount-proc", "--fork", "--kill-child"]
# The first process in a namespace of processes has to reap what others leave: a shell does.
REAPING = ["sh", "-c", '"$@"; exit $?', "sh"]
INSIDE = "MCPROXY_TESTS_NETWORK"  # of the environment: this program is in its namespaces already
HUB = "10.99.0.254"
DROP_ALL = """
table inet cut {
    chain input { type filter hook input priority 0; policy drop; iifname "lo" accept; }
    chain output { type filter hook output priority 0; policy drop; oifname "lo" accept; }
}
"""


def available() -> bool:
    """Whether this machine lets us make namespaces."""
    return os.geteuid() == 0 and not subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode


def alone(module: str) -> None:
    """Run a module, with this program's arguments, in namespaces of its own; returns there."""
    if INSIDE in os.environ:
        return
    command = [*NAMESPACES, *REAPING, sys.executable, "-m", module, *sys.argv[1:]]
    done = subprocess.run(command, env={**os.environ, INSIDE: "1"}, cwd=ROOT, check=False)
    sys.exit(done.returncode)


def _run(*command: str, text: str = "") -> None:
    subprocess.run(command, input=text, text=True, check=True, timeout=DEADLINE)


class Network:
    """The bridge, whose own address is HUB."""

    def __init__(self) -> None:
        self._hosts = 0
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "bridge", "type", "bridge")
        _run("ip", "address", "add", f"{HUB}/24", "dev", "bridge")
        _run("ip", "link", "set", "bridge", "up")

    def host(self) -> "Host":
        """One more host."""
        self._hosts += 1
        return Host(f"10.99.0.{self._hosts}", f"wire{self._hosts}")


class Host:
    """A host: commands that begin with its prefix run there."""

    def __init__(self, address: str, wire: str) -> None:
        self.address = address
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        here = Path("/proc/self/ns/net").readlink()
        until(lambda: Path(f"/proc/{self._holder.pid}/ns/net").readlink() != here, "the host's namespace")
        self.prefix: Sequence[str] = ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net")
        _run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        _run("ip", "link", "set", wire, "master", "bridge", "up")
        _run(*self.prefix, "ip", "link", "set", "lo", "up")
        _run(*self.prefix, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        _run(*self.prefix, "ip", "link", "set", "eth0", "up")

    def cut(self) -> None:
        """Drop every packet that it sends or gets, without a word to either side."""
        _run(*self.prefix, "nft", "-f", "-", text=DROP_ALL)

    def heal(self) -> None:
        """Let packets through again."""
        _run(*self.prefix, "nft", "delete", "table", "inet", "cut")


def mount(folder: Path, size: int) -> None:
    """Give a folder a disk of its own, of so many bytes."""
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
