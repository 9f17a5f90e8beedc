"""A node's own copy of the fleet's database: a SQLite file with the same schema.

It is only a copy, so a file that can't be used is moved aside, not mourned: what it held is fetched again.

One process at a time has it, by a lock on a file beside it: a second `mcproxy server` of the same configuration, which
somebody started by mistake, would take the node's name from the first.
"""

import fcntl
import logging
import os
import time
from pathlib import Path

from mcproxy.store.errors import NewerSchema, NotOurs, StoreError, Unavailable, UnreadableRow
from mcproxy.store.records import BY_HAND
from mcproxy.store.store import Store
from mcproxy.table import Table
from mcproxy.words import moment

LOCK = ".lock"  # the end of the name of the file that is locked, which stays
_FAULTS = {"SQLITE_NOTADB": "it is not a SQLite database", "SQLITE_CORRUPT": "it is damaged"}
ASIDE = ".unusable"  # the end of the name of a copy that was moved aside; the next one replaces it

log = logging.getLogger(__name__)


class Claim:
    """The lock of a process on a copy."""

    def __init__(self, path: Path) -> None:
        """Raises Unavailable if another process has it, or if it can't be made."""
        try:
            self._descriptor = os.open(path.with_name(path.name + LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"{path.parent} can't be written to: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise Unavailable(f"another mcproxy has {path} in use: stop it first, or give this one a cache") from error

    def __repr__(self) -> str:
        return f"<Claim {self._descriptor}>"

    def close(self) -> None:
        """Let another process have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_cache(path: Path) -> tuple[Store, Table]:
    """The copy and its contents, which are empty if it was missing or unusable. Raises StoreError.

    An older version's is upgraded, as any database is.
    """
    try:
        return _opened(path)
    except (NewerSchema, NotOurs, UnreadableRow) as error:
        aside = path.with_name(path.name + ASIDE)
        log.warning(
            "the copy %s can't be used, so it is moved to %s and fetched again: %s", path, aside, fault(path, error)
        )
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        path.replace(aside)
        return _opened(path)


def fault(path: Path, error: StoreError) -> str:
    """What is wrong with a copy that is moved aside, without the remedies that a database of its own has."""
    said = str(error)
    if isinstance(error, NewerSchema):
        return "a newer mcproxy has written it"
    if isinstance(error, NotOurs):
        return next((words for code, words in _FAULTS.items() if code in said), "it is a database of another program")
    return said.removeprefix(f"database {path}: ").removesuffix(f"; {BY_HAND}")


def _opened(path: Path) -> tuple[Store, Table]:
    store = Store.open(path)
    try:
        return store, store.load()
    except BaseException:
        store.close()
        raise


class Cache:
    """The copy, as it follows. One thread at a time writes to it."""

    def __init__(self, store: Store, began_with: Table) -> None:
        self.store = store
        self.began_with = began_with  # its contents as it was opened
        self.problem = ""  # why it is older than the table in force

    def __repr__(self) -> str:
        return f"<Cache {self.store} {self.problem}>"

    def failed(self, error: StoreError) -> None:
        """Note that it couldn't be written; logs a problem once."""
        if not self.problem:
            log.error(
                "the copy of the fleet's table can't be written; a restart would start with an old one: %s", error
            )
        self.problem = f"{error} (since {moment(time.time())})"

    def is_whole(self) -> None:
        """Note that it is up to date."""
        if self.problem:
            log.info("the copy of the fleet's table is up to date again")
        self.problem = ""
