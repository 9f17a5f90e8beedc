"""Signals in a process of their own: the second one ends it, whatever its main thread and its log are doing."""

import signal
import sys
from pathlib import Path

import pytest

from tests.kit.program import Program, environment

MAIN = """
import ctypes, sys, threading
from mcproxy.signals import Signals

signals = Signals()
woken = threading.Event()
if "late" not in sys.argv:
    signals.wake(woken.set)
if "stuck" in sys.argv:
    signals.last_words = threading.Event().wait
print("ready", flush=True)
if "hangs" in sys.argv:
    wait = ctypes.CDLL(None).pause  # in C, where no handler of Python's runs; a signal ends one
    wait(), wait(), wait()
elif "late" in sys.argv:
    while signals.stop is None:
        pass
    signals.wake(woken.set)
assert woken.wait(60)
print("told", repr(signals), flush=True)
"""


def started(folder: Path, *how: str) -> Program:
    (folder / "main.py").write_text(MAIN)
    program = Program(sys.executable, folder / "main.py", *how, env=environment())
    program.line("ready")
    return program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["early", "late"])
def test_the_first_one_is_told(tmp_path: Path, number: signal.Signals, how: str) -> None:
    with started(tmp_path, how) as program:
        program.signal(number)
        program.line(f"told <Signals stop={number!r}>".replace(f"{number!r}", str(number.value)))
        assert program.wait() == 0


@pytest.mark.parametrize("how", [["hangs"], ["hangs", "stuck"]], ids=["main", "main and log"])
def test_the_second_one_ends_it_at_once(tmp_path: Path, how: list[str]) -> None:
    """Handlers of Python's and callbacks of the hub never ran again while the main thread hung in a system call."""
    with started(tmp_path, *how) as program:
        program.signal(signal.SIGTERM)
        program.signal(signal.SIGINT)
        assert program.wait() == 1
