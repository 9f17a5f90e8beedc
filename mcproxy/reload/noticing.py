"""Notices files of certificates that have changed on disk, so that a renewal needs no reload.

A native thread looks at the files that are in use: the pairs of l7 routes whose context is loaded, and the CAs of
backends. A route that no client has asked for yet reads its files at its first connection (and has a reserve, if they
are broken then: certificates/contexts.py); the admin API looks at its own before each handshake. A look is one stat() a
file, in batches, through the threads of disk.py: a file may hang.

    a stamp is new -> it is the same at the next look -> both files are read -> OpenSSL takes the pair -> it is in use

A renewal writes two files, one after the other, so a change must rest for one look before it is read. A pair that
doesn't match, or that clients would refuse, leaves the old one in use. That is logged once: the same files are read
again only when one of them changes.

The kernel's own notifications (inotify) are lost on network disks, and follow neither symbolic links nor folders that
are replaced as a whole, which is how certbot and Kubernetes renew.
"""

import functools
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mcproxy import disk
from mcproxy.messages import PlaneBusy, PlaneStopping

LOOK_SECONDS = 15.0  # between two looks; a change is read after two of them, within a minute
MAX_NAMED = 3  # files in a warning
BATCH = 500  # files a job: a thread's turn costs as much as ten stat() calls

log = logging.getLogger(__package__)

Files = Callable[[], Iterable[str]]
Seen = disk.Stamp | str  # or why it can't be looked at


class Noticing:
    """The thread, from its beginning to `close`."""

    def __init__(self, files: Files, take: Callable[[frozenset[str]], object], seconds: float = LOOK_SECONDS) -> None:
        """`files` are those in use; `take` reads those that have changed, and may raise PlaneBusy."""
        self._files = files
        self._take = take
        self._seconds = seconds
        self._taken: dict[str, Seen] = {}  # as each file was when it was read; one entry a file in use
        self._latest: Mapping[str, Seen] = {}  # as each was at the last look
        self._closing = threading.Event()
        threading.Thread(target=self._run, name="noticing", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Noticing {len(self._latest)} files closing={self._closing.is_set()}>"

    def close(self) -> None:
        """Stop looking. Doesn't wait for a look that is under way: its file may hang."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(self._seconds):
            try:
                self.look()
            except PlaneStopping:
                return
            except PlaneBusy as error:  # nothing is known to have changed
                log.info("looking again for changed certificates in %g s: %s", self._seconds, error)
            except Exception:
                log.exception("bug in noticing files")

    def look(self) -> None:
        """Look once. A file that is in use only since the last look may have changed before that: it is read too."""
        found = stamps(sorted(set(self._files())))
        rested = {path for path, seen in found.items() if self._latest.get(path) == seen}
        changed = frozenset(path for path in rested if self._taken.get(path) != found[path])
        self._latest = found
        if changed and not self._closing.is_set():
            try:
                self._take(changed)
            except PlaneStopping:
                raise
            except PlaneBusy as error:
                if known := changed & self._taken.keys():  # others are in use since the last look
                    log.warning("changed, not in use yet, and tried again in %g s: %s: %s", self._seconds,
                                ", ".join(sorted(known)[:MAX_NAMED]), error)  # fmt: skip
                return
        kept = {path: seen for path, seen in self._taken.items() if path in found}
        self._taken = kept | {path: found[path] for path in changed}


def stamps(paths: Iterable[str]) -> Mapping[str, Seen]:
    """The stamp of each file, or why it has none."""
    found: dict[str, Seen] = {}
    remaining = iter(paths)
    while batch := list(itertools.islice(remaining, BATCH)):
        try:
            found |= disk.within(f"{batch[0]} and others", functools.partial(_stamps_here, batch))
        except disk.Hangs:
            found |= {each: _alone(each) for each in batch}  # which says which one hangs
    return found


def _stamps_here(paths: Iterable[str]) -> dict[str, Seen]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> Seen:
    try:
        return disk.stamp_of(Path(path).stat())
    except OSError as error:
        return str(error.strerror)


def _alone(path: str) -> Seen:
    try:
        return disk.stamp(path)
    except disk.Hangs:
        return "it hangs"  # however long it has
    except OSError as error:
        return str(error.strerror)
