"""A second `mcproxy server` takes over from the one that runs; one that fails changes nothing."""

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBackend
from tests.e2e.test_service_manager import document, echoed
from tests.kit.heirs import STEPS
from tests.kit.peers import DEADLINE, echo, free_port, until
from tests.kit.program import Program, environment, write_config
from tests.kit.service_manager import Activated, Manager
from tests.kit.upgrades import stays, talks


def said(program: Program) -> str:
    """All that it has written so far."""
    return "".join([*program.out, *program.err])


class Running:
    """A server, and what is typed beside it."""

    def __init__(self, folder: Path, backend: str, workers: int) -> None:
        self.workers = workers
        self.folder = folder
        self.port = free_port()
        self.document = {
            **document(f"127.0.0.1:{self.port}", backend), "grpc": {"addr": f"unix:{folder}/a.sock"},
        }  # fmt: skip
        # More than what a test does meanwhile takes on a loaded machine.
        self.document["proxy"].update(workers=workers, shutdown_timeout="60s")
        self.config = write_config(folder, self.document)
        self.programs: list[Program] = []
        self.server = self.begin()
        self.server.line("started, generation")
        self._numbers = iter(range(1, 100))

    def begin(self, **env: str) -> Program:
        self.programs.append(
            Program(sys.executable, "-m", "mcproxy", "server", "-c", self.config, env=environment(**env))
        )
        return self.programs[-1]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mcproxy", *arguments, "-c", str(self.config)],
            env=environment(), capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def serves(self, program: Program) -> None:
        """This one serves clients and operators, and takes changes."""
        echoed(self.port)
        until(lambda: self.command("status").returncode == 0, "the admin API")
        assert self.json("status")["pid"] == program.process.pid
        name = f"{next(self._numbers)}.test"
        assert self.command("routes", "add", name, "127.0.0.1:1").returncode == 0
        assert name in {each["hostname"] for each in self.json("routes", "list")}

    def goes_on(self, times: int = 1) -> None:
        """The first server has taken everything back."""
        until(lambda: said(self.server).count("going on as before") == times, "it to go on")
        self.serves(self.server)


@pytest.fixture
def running(tmp_path: Path, backend: MakeBackend, request: pytest.FixtureRequest) -> Iterator[Running]:
    made = Running(tmp_path, backend(echo).address, getattr(request, "param", 1))
    yield made
    for each in made.programs:
        each.close()


with_workers = pytest.mark.parametrize("running", [1, 2], ids=["one process", "two workers"], indirect=True)


@pytest.mark.parametrize("workers", ["1", "2,1,3,2"])
def test_no_client_is_refused_or_reset_by_upgrades(workers: str) -> None:
    """Nor waits for a drain: a client stays with each of the old servers. The full size: 20 and 5000.

    Nor by another number of workers, for which a listener has more sockets than before, or too many.
    """
    upgrades("3", "300", workers)


def test_no_client_is_refused_or_reset_by_upgrades_of_a_node() -> None:
    """Nor is the node's place in its fleet ever free; without the fleet's database too. The full size: 20 and 5000."""
    upgrades("2", "100", "1,2", "--fleet")


def upgrades(number: str, connections: str, *more: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are too long for the names of sockets in them
        command = [sys.executable, "-m", "tests.kit.upgrades", folder, number, connections, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.fullmatch(rf"(\d+) connections over {number} upgrades in \d+ s, 0 failed.*\n", done.stdout)
    assert found, done.stdout
    assert int(found[1]) >= int(connections)


@with_workers
def test_the_old_server_ends_as_ever(running: Running) -> None:
    """0 where its clients have ended by themselves; the listening sockets and the seat stay with the new one."""
    with stays(running.port) as client:
        new = running.begin()
        running.server.line(f"process {new.process.pid} has taken over: draining for up to 60 s")
        talks(client)
        running.serves(new)
        talks(client)
        assert running.server.process.poll() is None
    assert running.server.wait() == 0
    assert (running.folder / ".mcproxy.db.takeover").is_socket()
    running.serves(new)
    new.signal(signal.SIGTERM)
    assert new.wait() == 0
    assert not (running.folder / ".mcproxy.db.takeover").exists()
    assert not (running.folder / "a.sock").exists()


def test_a_client_that_stays_too_long_is_cut_as_ever(running: Running) -> None:
    running.document["proxy"]["shutdown_timeout"] = "100ms"
    write_config(running.folder, running.document)
    running.server.signal(signal.SIGHUP)
    running.server.line("proxy.shutdown_timeout")
    with stays(running.port):
        new = running.begin()
        new.line("started, generation")
        assert running.server.wait() == 1
    running.serves(new)


def test_a_broken_configuration_is_not_asked_with(running: Running) -> None:
    write_config(running.folder, {**running.document, "colour": "red"})
    assert running.begin().wait() == 2
    write_config(running.folder, {**running.document, "firewall": {"geoip_db": "none.mmdb"}})
    assert running.begin().wait() == 2
    write_config(running.folder, running.document)
    assert "takes over" not in said(running.server)
    running.serves(running.server)


@with_workers
def test_a_start_that_fails_half_way_changes_nothing(running: Running) -> None:
    """It has the sockets by then, and can't have the address of its admin API."""
    (running.folder / "taken").write_text("")
    write_config(running.folder, {**running.document, "grpc": {"addr": f"unix:{running.folder}/taken"}})
    failed = running.begin()
    assert failed.wait() == 1
    assert "taken" in said(failed)
    write_config(running.folder, running.document)
    running.goes_on()
    new = running.begin()
    new.line("started, generation")
    running.serves(new)


@with_workers
@pytest.mark.parametrize("step", [each for each in STEPS if each != "serving"])
def test_one_that_is_killed_at_any_step_changes_nothing(step: str, running: Running) -> None:
    database = running.folder / "mcproxy.db"
    with stays(running.port) as client:
        heir = [sys.executable, "-m", "tests.kit.heirs", str(database), str(running.config), step]
        with Program(*heir, env=environment()) as program:
            program.line(step)
            echoed(running.port)
            talks(client)
            program.signal(signal.SIGKILL)
            running.goes_on()
        talks(client)
    new = running.begin()
    new.line("started, generation")
    assert running.server.wait() == 0
    running.serves(new)


@with_workers
def test_an_old_server_that_dies_half_way_leaves_everything(running: Running) -> None:
    running.server.signal(signal.SIGSTOP)
    new = running.begin()
    until(lambda: b"takeover" in Path(f"/proc/{new.process.pid}/net/unix").read_bytes(), "it to start")
    running.server.signal(signal.SIGKILL)
    running.server.signal(signal.SIGCONT)
    new.line("started, generation")
    running.serves(new)


def test_another_configuration_does_not_take_over(running: Running) -> None:
    """A test of a file beside the one in use must not end the server."""
    (running.folder / "other.toml").write_text(running.config.read_text())
    command = [sys.executable, "-m", "mcproxy", "server", "-c", str(running.folder / "other.toml")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert "doesn't let this one take over: it was started with another configuration" in done.stderr
    assert f"(process {running.server.process.pid})" in done.stderr
    running.serves(running.server)


def test_another_database_is_another_server(running: Running) -> None:
    write_config(running.folder, {**running.document, "database": {"path": "other.db"}})
    failed = running.begin()
    assert failed.wait() == 1
    assert f"can't listen on 127.0.0.1:{running.port}: another program listens there" in said(failed)
    write_config(running.folder, running.document)
    running.serves(running.server)


def test_of_two_at_once_one_takes_over(running: Running) -> None:
    both = [running.begin(), running.begin()]

    def over() -> bool:
        return sum("started, generation" in said(each) for each in both) + sum(
            each.process.poll() == 1 for each in both
        ) == len(both)

    until(over, "both to have started or failed")
    last = next(each for each in both if each.process.poll() is None)
    until(lambda: sum(each.process.poll() is None for each in (running.server, *both)) == 1, "one to be left")
    running.serves(last)


def test_a_server_that_drains_is_not_succeeded(running: Running) -> None:
    with stays(running.port):
        running.server.signal(signal.SIGTERM)
        running.server.line("no longer listening")
        failed = running.begin()
        assert failed.wait() == 1
        assert running.server.process.poll() is None
    assert running.server.wait() == 0


def test_sockets_of_the_service_manager_and_its_word_pass_on(tmp_path: Path, backend: MakeBackend) -> None:
    """The new server is the main process, and reports on the old one's socket; a listener may come and go."""

    with socket.create_server(("127.0.0.1", 0)) as sock, Manager(tmp_path) as manager:
        port = sock.getsockname()[1]
        whole = {**document(f"127.0.0.1:{port}", backend(echo).address), "grpc": {"addr": f"unix:{tmp_path}/a.sock"}}
        told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "900000"}
        with Activated(tmp_path, whole, [sock], **told) as old:
            old.line("started, generation")
            manager.hear("READY=1")
            config = tmp_path / "mcproxy.toml"
            command = [sys.executable, "-m", "mcproxy", "server", "-c", str(config)]
            with Program(*command, env=environment()) as new:
                new.line("started, generation")
                assert manager.hear("MAINPID=") == f"MAINPID={new.process.pid}"
                manager.hear("READY=1")
                manager.hear("WATCHDOG=1")
                assert old.wait() == 0
                assert not any(each.startswith("STOPPING") for each in manager.heard)
                for word in ("remove", "add"):
                    done = [sys.executable, "-m", "mcproxy", "listeners", word, f"127.0.0.1:{port}", "-c", str(config)]
                    done += ["--yes"] if word == "remove" else []
                    subprocess.run(done, env=environment(), timeout=DEADLINE, check=True, capture_output=True)
                socket.create_connection(("127.0.0.1", port), DEADLINE).close()
                new.signal(signal.SIGTERM)
                manager.hear("STOPPING=1")
                assert new.wait() == 0
