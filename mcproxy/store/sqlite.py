"""Everything that is SQLite's own: files, pragmas, transactions, VACUUM INTO, the words of its errors.

What PostgreSQL has instead is in postgres.py; nothing else of store/ differs.

Python's sqlite3 opens a transaction by itself before some statements and not before others (DDL). So that is switched
off, and we say `BEGIN`. A reader then sees one snapshot of the WAL and blocks no writer. A writer's first statement
must be a write: it waits for the lock (`BUSY_TIMEOUT`); a write after a read would fail at once with BUSY_SNAPSHOT.

`synchronous=FULL` makes a commit in WAL mode durable before it returns; NORMAL could lose the last ones in a power cut.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError

from mcproxy.store.dataset_alone import dataset
from mcproxy.store.errors import Conflict, NotOurs, StoreError, Unavailable
from mcproxy.store.schema import VERSION_TABLE

BUSY_TIMEOUT = 5.0  # seconds to wait for another process's lock: a backup tool holds it for a moment, not for longer
WAL_KEPT = 64 << 20  # bytes of WAL file kept after a checkpoint; a snapshot of 100,000 routes lets it grow meanwhile
POOL = 16  # connections: one for each native thread that may be in the database at one time
FILE_MODE = 0o600  # of a new database or snapshot: it holds every backend's address, and keys

CHANGED = "another process has changed it since this one loaded it; restart this one to see the change"

_GONE = (
    "the file was removed, replaced or emptied while mcproxy runs, so nothing can be changed: "
    "put it back, or stop mcproxy, restore a snapshot and start"
)

# SQLite's result codes (https://www.sqlite.org/rescode.html) that an operator can do something about.
_REMEDIES = {
    "SQLITE_FULL": "the disk is full: free some space on it",
    "SQLITE_BUSY": "another process holds its lock: end the program that has it open for writing",
    "SQLITE_LOCKED": "another process holds its lock: end the program that has it open for writing",
    "SQLITE_READONLY": "it is read-only: give mcproxy's user write permission on the file and on its folder",
    "SQLITE_CANTOPEN": "it can't be opened: check that the path exists and who may read and write there",
    "SQLITE_IOERR": "reading or writing the file failed: check the disk and the system's log",
    "SQLITE_CORRUPT": "the file is damaged: stop mcproxy and restore a snapshot",
    "SQLITE_NOTADB": "the file is not a SQLite database: check database.path",
    "SQLITE_CONSTRAINT": CHANGED,
}
_KINDS = {"SQLITE_CORRUPT": NotOurs, "SQLITE_NOTADB": NotOurs, "SQLITE_CONSTRAINT": Conflict}


@dataclass
class File:
    """A database file, as the place of a store."""

    path: Path
    opened: tuple[int, int] | None = None  # device and inode of the file that is written to
    certain: bool = True  # a commit that fails has not been done

    def __str__(self) -> str:
        return f"database {self.path}"

    def guard(self) -> AbstractContextManager[None]:
        """Turn errors of SQLAlchemy and sqlite3 into StoreError."""
        return errors(self.path)

    def before_commit(self, _database: dataset.Database) -> None:
        """Raise Unavailable if the file with this name is no longer the one that is open."""
        if self.opened is not None:
            refuse_moved(self.path, self.opened)

    def keep_private(self) -> bool:
        """Let only the owner read the file. Returns whether others could before."""
        return keep_private(self.path)


def connect(path: Path, busy_timeout: float = BUSY_TIMEOUT) -> dataset.Database:
    """Open a database file for reading and writing; creates an empty one. Touches nothing until it is used."""
    if not path.exists():
        _create(path)
    writing = ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={WAL_KEPT}")
    url = URL.create("sqlite", database=str(path))  # which quotes "?" and "%"
    return _connected(url, busy_timeout, writing)


def connect_for_reading(path: Path, busy_timeout: float = BUSY_TIMEOUT) -> dataset.Database:
    """Open a database file whether a server has it open or not, and change nothing, its folder included."""
    url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={**_untouched(path), "uri": "true"})
    return _connected(url, busy_timeout, ())


def _untouched(path: Path) -> dict[str, str]:
    """How to open a file that is to stay as it is (https://www.sqlite.org/uri.html).

    A reader of a WAL database makes its -wal and -shm files, and leaves them there because it may not write. If there
    is no -wal file, no process has the database open, and SQLite opens it without both (immutable).
    """
    return {"mode": "ro"} if has_log(path) else {"mode": "ro", "immutable": "1"}


def has_log(path: Path) -> bool:
    """True if a process has the database open, or the last one that had was killed: its WAL file is there."""
    return _wal(path).exists()


def _wal(path: Path) -> Path:
    """Where SQLite has a database's WAL file: beside the file itself, where `path` is a symbolic link to it."""
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}-wal")


def _connected(url: URL, busy_timeout: float, pragmas: Sequence[str]) -> dataset.Database:
    database = dataset.connect(
        str(url),
        ensure_schema=False,
        row_type=dict,
        sqlite_wal_mode=False,  # one of the pragmas, where it is written to
        engine_kwargs={"pool_size": POOL, "max_overflow": 0, "pool_timeout": busy_timeout},
    )

    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # no transactions by itself
        for pragma in (f"busy_timeout={int(busy_timeout * 1000)}", "foreign_keys=ON", *pragmas):
            connection.execute(f"PRAGMA {pragma}").close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    event.listen(database.engine, "connect", on_connect)
    event.listen(database.engine, "begin", on_begin)
    return database


def _create(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, FILE_MODE))
    except FileNotFoundError as error:
        folder = path.resolve().parent  # of a linked database
        remedy = f"there is no folder {folder}: make it, for mcproxy's user to write in"
        raise Unavailable(f"the database {path} can't be created: {remedy}") from error
    except OSError as error:
        raise Unavailable(f"the database {path} can't be created: {error.strerror}") from error


def keep_private(path: Path) -> bool:
    """Let only the owner read a database that holds keys. Returns whether others could before.

    SQLite gives the -wal and -shm files that it makes the same mode.
    """
    changed = False
    for each in exposed(path):
        with suppress(FileNotFoundError, PermissionError):  # a file of another owner is the operator's business
            each.chmod(stat.S_IMODE(each.stat().st_mode) & 0o700)
            changed = True
    return changed


def exposed(path: Path) -> list[Path]:
    """Which of a database's files others than their owner may use."""
    found = []
    for each in (path, _wal(path), _wal(path).with_name(f"{_wal(path).name.removesuffix('-wal')}-shm")):
        with suppress(FileNotFoundError, PermissionError):
            if each.stat().st_mode & 0o077:
                found.append(each)
    return found


def identity(path: Path) -> tuple[int, int]:
    """Device and inode of the file with this name. Raises Unavailable if it is missing or empty."""
    try:
        found = path.stat()
    except OSError as error:
        raise Unavailable(f"database {path}: {_GONE} ({error.strerror})") from error
    if not found.st_size:
        raise Unavailable(f"database {path}: {_GONE} (it is empty)")
    return found.st_dev, found.st_ino


def refuse_moved(path: Path, opened: tuple[int, int]) -> None:
    """Raise Unavailable if a commit would be lost: the file that this process has open isn't the one at `path`.

    To be called in a transaction that has written: then there is a WAL file.
    """
    if identity(path) != opened:
        raise Unavailable(f"database {path}: {_GONE} (it is another file)")
    if not _wal(path).exists():
        raise Unavailable(f"database {path}: {_GONE} (its -wal file is missing)")


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLAlchemy and sqlite3 into `Unavailable`, with the remedy.

    An error of SQLAlchemy is a variable of a frame in its own traceback. That cycle would keep the caller's frames, a
    call of the admin API among them, until the collector runs; gRPC refuses calls of a connection with too many.
    """
    try:
        yield
    except DBAPIError as error:
        error.__traceback__ = None
        raise _translated(path, error.orig or error) from error
    except sqlite3.Error as error:
        raise _translated(path, error) from error


def _translated(path: Path, error: BaseException) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    for code, remedy in _REMEDIES.items():
        if name.startswith(code):  # extended codes begin with their primary one
            return _KINDS.get(code, Unavailable)(f"database {path}: {remedy} ({name})")
    return Unavailable(f"database {path}: {error} ({name or type(error).__name__})")


def _open_for_reading(path: Path, options: Mapping[str, str]) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?{urlencode(options)}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT)
    connection.execute("PRAGMA foreign_keys=ON").close()
    return connection


def schema_version(path: Path) -> int | None:
    """The schema's version in a file, without changing a byte of it; None if it is empty.

    Raises NotOurs if it is not mcproxy's database, Unavailable if it can't be read.
    """
    with errors(path), closing(_open_for_reading(path, _untouched(path))) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not names:
            return None
        if VERSION_TABLE not in names:
            raise NotOurs(f"{path} is a SQLite database, but not one of mcproxy's: check database.path")
        (version,) = connection.execute(f"SELECT max(version) FROM {VERSION_TABLE}").fetchone()  # noqa: S608
        return int(version)


def copy_into(source: Path, target: Path) -> None:
    """Write a consistent copy of `source` into `target`, an empty file, while others go on writing to `source`."""
    with errors(source), closing(_open_for_reading(source, {"mode": "ro"})) as connection:
        connection.execute("VACUUM INTO ?", (str(target),)).close()


def defects(path: Path) -> list[str]:
    """The defects that SQLite finds in a file; empty if it is sound."""
    with errors(path), closing(_open_for_reading(path, _untouched(path))) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"dangling reference in {row[0]}" for row in connection.execute("PRAGMA foreign_key_check")]
        return found


def generation(path: Path) -> int:
    """The generation that a file holds."""
    with errors(path), closing(_open_for_reading(path, _untouched(path))) as connection:
        (last,) = connection.execute("SELECT max(generation) FROM audit").fetchone()
        return int(last or 0)
