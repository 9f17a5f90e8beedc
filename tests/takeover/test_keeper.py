"""The parent whose process id stays, with a server that only does what it is told."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.peers import until
from tests.kit.program import Program, environment

# Started with SIGHUP blocked, as a supervisor may leave it: no reload came from it once.
KEEP = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
from mcproxy.takeover.keeper import keep
sys.exit(keep(sys.argv[1:]))
"""
# As `mcproxy server` and `mcproxy server --reload PID`: the old one learns of the new one by a file and a signal.
SERVER = """
import os, pathlib, signal, socket, sys
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # a signal may come while another one is answered
def left(*_):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"STATUS=x\\nMAINPID=" + pathlib.Path("next").read_bytes(), "\\0" + os.environ["NOTIFY_SOCKET"][1:])
    say("left", os.getpid())
if sys.argv[1:2] == ["--reload"]:
    from mcproxy.takeover.renewal import begin
    say("reload of", sys.argv[2])
    fresh = begin([sys.executable, sys.argv[0]], {**os.environ, "AGAIN": os.environ["NOTIFY_SOCKET"]})
    pathlib.Path("next").write_text(str(fresh))
    os.kill(int(sys.argv[2]), signal.SIGUSR1)
    sys.exit()
os.environ.setdefault("NOTIFY_SOCKET", os.environ.get("AGAIN", ""))
signal.signal(signal.SIGUSR1, left)
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(0))
signal.signal(signal.SIGTERM, lambda *_: (say("told to stop", os.getpid()), sys.exit(7)))
signal.signal(signal.SIGINT, lambda *_: say("told to stop", os.getpid()))
say("server", os.getpid())
while True:
    signal.pause()
"""


class Kept(Program):
    """A keeper; `server` waits for its nth server."""

    def __init__(self, folder: Path) -> None:
        (folder / "server.py").write_text(SERVER)
        command = [sys.executable, "-c", KEEP, sys.executable, str(folder / "server.py")]
        super().__init__(*command, env=environment(), cwd=folder)

    def server(self, number: int) -> int:
        def begun() -> list[str]:
            return [line for line in self.out if line.startswith("server ")]

        until(lambda: len(begun()) >= number, f"server {number}")
        return int(begun()[number - 1].split()[1])


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    program = Kept(tmp_path)
    yield program
    for line in program.out:
        if line.startswith("server "):
            try:
                os.kill(int(line.split()[1]), signal.SIGKILL)
            except ProcessLookupError:
                continue
    program.close()


def upgraded(kept: Kept, number: int) -> tuple[int, int]:
    """Have the server succeeded, which is the nth; the old one and the new one."""
    old = kept.server(number)
    kept.signal(signal.SIGHUP)
    new = kept.server(number + 1)
    kept.line(f"left {old}")
    return old, new


def test_it_ends_as_its_server_does(kept: Kept) -> None:
    pid = kept.server(1)
    kept.signal(signal.SIGTERM)
    assert kept.wait() == 7
    assert f"told to stop {pid}\n" in kept.out


def test_it_ends_with_a_server_that_is_killed(kept: Kept) -> None:
    os.kill(kept.server(1), signal.SIGKILL)
    assert kept.wait() == 128 + signal.SIGKILL


def test_it_follows_from_server_to_server(kept: Kept) -> None:
    """The second reload is that of the second server; and one that has drained ends nothing."""
    first, second = upgraded(kept, 1)
    os.kill(first, signal.SIGUSR2)
    until(lambda: not Path(f"/proc/{first}").exists(), "the first one to be gone")
    _, third = upgraded(kept, 2)
    kept.line(f"reload of {second}")
    assert Path(f"/proc/{third}/stat").read_text().rpartition(")")[2].split()[1] == str(kept.process.pid)
    kept.signal(signal.SIGTERM)
    kept.line(f"told to stop {third}")
    kept.line(f"told to stop {second}")
    assert kept.wait() == 7


def test_a_stop_waits_for_those_that_drain(kept: Kept) -> None:
    first, second = upgraded(kept, 1)
    kept.signal(signal.SIGINT)
    kept.line(f"told to stop {second}")
    kept.line(f"told to stop {first}")
    os.kill(second, signal.SIGUSR2)
    until(lambda: not Path(f"/proc/{second}").exists(), "the second one to be gone")
    assert kept.process.poll() is None
    os.kill(first, signal.SIGUSR2)
    assert kept.wait() == 0


def test_a_crash_waits_for_nobody(kept: Kept) -> None:
    """The supervisor starts another one at once, and who drains goes on."""
    first, second = upgraded(kept, 1)
    os.kill(second, signal.SIGKILL)
    assert kept.process.wait() == 128 + signal.SIGKILL
    os.kill(first, 0)


def test_a_successor_is_named_by_the_server_only(kept: Kept) -> None:
    pid = kept.server(1)
    address = "\0" + Path(f"/proc/{pid}/environ").read_text().split("NOTIFY_SOCKET=@")[1].split("\0")[0]
    stranger = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'MAINPID=1', sys.argv[1])"
    with Program(sys.executable, "-c", stranger.replace("sys.argv[1]", repr(address))) as program:
        assert program.wait() == 0, program.err
    kept.signal(signal.SIGTERM)
    kept.line(f"told to stop {pid}")
    assert kept.wait() == 7


def test_a_program_that_can_not_be_run_is_a_sentence(tmp_path: Path) -> None:
    """It was a traceback, where the supervisor's user can't reach the interpreter."""
    python = tmp_path / "python"
    python.touch()
    start = "import sys; sys.executable = sys.argv.pop(1); from mcproxy.cli.main import main; main()"
    with Program(sys.executable, "-c", start, python, "server", "--keep-pid", env=environment()) as program:
        assert program.wait() == 1
        until(lambda: program.err)
        assert program.err == [f"mcproxy: this user can't run {python}: Permission denied\n"]
