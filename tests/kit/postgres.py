"""A PostgreSQL server of the tests' own: in a folder, on a UNIX socket and a port of 127.0.0.1.

The server refuses to run as root, so root's tests run it as the user that Debian's package makes.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.kit.peers import DEADLINE, free_port

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "unix_socket_permissions": "0777",
    "fsync": "off",  # the machine stays up: only processes end here
}
USER = "postgres"


def program(name: str) -> str:
    """A program of the server's package, which Debian keeps out of PATH."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), "")
    assert found, f"{name} is missing: tests/install-peers.sh installs it"
    return os.path.realpath(found)


def _as_server_user() -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []


class PostgresServer:
    """One server. `stop`, `kill`, `freeze` and `start` are what happens to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        self._run([program("initdb"), "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-N", "-E", "UTF8"])

    def _run(self, command: list[str]) -> None:
        whole = [*_as_server_user(), *command]
        done = subprocess.run(whole, check=False, capture_output=True, timeout=DEADLINE * 3, cwd="/")
        assert done.returncode == 0, done.stderr.decode()

    def url(self, database: str = USER, host: str = "127.0.0.1") -> str:
        return f"postgresql://{USER}@{host}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        command = [program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_server_user(), *command, "-k", str(self.folder), *options], stdout=log, stderr=log, cwd="/"
            )
        end = time.monotonic() + DEADLINE * 3
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, (self.folder / "log").read_text()
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts its connections and writes all to disk, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(DEADLINE * 3)
            self._process = None

    def create(self, database: str) -> str:
        """Make an empty database; returns its URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def execute(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the administrator; returns the rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server, in a folder that its user can reach, which pytest's folders are not."""
    with tempfile.TemporaryDirectory(prefix="mcproxy-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()
