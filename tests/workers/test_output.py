"""What workers write: whole lines in their order, and each line of standard error as an error of theirs."""

import os
from collections.abc import Iterator

import pytest

from mcproxy.workers import output
from mcproxy.workers.output import Output
from tests.kit.peers import DEADLINE, until


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def reading(lines: list[str]) -> Iterator[Output]:
    running = Output(lines.extend)
    yield running
    running.close(DEADLINE)


def test_lines_are_whole_however_they_come(reading: Output, lines: list[str]) -> None:
    read, write = os.pipe()
    reading.read_log(read)
    for part in (b"one\ntw", b"o\n", b"thr", b"ee\nthe last, cut"):
        os.write(write, part)
    until(lambda: lines == ["one\n", "two\n", "three\n"])
    os.close(write)
    until(lambda: lines[3:] == ["the last, cut\n"])


def test_a_line_without_an_end_does_not_grow_for_ever(reading: Output, lines: list[str]) -> None:
    read, write = os.pipe()
    reading.read_log(read)
    sent = 0
    while sent <= output.MAX_LINE:
        sent += os.write(write, b"x" * 60_000)
    until(lambda: lines)
    os.close(write)


def test_standard_error_is_logged_under_a_name(reading: Output, caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    reading.read_errors(read, "worker 3")
    os.write(write, b'Fatal Python error: Aborted\n  File "x.py"\n')
    until(lambda: len(caplog.messages) == 2)
    os.close(write)
    assert caplog.messages == ["worker 3: Fatal Python error: Aborted", 'worker 3:   File "x.py"']
