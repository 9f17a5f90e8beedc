"""deploy/systemd/mcproxy.service under a real systemd: a reload is an upgrade where one is due; nobody is refused."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_install import reachable
from tests.kit.peers import Backend, echo, free_port, until
from tests.kit.restarts import Clients
from tests.kit.systemd import Systemd, available
from tests.kit.upgrades import stays, talks

pytestmark = pytest.mark.skipif(not available(), reason="only root, with version 2 of control groups, can boot it")


class Machine:
    """A systemd with the service."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.backend = Backend(echo)
        routes = [{"hostname": "a.test", "backend": self.backend.address}]
        self.document: dict[str, Any] = {
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}], "proxy": {"workers": 1}
        }  # fmt: skip
        folder.chmod(0o755)
        self.systemd = Systemd(folder / "machine", self.document, reachable(folder))

    def begin(self) -> None:
        """Have the service run as it should, with an empty log."""
        self.systemd.configure(self.document)
        self.systemd.forget_log()
        self.succeeds("restart", "mcproxy")

    def main(self) -> str:
        """The unit's main process."""
        return self.systemd.show("MainPID")["MainPID"]

    def command(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run systemctl."""
        return self.systemd.run("systemctl", *command)

    def succeeds(self, *command: str) -> None:
        """Run systemctl, which must succeed."""
        done = self.command(*command)
        assert done.returncode == 0, done.stderr + self.systemd.log()

    def ended(self, pid: str) -> bool:
        """Whether a process there has ended."""
        return self.systemd.run("test", "-e", f"/proc/{pid}").returncode != 0


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("systemd")
    folder.parent.chmod(0o755)  # the service's user passes through
    made = Machine(folder)
    with made.systemd:
        yield made
    made.backend.close()


@pytest.fixture
def machine(booted: Machine) -> Machine:
    booted.begin()
    return booted


def test_reload_or_restart_upgrades_and_nobody_notices(machine: Machine) -> None:
    """The main process changes; the old one drains, and is neither killed nor taken for a failure."""
    first = machine.main()
    machine.succeeds("reload", "mcproxy")
    until(lambda: "reloaded" in machine.systemd.log(), "the reload")
    assert machine.main() == first, "nothing was upgraded"
    clients = Clients(machine.port)
    try:
        with stays(machine.port) as client:
            machine.systemd.install()
            machine.succeeds("reload-or-restart", "mcproxy")
            second = machine.main()
            assert second != first
            machine.systemd.configure({**machine.document, "proxy": {"workers": 2}})
            machine.succeeds("reload-or-restart", "mcproxy")
            third = machine.main()
            assert third not in (first, second)
            clients.wait_for(clients.done + 50)
            talks(client)
            assert not machine.ended(first), "the client is its"
        until(lambda: machine.ended(first), "the first one to end")
        until(lambda: machine.ended(second), "the second one to end")
    finally:
        clients.stop()
    assert clients.failures == []
    found = machine.systemd.show("MainPID", "ActiveState", "SubState", "NRestarts", "Result")
    assert found == {
        "MainPID": third, "ActiveState": "active", "SubState": "running", "NRestarts": "0", "Result": "success"
    }  # fmt: skip
    assert "connections had to be cut" not in machine.systemd.log()


def test_a_stop_lets_the_one_before_drain_too(machine: Machine) -> None:
    """systemd kills what is left of a unit when its main process has ended."""
    first = machine.main()
    with stays(machine.port) as client:
        machine.systemd.install()
        machine.succeeds("reload", "mcproxy")
        machine.succeeds("stop", "--no-block", "mcproxy")
        until(lambda: "SIGTERM: draining" in machine.systemd.log(), "the stop")
        until(lambda: "no longer listening" in machine.systemd.log().rpartition("SIGTERM")[2], "the listener to close")
        talks(client)
        assert not machine.ended(first)
    until(lambda: machine.systemd.show("ActiveState")["ActiveState"] == "inactive", "the end")
    assert machine.systemd.show("Result")["Result"] == "success"
    assert "connections had to be cut" not in machine.systemd.log()


def test_a_reload_that_fails_says_so_and_changes_nothing(machine: Machine) -> None:
    first = machine.main()
    machine.systemd.configure({**machine.document, "colour": "red"})
    assert machine.command("reload", "mcproxy").returncode == 1
    until(lambda: "not reloaded: /srv/mcproxy/mcproxy.toml has 1 problem" in machine.systemd.log(), "the log")
    machine.systemd.configure({**machine.document, "grpc": {"addr": "unix:/proc/admin.sock"}})
    assert machine.command("reload", "mcproxy").returncode == 1
    assert "the new server, process" in machine.systemd.log()
    until(lambda: "going on as before" in machine.systemd.log(), "the old one to go on")
    machine.systemd.configure(machine.document)
    machine.succeeds("reload", "mcproxy")
    assert machine.main() == first
    with stays(machine.port) as client:
        talks(client)
    assert machine.systemd.show("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
