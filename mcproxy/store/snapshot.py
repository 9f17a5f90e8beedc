"""A snapshot: a consistent copy of the database, whether the proxy runs or not.

SQLite writes the copy into a file of ours beside the target; it is opened, checked and synced there, and only then
gets its name, by a hard link: that is atomic, and fails where the name is taken. So a file that has a snapshot's name
is a whole and verified snapshot, and nothing is ever overwritten. To restore one: stop the proxy, copy it over
database.path, remove the files of that name with -wal and -shm, start.
"""

import glob
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mcproxy.store import schema, sqlite
from mcproxy.store.errors import Exists, StoreError, Unavailable


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that is on disk and was verified."""

    path: Path
    size: int  # bytes
    generation: int


def default_name(database: Path, at: float) -> str:
    """The database's name with the time (UTC) in it."""
    return f"{database.stem}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at))}{database.suffix or '.db'}"


def exposed(database: Path) -> list[Path]:
    """The snapshots beside a database, by their name, that others than their owner may use."""
    found = []
    for each in sorted(database.parent.glob(f"{glob.escape(database.stem)}-*Z{glob.escape(database.suffix or '.db')}")):
        with suppress(FileNotFoundError, PermissionError):
            if each.stat().st_mode & 0o077:
                found.append(each)
    return found


def take(database: Path, target: Path) -> Snapshot:
    """Copy the database to a file that doesn't exist yet. Raises Exists and StoreError, and leaves no file then."""
    if not database.exists():
        raise Unavailable(f"there is no database {database}: check database.path")
    if target.exists():
        raise _exists(target)
    temporary = _temporary(target)
    try:
        sqlite.copy_into(database, temporary)
        generation = _verify(temporary)
        _sync(temporary)
        _name(temporary, target)
        _sync(target.parent)
        return Snapshot(target, target.stat().st_size, generation)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".unfinished", dir=target.parent)
    except OSError as error:
        remedy = "; make that folder first" if isinstance(error, FileNotFoundError) else ""
        raise Unavailable(f"can't write a snapshot to {target.parent}: {error.strerror}{remedy}") from error
    os.close(descriptor)
    return Path(name)


def _verify(path: Path) -> int:
    """Open the copy as a start would, and return its generation."""
    version = sqlite.schema_version(path)
    if version is None or version > schema.VERSION:
        raise StoreError(f"the copy has schema version {version}, this mcproxy knows {schema.VERSION}")
    if found := sqlite.defects(path):
        raise StoreError(f"the copy is damaged ({found[0]}); check the database with 'PRAGMA integrity_check'")
    return sqlite.generation(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise Unavailable(f"{path} can't be written to disk: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _name(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise Unavailable(f"{target} can't be created: {error.strerror}") from error


def _exists(target: Path) -> Exists:
    return Exists(f"{target} exists and is not overwritten: name another file with -o")
