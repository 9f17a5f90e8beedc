"""A reload that knows when it takes a new process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcproxy.takeover.predecessor import Predecessor
from mcproxy.takeover.renewal import NO_EDITION, Edition, RenewalError, Stranger, begin, due, hang_up, look, renew
from mcproxy.takeover.seat import Seat
from mcproxy.takeover.successor import Identity
from tests.kit.peers import DEADLINE, until
from tests.takeover.test_predecessor import Remembered

RUNS = Edition("program", "keys")
ENDED = [sys.executable, "-c", ""]
STAYS = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def seat(nothing_left: None, tmp_path: Path) -> Seat:
    return Seat(tmp_path / "mcproxy.db")


@pytest.fixture
def served(seat: Seat) -> Iterator[Seat]:
    """A seat on which this process is."""
    server = Predecessor(seat, seat.listen(), Identity("/x", (0, 0), RUNS), Remembered())
    server.start()
    yield seat
    server.close()


@pytest.fixture
def child() -> Iterator[Callable[[list[str]], int]]:
    """Begins processes that are ended in the end."""
    made: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> int:
        made.append(subprocess.Popen(command))
        return made[-1].pid

    yield start
    for each in made:
        each.kill()
        each.wait(DEADLINE)


def test_the_server_that_runs_says_who_it_is(served: Seat) -> None:
    assert look(served) == look(served) == (os.getpid(), RUNS)


@pytest.mark.parametrize(
    ("on_disk", "why"),
    [
        (RUNS, ""),
        (Edition("another", "keys"), "the program has been replaced on the disk"),
        (Edition("program", "others"), "a key has changed that needs a new process"),
        (NO_EDITION, "the program has been replaced on the disk"),
    ],
)
def test_another_program_or_another_key_takes_a_new_process(on_disk: Edition, why: str, served: Seat) -> None:
    assert due(served, os.getpid(), on_disk) == why


def test_a_server_that_nobody_can_succeed_only_reloads(seat: Seat) -> None:
    """As a node of a fleet; and one that hangs would not answer a successor either."""
    assert due(seat, os.getpid(), RUNS) is None
    with seat.listen():  # and nobody accepts
        assert due(seat, os.getpid(), RUNS, 0.05) is None


def test_another_process_than_the_service_manager_knows_is_left_alone(served: Seat) -> None:
    with pytest.raises(Stranger, match=f"process {os.getpid()} runs with this database, not process 1"):
        due(served, 1, RUNS)


def test_it_is_done_when_the_new_one_serves(served: Seat) -> None:
    assert renew(served, os.getpid) == os.getpid()


def test_a_new_one_that_ends_has_failed(served: Seat, child: Callable[[list[str]], int]) -> None:
    with pytest.raises(RenewalError, match=r"process \d+, has ended: its log says why"):
        renew(served, lambda: child(ENDED))


def test_a_new_one_that_does_not_come_to_serve_is_killed(served: Seat, child: Callable[[list[str]], int]) -> None:
    killed: list[int] = []

    def kill(process: int, number: int) -> None:
        signal.pidfd_send_signal(process, number)
        killed.append(number)

    with pytest.raises(RenewalError, match=r"has not taken over in 0\.2 s and was killed"):
        renew(served, lambda: child(STAYS), 0.2, kill)
    assert killed == [signal.SIGKILL]


def test_what_is_begun_is_nobodys_child_and_knows_nothing_of_our_manager(tmp_path: Path) -> None:
    """The old server names its manager; its own parent has ended by the time that it is named itself."""
    says = "import os, sys; print(os.getpid(), os.getppid(), sorted(os.environ), file=open(sys.argv[1], 'w'))"
    environ = {**os.environ, "NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "OURS": "1"}
    pid = begin([sys.executable, "-c", says, str(tmp_path / "said")], environ)
    until(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text().endswith("\n"), "it to say so")
    own, parent, names = (tmp_path / "said").read_text().split(maxsplit=2)
    assert int(own) == pid
    assert int(parent) != os.getpid()
    assert "'OURS'" in names
    assert not {"'NOTIFY_SOCKET'", "'WATCHDOG_USEC'", "'LISTEN_FDS'"} & set(names.strip("[]\n").split(", "))


def test_a_command_that_there_is_not_is_an_error() -> None:
    with pytest.raises(RenewalError, match="/none can't be started"):
        begin(["/none"])


def test_a_server_that_has_ended_is_not_told_to_reload(child: Callable[[list[str]], int]) -> None:
    process = subprocess.Popen(ENDED)
    process.wait(DEADLINE)
    hang_up(process.pid)
