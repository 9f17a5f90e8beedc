"""The log's thread, and the program's own messages.

The caller formats a line and hands it to a `Sink`, whose native thread writes batches to standard output. So a paused
terminal or a full pipe never stops the hub; when the sink is full, lines are dropped and the next batch reports how
many. Where lines can't be written (a full disk), they are dropped too, which the first write that succeeds reports. A
write may end inside a line: the rest of that line is kept, and completes it later, so that every line is whole.
"""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence

from mcproxy.lines import Format, timestamp

MAX_WAITING = 50_000  # lines, some 15 MB: several seconds of the fastest flood, before lines are dropped
CLOSING_TIME = 1.0  # seconds for the last lines: a reader that has stalled must not keep the process from exiting
LINE_FEED = 10
BATCH_DELAY = 0.05  # seconds between a line and its writing: one system call for many lines

# Escapes for the characters that move a terminal's cursor or end a line, except the line feed.
_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(10), *range(11, 32), *range(127, 160), 0x2028, 0x2029)}


class _Missing:
    """Lines that are missing for one reason."""

    __slots__ = ("count", "reported", "why")

    def __init__(self, why: str) -> None:
        self.why = why
        self.count = 0  # ever
        self.reported = 0  # of these

    def line(self, new: int, formatter: logging.Formatter) -> str:
        """The line that reports some of them."""
        message = "%d lines dropped: they %s"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, message, (new, self.why), None)
        return formatter.format(record)


class Sink:
    """Writes lines to a descriptor from a thread of its own."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.formatter: logging.Formatter = _Text()  # of what the sink itself has to say; `configure` sets it
        self._rest = memoryview(b"")  # of the batch that is being written
        self._lines: deque[str] = deque()  # its extend and popleft are atomic
        self._cut = b""  # the rest of a line whose beginning has been written
        self._unread = _Missing("were read too slowly")
        self._lost = _Missing("couldn't be written")
        self._there_is_work = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Sink waiting={len(self._lines)} dropped={self.dropped}>"

    @property
    def dropped(self) -> int:
        """Lines that were read too slowly or couldn't be written, ever."""
        return self._unread.count + self._lost.count

    def put(self, lines: Sequence[str]) -> None:
        """Queue lines, each of which ends in a newline. Never blocks; any thread may call it."""
        if len(self._lines) >= MAX_WAITING:
            self._unread.count += len(lines)
            return
        self._lines.extend(lines)
        if not self._there_is_work.is_set():
            self._there_is_work.set()

    def close(self) -> None:
        """Write what is queued and end the thread.

        Where the reader takes more than CLOSING_TIME, the rest counts as dropped; the thread ends with the process.
        """
        self._closing.set()
        self._there_is_work.set()
        self._thread.join(CLOSING_TIME)
        if self._thread.is_alive():
            self._unread.count += len(self._lines) + bytes(self._rest).count(b"\n")
            self._lines.clear()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._there_is_work.wait()
            self._closing.wait(BATCH_DELAY)
            self._there_is_work.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        self._report(self._lost)
        self._lost.count += self._write("".join(lines))
        self._report(self._unread)

    def _report(self, missing: "_Missing") -> None:
        """Write how many are missing that no line has reported yet."""
        new = missing.count - missing.reported
        if new and self._write(missing.line(new, self.formatter)) == 0:
            missing.reported += new

    def _write(self, lines: str) -> int:
        """Write them. Returns how many are lost; one that was cut isn't."""
        self._rest = memoryview(self._cut + lines.encode("utf-8", "backslashreplace"))
        is_cut = bool(self._cut)
        self._cut = b""
        while self._rest:
            try:
                written = os.write(self._descriptor, self._rest)
            except BlockingIOError:  # a descriptor that another program made non-blocking
                time.sleep(BATCH_DELAY)
            except OSError as error:  # a full disk; or no reader, to whom nothing can be reported
                self._lost.why = f"couldn't be written ({error.strerror})"
                return self._give_up(is_cut)
            else:
                is_cut = self._rest[written - 1] != LINE_FEED if written else is_cut
                self._rest = self._rest[written:]
        return 0

    def _give_up(self, is_cut: bool) -> int:
        """Drop what is left of a batch, but for the rest of a line that has been begun. Returns how many are lost."""
        rest = bytes(self._rest)
        self._rest = memoryview(b"")
        if is_cut:
            line, feed, rest = rest.partition(b"\n")
            self._cut = line + feed
        return rest.count(b"\n")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record).translate(_CONTROLS)
        message = message.replace("\n", "\n  ")  # a traceback's lines can't pass for lines of their own
        return f"{timestamp(record.created)} {record.levelname.lower()} {record.name.rpartition('.')[2]}: {message}\n"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": "message",
            "logger": record.name,
            "message": super().format(record),
        }
        return json.dumps(event) + "\n"


class _Handler(logging.Handler):
    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def write_as(self, style: Format) -> None:
        self._sink.formatter = self.formatter = _Text() if style == "text" else _Json()

    def emit(self, record: logging.LogRecord) -> None:
        self._sink.put((self.format(record),))


def configure(sink: Sink, level: str, style: Format) -> logging.Handler:
    """Send the package's own messages to the sink, whose own messages have their form from now on.

    Returns the handler, for `logging.Logger.removeHandler`.
    """
    handler = _Handler(sink)
    handler.write_as(style)
    logger = logging.getLogger("mcproxy")
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    logger.propagate = False
    return handler


def write_as(style: Format) -> None:
    """Write the messages of the package and of its sink in this format from now on."""
    for handler in logging.getLogger("mcproxy").handlers:
        if isinstance(handler, _Handler):
            handler.write_as(style)
