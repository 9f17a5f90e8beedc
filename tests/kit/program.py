"""The real program: `mcproxy server` in a process of its own, with its output read as it comes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

from tests.kit.peers import DEADLINE, until

ROOT = Path(__file__).parent.parent.parent
# Of each server that a test configures and that sets no number itself: `TEST_WORKERS=2 pytest tests/e2e/test_x.py`.
WORKERS = int(os.environ.get("TEST_WORKERS", "1"))


def toml(value: Any) -> str:
    """A document, or a value in one, as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def write_config(folder: Path, document: dict[str, Any]) -> Path:
    """A configuration file; what is required and not given is added."""
    path = folder / "mcproxy.toml"
    whole = {"database": {"path": "mcproxy.db"}, **document}
    if WORKERS > 1:
        whole["proxy"] = {"workers": WORKERS, **whole.get("proxy", {})}
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in whole.items()))
    return path


REPORT_SECONDS = 600.0  # for a program of the kit; each takes some 20, on a loaded machine many times that


def report_of(program: str, *arguments: object) -> Any:
    """What a program of the kit prints, as JSON; it has to succeed. Its own process may fork, kill and end."""
    command = [sys.executable, "-m", f"tests.kit.{program}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=REPORT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def environment(**changes: str) -> dict[str, str]:
    """What the program finds this tree with, wherever it is started."""
    ours = {name for name in os.environ if name.startswith("MCPROXY_") and name != "MCPROXY_PURE"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


@contextmanager
def bounded(*command: str | Path, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process with its output in pipes that is killed after DEADLINE, so that nobody reads or waits for ever."""
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        deadline = threading.Timer(DEADLINE, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            deadline.join()
            process.kill()


class Program:
    """A started program; `out` and `err` are the lines that it has written so far."""

    def __init__(self, *command: str | Path, **options: Any) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        pipes = ((self.process.stdout, self.out), (self.process.stderr, self.err))
        self._readers = [threading.Thread(target=self._read, args=each, daemon=True) for each in pipes]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe: TextIO, lines: list[str]) -> None:
        with pipe:
            for line in pipe:
                lines.append(line)  # noqa: PERF402 - to be seen at once

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Its exit status, when it has ended and all that it wrote is read."""
        status = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def line(self, *parts: str) -> str:
        """Wait for a line of its output with all of these in it."""

        found: list[str] = []

        def look() -> bool:
            over = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
            found[:] = [line for line in [*self.out, *self.err] if all(part in line for part in parts)]
            assert found or not over, f"it has ended without {parts}: {''.join([*self.out, *self.err])}"
            return bool(found)

        until(look, f"a line with {parts}")
        return found[0]


class Server(Program):
    """`mcproxy server` with this configuration, listening."""

    def __init__(self, folder: Path, document: dict[str, Any], prefix: Sequence[str] = ()) -> None:
        """`prefix` begins the command, such as with a namespace to enter."""
        path = write_config(folder, document)
        super().__init__(*prefix, sys.executable, "-m", "mcproxy", "server", "-c", path, env=environment())
        try:
            self.line("started, generation")
        except BaseException:
            self.close()
            raise

    def connections(self, count: int) -> list[str]:
        """Wait until that many connections have been told of; their lines."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [line for line in self.out if " connection id=" in line or '"event": "connection"' in line]
            return len(found) >= count

        until(look, f"{count} lines of connections")
        return found
