"""The log: one line for each connection, and what the program has to say of itself.

A line is formatted where it arises and handed to a `Sink`, whose native thread writes batches to standard output. So a
terminal that was paused or a full pipe never stops the hub; when the sink is full, lines are dropped and the next
batch says how many.

Nothing that a client sends or an operator configures can forge a line or a field: host names have passed normalisation,
protocol names and details are escaped to printable ASCII, and values with more in them than a plain word are quoted.
"""

import json
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

from mcproxy.model import Connection, Exchanges, Origin, host_port

MAX_WAITING = 50_000  # lines, some 15 MB: several seconds of the fastest flood, before lines are dropped
CLOSING_TIME = 1.0  # seconds for the last lines: a reader that has stalled must not keep the process from exiting
BATCH_DELAY = 0.05  # seconds between a line and its writing: one system call for many lines

MAX_PROTOCOLS = 8  # that are shown: clients offer two or three, a hello has room for thousands
MAX_HOST = 300  # bytes of an authority that is worth remembering: the longest name, and a port
MAX_SHOWN = 2048  # bytes of a path and the like: longer ones would make the log the target

Format = Literal["text", "json"]
RequestLines = Callable[
    [Exchanges, float], list[str]
]  # exchanges that have just ended, and when: seconds since the epoch

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")  # printable ASCII but the blank, quotation marks, "=" and the backslash
# What moves a terminal's cursor or ends a line, but for the line feed, as it is shown in messages.
_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(10), *range(11, 32), *range(127, 160), 0x2028, 0x2029)}

_VERSIONS = {0x0300: "ssl3", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}


class Sink:
    """Writes lines to a descriptor from a thread of its own."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.formatter: logging.Formatter = _Text()  # of what the sink itself has to say; `configure` sets it
        self._rest = memoryview(b"")  # of the batch that is being written
        self._lines: deque[str] = deque()  # its extend and popleft are atomic
        self._dropped = 0  # ever
        self._reported = 0  # of these
        self._there_is_work = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Sink waiting={len(self._lines)} dropped={self._dropped}>"

    @property
    def dropped(self) -> int:
        """Lines that were read too slowly, ever."""
        return self._dropped

    def put(self, lines: Sequence[str]) -> None:
        """Queue lines, each of which ends in a newline. Never blocks; any thread may call it."""
        if len(self._lines) >= MAX_WAITING:
            self._dropped += len(lines)
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
            self._dropped += len(self._lines) + bytes(self._rest).count(b"\n")
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
        if missing := self._dropped - self._reported:
            self._reported += missing
            lines.append(self._told(missing))
        self._rest = memoryview("".join(lines).encode("utf-8", "backslashreplace"))
        while self._rest:
            try:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
            except BlockingIOError:  # a descriptor that another program made non-blocking
                time.sleep(BATCH_DELAY)
            except OSError:
                self._rest = memoryview(b"")  # nobody reads, so there is nobody to tell

    def _told(self, missing: int) -> str:
        message = "%d lines dropped: they were read too slowly"
        return self.formatter.format(logging.LogRecord(__name__, logging.WARNING, "", 0, message, (missing,), None))


@lru_cache(maxsize=1)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=1024)
def version_names(versions: tuple[int, ...]) -> tuple[str, ...]:
    """TLS versions as people say them."""
    return tuple(_VERSIONS.get(version, f"0x{version:04x}") for version in versions)


def protocol_names(alpn: tuple[bytes, ...]) -> tuple[str, ...]:
    """The first ALPN protocols in printable ASCII, without blanks and commas."""
    return _escaped(alpn[:MAX_PROTOCOLS])


@lru_cache(maxsize=1024)
def _escaped(alpn: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(
        "".join(chr(c) if 0x20 < c < 0x7F and c not in b',"\\=' else f"\\x{c:02x}" for c in protocol)
        for protocol in alpn
    )


_in_json = json.JSONEncoder().encode  # json.dumps takes twice as long to say the same


def _quoted(text: str) -> str:
    """In quotation marks, in printable ASCII."""
    return _in_json(text).replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is


@lru_cache(maxsize=1024)
def _value(text: str) -> str:
    """What was configured, quoted unless it is one plain word; "-" is nothing."""
    return text if _PLAIN.fullmatch(text) else _quoted(text) if text else "-"


def _joined(names: tuple[str, ...]) -> str:
    return ",".join(names) or "-"


def connection_text(c: Connection) -> str:
    """One line: time, level, then key=value; "-" is nothing."""
    host, port = c.client
    client = host_port(host, port)
    detail = f" detail={_quoted(c.detail)}" if c.detail else ""
    return (
        f"{timestamp(c.started + c.duration)} info connection id={c.id} listener={_value(c.listener)} client={client} "
        f"sni={c.sni or '-'} route={_value(c.route)} mode={c.mode or '-'} backend={_value(str(c.backend or ''))} "
        f"verdict={c.verdict} reason={c.reason} end={c.end} up={c.bytes_up} down={c.bytes_down} "
        f"duration={c.duration:.3f} tls={_joined(version_names(c.versions))} alpn={_joined(protocol_names(c.alpn))} "
        f"ech={'yes' if c.ech else 'no'}{detail}\n"
    )


def connection_fields(c: Connection) -> dict[str, object]:
    """The same for machines: what the JSON line and the admin API show."""
    host, port = c.client
    return {
        "time": timestamp(c.started + c.duration),
        "level": "info",
        "event": "connection",
        "id": c.id,
        "listener": c.listener,
        "client": host,
        "client_port": port,
        "sni": c.sni,
        "route": c.route,
        "mode": c.mode,
        "backend": str(c.backend or ""),
        "verdict": c.verdict,
        "reason": c.reason,
        "end": c.end,
        "bytes_up": c.bytes_up,
        "bytes_down": c.bytes_down,
        "duration": round(c.duration, 6),
        "tls_versions": version_names(c.versions),
        "alpn": protocol_names(c.alpn),
        "ech": c.ech,
        "detail": c.detail,
    }


def connection_json(c: Connection) -> str:
    """One JSON object on one line, in ASCII."""
    return json.dumps(connection_fields(c)) + "\n"


CONNECTION_LINE: dict[Format, Callable[[Connection], str]] = {"text": connection_text, "json": connection_json}


def _shown(raw: bytes) -> str:
    """What a client wrote, quoted, cut, in printable ASCII."""
    text = raw[:MAX_SHOWN].decode("latin-1") + ("..." if len(raw) > MAX_SHOWN else "")
    return _quoted(text)


_often = lru_cache(maxsize=256)(_shown)


def _often_shown(raw: bytes) -> str:
    """The same of methods and hosts, which are few where paths are many; a long one is nobody's to keep."""
    return _often(raw) if len(raw) < MAX_HOST else _shown(raw)


@lru_cache(maxsize=1024)
def _asked_text(method: bytes, authority: bytes, path: bytes) -> str:
    return f"method={_often_shown(method)} authority={_often_shown(authority)} path={_shown(path)}"


@lru_cache(maxsize=1024)
def _asked_json(method: bytes, authority: bytes, path: bytes) -> str:
    words = {"method": method, "authority": authority, "path": path}
    return json.dumps({key: raw[:MAX_SHOWN].decode("latin-1") for key, raw in words.items()})[1:-1]


def requests_text(origin: Origin) -> RequestLines:
    """One line for each: time, level, then key=value. All of one read end at one time, which is told once."""
    host, port = origin.client
    client = host_port(host, port)
    first = f" info request id={origin.connection} stream="
    second = f" protocol={origin.protocol} listener={_value(origin.listener)} client={client} "
    second += f"route={_value(origin.route)} "

    def lines(exchanges: Exchanges, now: float) -> list[str]:
        begin = timestamp(now) + first
        return [
            f"{begin}{e.id}{second}{_asked_text(e.method, e.request.authority, e.request.path)} status={e.status} "
            f'end="{e.end}" up={e.bytes_up} down={e.bytes_down} duration={e.ended - e.started:.3f}\n'
            for e in exchanges
        ]

    return lines


def requests_json(origin: Origin) -> RequestLines:
    """One JSON object on one line for each, in ASCII; what a client wrote is read as Latin-1."""
    host, port = origin.client
    first = f'", "level": "info", "event": "request", "id": {origin.connection}, "stream": '
    second = {
        "protocol": origin.protocol, "listener": origin.listener, "client": host, "client_port": port,
        "route": origin.route,
    }  # fmt: skip
    middle = f", {json.dumps(second)[1:-1]}, "

    def lines(exchanges: Exchanges, now: float) -> list[str]:
        begin = f'{{"time": "{timestamp(now)}{first}'
        return [
            f"{begin}{e.id}{middle}{_asked_json(e.method, e.request.authority, e.request.path)}, "
            f'"status": {e.status}, "end": "{e.end}", "bytes_up": {e.bytes_up}, "bytes_down": {e.bytes_down}, '
            f'"duration": {e.ended - e.started:.6f}}}\n'
            for e in exchanges
        ]

    return lines


REQUEST_LINES: dict[Format, Callable[[Origin], RequestLines]] = {"text": requests_text, "json": requests_json}


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

    def emit(self, record: logging.LogRecord) -> None:
        self._sink.put((self.format(record),))


def configure(sink: Sink, level: str, style: Format) -> logging.Handler:
    """Send the package's own messages to the sink, which speaks like them from now on.

    Returns the handler, for `logging.Logger.removeHandler`.
    """
    handler = _Handler(sink)
    sink.formatter = handler.formatter = _Text() if style == "text" else _Json()
    logger = logging.getLogger("mcproxy")
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    logger.propagate = False
    return handler
