"""A PostgreSQL server of the tests' own: in a folder, on a UNIX socket and a port of 127.0.0.1, or of another address.

The server refuses to run as root, so root's tests run it as the user that Debian's package makes.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import psycopg

from tests.kit.peers import DEADLINE, free_port, until

SETTINGS = {
    "shared_buffers": "16MB",
    "max_connections": "60",
    "unix_socket_permissions": "0777",
    "fsync": "off",  # the machine stays up: only processes end here
}
USER = "postgres"
OF_NEIGHBOURS = "host all all samenet trust\nhost replication all samenet trust\n"  # lines of pg_hba.conf


def program(name: str) -> str:
    """A program of the server's package. Debian keeps it out of PATH, or has a wrapper there that looks for it."""
    debians = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = str(debians[-1]) if debians else shutil.which(name)
    assert found, f"{name} is missing: tests/install-peers.sh installs it"
    return os.path.realpath(found)


def _as_server_user() -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []


class PostgresServer:
    """One server. `stop` and `start` are what happens to it."""

    def __init__(
        self, folder: Path, address: str = "127.0.0.1", prefix: Sequence[str] = (),
        primary: "PostgresServer | None" = None, settings: Mapping[str, str] = MappingProxyType({}), port: int = 0,
    ) -> None:  # fmt: skip
        """On a host of `address`, with commands that begin with `prefix`; a standby, where it has a primary."""
        self.folder = folder
        self.address = address
        self.port = port or free_port()
        self._prefix = prefix
        self._settings = {**SETTINGS, "listen_addresses": address, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        data = ["-D", str(folder / "data")]
        if primary is None:
            self._run([program("initdb"), *data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8", "--wal-segsize=1"])
        else:
            source = ["-h", primary.address, "-p", str(primary.port), "-U", USER]
            self._run([program("pg_basebackup"), *data, *source, "-R", "-X", "stream", "-c", "fast", "-N"])
        if address != "127.0.0.1" and primary is None:
            with (folder / "data/pg_hba.conf").open("a") as rules:
                rules.write(OF_NEIGHBOURS)

    def _run(self, command: list[str]) -> None:
        whole = [*self._prefix, *_as_server_user(), *command]
        done = subprocess.run(whole, check=False, capture_output=True, timeout=DEADLINE * 3, cwd="/")
        assert done.returncode == 0, done.stderr.decode()

    def url(self, database: str = USER, host: str = "") -> str:
        return f"postgresql://{USER}@{host or self.address}:{self.port}/{database}"

    @property
    def runs(self) -> bool:
        """False once it has been stopped, or has ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the first of its processes."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            whole = [*self._prefix, *_as_server_user(), *command, "-k", str(self.folder), *options]
            self._process = subprocess.Popen(whole, stdout=log, stderr=log, cwd="/")
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
        """End it: SIGINT cuts its connections and writes all to disk, SIGQUIT and SIGKILL are crashes."""
        if self._process is not None:
            children = _children(self._process.pid)
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(DEADLINE * 3)
            self._process = None
            until(lambda: not any(map(_lives, children)), "the server's own processes to end")

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


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended by itself
        return []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


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
