"""The log's thread: it never blocks, and says what it dropped."""

import array
import fcntl
import json
import logging
import os
import termios
import threading

import pytest

from mcproxy import log
from mcproxy.lines import Format
from mcproxy.log import (
    Sink,
)
from tests.kit.peers import DEADLINE, until


def test_a_sink_writes_every_line_in_order() -> None:
    reading, writing = os.pipe()
    sink = Sink(writing)
    for i in range(1000):
        sink.put([f"{i}\n"])
    sink.close()
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert [int(line) for line in lines] == list(range(1000))


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_sink_that_nobody_reads_drops_and_says_so(style: Format) -> None:
    reading, writing = os.pipe()
    sink = Sink(writing)
    logging.getLogger("mcproxy").removeHandler(log.configure(sink, "info", style))
    # The pipe holds 64 KiB, so the thread is stuck in its first batch: on a busy machine that is all that may wait.
    total = 2 * log.MAX_WAITING + 1000
    for _ in range(total):
        sink.put(["x" * 99 + "\n"])
    with os.fdopen(reading) as lines:

        def close() -> None:
            sink.close()
            os.close(writing)

        closing = threading.Thread(target=close)
        closing.start()
        written = lines.readlines()
        closing.join()
    told = [line for line in written if not line.startswith("x")]
    if style == "json":
        told = ["log: " + json.loads(line)["message"] for line in told]
    dropped = [int(line.split("log: ")[1].split()[0]) for line in told]
    assert dropped
    assert sum(dropped) + len(written) - len(dropped) == total


def test_lines_that_can_not_be_written_are_counted_and_reported_once_others_can() -> None:
    """They were lost without a word, and the first line after them went on where the last one had been cut."""
    reading, writing = os.pipe()
    pipe, full = os.dup(writing), os.open("/dev/full", os.O_WRONLY)
    os.set_blocking(writing, False)
    capacity = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    sink = Sink(writing)
    line, total = "x" * 999 + "\n", capacity // 1000 + 100
    sink.put([line] * total)
    until(lambda: _waiting(reading) == capacity)  # which ends inside a line
    os.dup2(full, writing)
    until(lambda: sink.dropped == total - capacity // 1000 - 1)
    sink.put(["one more\n"])
    until(lambda: sink.dropped == total - capacity // 1000)
    begun = os.read(reading, capacity)
    os.dup2(pipe, writing)
    sink.put(["the next\n"])
    sink.close()
    for each in (writing, pipe, full):
        os.close(each)
    with os.fdopen(reading) as rest:
        *lines, report, last = (begun.decode() + rest.read()).splitlines(keepends=True)
    assert lines == [line] * (capacity // 1000 + 1)
    reason = "they couldn't be written (No space left on device)"
    assert report.endswith(f"log: {total - capacity // 1000} lines dropped: {reason}\n")
    assert last == "the next\n"


def _waiting(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_a_sink_outlives_its_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = Sink(writing)
    sink.put(["nobody reads this\n"])
    sink.close()
    os.close(writing)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_sink_that_nobody_reads_does_not_keep_the_process_from_exiting(blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    lines = 1000
    sink = Sink(writing)
    for _ in range(lines):
        sink.put(["x" * 999 + "\n"])
    closing = threading.Thread(target=sink.close, daemon=True)
    closing.start()
    closing.join(DEADLINE)
    assert not closing.is_alive()
    dropped = int(repr(sink).rpartition("=")[2][:-1])
    os.set_blocking(reading, False)
    pipe = len(os.read(reading, lines * 1000))
    # A pipe that blocks is written in one call, which does not say how far it came.
    assert dropped == lines if blocking else dropped == lines - pipe // 1000
    os.close(reading)  # so that the thread ends
    sink._thread.join(DEADLINE)
    assert not sink._thread.is_alive()
    os.close(writing)


@pytest.mark.parametrize("style", ["text", "json"])
def test_messages_go_to_the_sink_a_traceback_too(style: Format) -> None:
    reading, writing = os.pipe()
    sink = Sink(writing)
    handler = log.configure(sink, "info", style)
    try:
        logger = logging.getLogger("mcproxy.net.session")
        logger.debug("not shown")
        logger.warning("one\rof\x1b[A many\u2028 lines")
        try:
            raise RuntimeError("a bug")
        except RuntimeError:
            logger.exception("in %s", "a session")
    finally:
        logging.getLogger("mcproxy").removeHandler(handler)
        sink.close()
        os.close(writing)
    with os.fdopen(reading) as lines:
        written = lines.read()
    if style == "json":
        event = json.loads(written.splitlines()[1])
        assert event["level"] == "error"
        assert event["message"].startswith("in a session\nTraceback")
    else:
        strange, first, *rest = written.splitlines()
        assert strange.endswith(r" warning session: one\x0dof\x1b[A many\x2028 lines")
        assert first.endswith(" error session: in a session")
        assert all(line.startswith("  ") for line in rest)
        assert rest[-1] == "  RuntimeError: a bug"
