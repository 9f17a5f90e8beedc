"""A reload, as a service manager asks for it: `mcproxy server --reload PID`.

The process that runs reads its files again (SIGHUP). That can't put another program in force, nor those keys of the
configuration that are read only at a start. So where one of these has changed, a new server is begun instead, which
takes over; this process only waits until it has, or has failed:

    the program on the disk is not the one that runs     program.py
    a key has changed that needs a restart               reload/keys.py
    anything else                                        SIGHUP, and nothing more

The new server is nobody's child: its parent has ended, so the service manager has it, or a keeper (keeper.py). It gets
neither the manager's socket nor its variables from us; the server that it succeeds names both. Under systemd the new
one is in the unit's control group, because a reload's command is. Systemd accepts a process from there as the main one,
which the old one names when it leaves.

SIGHUP ends most programs, so it only goes to a process that is known as the server, or as its keeper: by its answer at
the seat, or, where nobody answers there or the file is invalid, by its command line.

If the new server fails, the old one goes on and gets SIGHUP, so that a renewed certificate doesn't wait for a mistake
elsewhere to be corrected.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mcproxy.takeover.letters import Gone, Kind, Letter, Malformed, receive, send, wait
from mcproxy.takeover.program import is_keeper, is_server, replaced
from mcproxy.takeover.seat import Seat

ANSWER_SECONDS = 5.0  # for a server to say who it is
RENEW_SECONDS = 100.0  # for a new one to take over; systemd gives a reload TimeoutStartSec, which is 2 min in our unit
LOOK_AGAIN = 0.1  # seconds between two looks at who serves
_NOT_ITS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Edition:
    """What only another process can change. Opaque; "" is never the same."""

    program: str = ""
    keys: str = ""


NO_EDITION = Edition()


class RenewalError(Exception):
    """The old server goes on. The message says why."""


class Stranger(RenewalError):
    """The process isn't the server of this configuration: it must get no signal, which would end most programs."""


def look(seat: Seat, seconds: float = ANSWER_SECONDS) -> tuple[int, Edition] | None:
    """The process that serves and its edition; None: none that answers. Raises OSError."""
    sock = seat.connect()
    if sock is None:
        return None
    with sock:
        sock.settimeout(seconds)
        try:
            send(sock, Letter(Kind.LOOK))
            letter = receive(sock)
            return int(letter.number("pid")), Edition(letter.text("program"), letter.text("keys"))
        except (Gone, Malformed, TimeoutError):
            return None


def due(seat: Seat, pid: int, edition: Edition, seconds: float = ANSWER_SECONDS) -> str | None:
    """Why the server that runs, process `pid`, must be succeeded; "": a reload does. Raises Stranger.

    None: nobody can succeed it, as one of a version that can't be; nothing but `pid` says that it is a server.
    """
    try:
        found = look(seat, seconds)
    except OSError:  # another user's, or a server that hangs: SIGHUP is all that there is
        found = None
    if found is None:
        return None
    serving, its_edition = found
    if serving != pid:
        if is_keeper(pid, serving):  # SIGHUP to it is a reload of its server
            return ""
        raise Stranger(f"process {serving} runs with this database, not process {pid}, which gets no signal")
    if its_edition.program != edition.program:
        return "the program has been replaced on the disk"
    if its_edition.keys != edition.keys:
        return "a key has changed that needs a new process"
    return "a library has been replaced on the disk" if replaced(pid) else ""


def must_be_server(pid: int, configuration: Path) -> None:
    """Raise Stranger where a process isn't a server with this configuration, or is another user's."""
    if not is_server(pid, configuration):
        raise Stranger(f"process {pid} is not a server with {configuration}, and gets no signal")
    try:
        os.kill(pid, 0)
    except PermissionError:
        raise Stranger(f"process {pid} is another user's: reload it as that user, or as root") from None
    except ProcessLookupError:
        raise Stranger(f"process {pid} has just ended") from None


def hang_up(pid: int) -> None:
    """Have a server read its files again; nothing, if it has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGHUP)


def renew(
    seat: Seat, begin: Callable[[], int], seconds: float = RENEW_SECONDS,
    kill: Callable[[int, int], None] = signal.pidfd_send_signal,
) -> int:  # fmt: skip
    """Begin a new server, and wait until it has taken over. Returns its process. Raises RenewalError."""
    pid = begin()
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        raise RenewalError(f"the new server, process {pid}, has ended: its log says why") from None
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if wait(LOOK_AGAIN, process):
                raise RenewalError(f"the new server, process {pid}, has ended: its log says why")
            with suppress(OSError):
                if (found := look(seat)) is not None and found[0] == pid:
                    return pid
        kill(process, signal.SIGKILL)  # at whatever step: the old one takes back what it has given up
        raise RenewalError(f"the new server, process {pid}, has not taken over in {seconds:g} s and was killed")
    finally:
        os.close(process)


def begin(command: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Start a server that is not our child, in a session of its own; its process id."""
    env = {name: value for name, value in environ.items() if name not in _NOT_ITS_OWN}
    read, write = os.pipe()
    if not (between := os.fork()):
        status = 1
        try:
            os.setsid()
            os.write(write, str(os.posix_spawn(command[0], list(command), env)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    text = os.read(read, 64)  # the other end is closed by now, or when that one ends
    os.close(read)
    os.waitpid(between, 0)
    if not text:
        raise RenewalError(f"{command[0]} can't be started")
    return int(text)
