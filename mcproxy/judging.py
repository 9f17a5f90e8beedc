"""Reads the configuration file in a process of its own, which ends when it has judged it.

pydantic and what it leaves behind are a sixth of what a server takes, and only a file is judged by it: at the start and
at each reload. What comes back is a `Config`, or a `ConfigError`. At the start the libraries are loaded meanwhile.
"""

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mcproxy.configuration import Config
from mcproxy.document import CONNECTED, ConfigError, Problem

END_SECONDS = 1.0  # for a process that has answered, or that was killed; one that its disk holds ends later

# The same search path as ours, and not the folder that we happen to be in, from which -m would import too.
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from mcproxy.judging import main; main(sys.argv[1])"


class Judge:
    """A process that reads a file. Leaving the context ends it."""

    def __init__(self, path: Path) -> None:
        """Begin. A file that a shell has connected is inherited, else nothing but the standard streams is."""
        self._path = path
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-P", "-c", _PROGRAM, str(path), *sys.path], stdout=subprocess.PIPE,
            close_fds=not str(path).startswith(CONNECTED), process_group=0,  # ^C is for us, who end it
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Judge {self._path} {self.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def config(self) -> Config:
        """Wait for the configuration. Raises ConfigError with every problem."""
        assert self._process.stdout is not None
        try:
            found = pickle.load(self._process.stdout)  # noqa: S301 - our own process
        except (EOFError, pickle.UnpicklingError):  # it was killed, or has no memory
            raise ConfigError(self._path, [Problem("", "can't be judged: the process that reads it died")]) from None
        if isinstance(found, ConfigError):
            raise found
        assert isinstance(found, Config)
        return found


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError with every problem."""
    with Judge(path) as judge:
        return judge.config()


def main(path: str) -> None:
    """Write what `config.load` returns or raises to standard output."""
    from mcproxy import config  # noqa: PLC0415 - this process only

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the server was told to stop meanwhile
    found: Config | ConfigError
    try:
        found = config.load(Path(path))
    except ConfigError as error:
        found = error
    pickle.dump(found, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
    sys.stdout.flush()
    os._exit(0)  # no thread that a disk holds is waited for
