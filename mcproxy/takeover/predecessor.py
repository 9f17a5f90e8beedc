"""The old server's side: listens for a successor, and gives its place up in steps, or takes it back.

One native thread accepts and answers; another one, while a successor is there, takes the steps with it.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from mcproxy.takeover.letters import (
    MAX_SOCKETS,
    PROTOCOL,
    Gone,
    Kind,
    Letter,
    Malformed,
    Peer,
    peer_of,
    receive,
    send,
    wait,
)
from mcproxy.takeover.seat import Seat
from mcproxy.takeover.successor import Identity

ASK_SECONDS = 5.0  # from the connection to the letter
RETRY = 5.0  # seconds, where the control plane can't be taken up again
ACCEPT_PAUSE = 1.0  # seconds after a failed accept
GRANTED_CHECK = 0.1  # seconds between two looks at whether a successor that asks has to be answered by us
SHORT = 0.1  # seconds for a letter that is there

log = logging.getLogger(__package__)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that a successor has."""

    ready: float = 60.0  # to open the database, bring its schema up to date, and make the admin API
    serving: float = 10.0  # to accept on sockets that are there
    let_go: float = 10.0  # if it failed, to close the database


PATIENT = Waits()


class Withheld(Exception):
    """The place can't be given up; nothing has changed. The message says why."""


@dataclass(frozen=True, slots=True)
class Released:
    """What the successor gets."""

    sockets: Sequence[tuple[str, int]]  # listeners' configured addresses and descriptors; an address may have several
    generation: int
    notify: str = ""  # the service manager's address; "": there is none
    watchdog: float = 0.0  # its watchdog, in seconds


class Estate(Protocol):
    """What is given up. Called in native threads."""

    def release(self) -> Released:
        """End the control plane and close the database. Raises Withheld."""

    def resume(self) -> None:
        """Take up again what was given up of the control plane, if anything. Whatever it raises, it is tried again."""

    def leave(self, successor: int, *, managed: bool) -> None:
        """Stop accepting, drain and end: this process is the new server. `managed`: by a service manager of its own."""


class State(StrEnum):
    """Where the old server is."""

    SERVING = "serving"  # nobody takes over
    RELEASING = "releasing"  # its control plane ends
    RELEASED = "released"  # its data path serves, the successor prepares
    GRANTED = "granted"  # the successor owns the database
    LEFT = "left"  # the successor serves
    CLOSED = "closed"  # it stops: nobody can take over


class Predecessor:
    """The threads, from `start` until the place is given up, or `close`."""

    def __init__(
        self, seat: Seat, listening: socket.socket, identity: Identity, estate: Estate,
        waits: Waits = PATIENT, kill: Callable[[int, int], None] = signal.pidfd_send_signal, uid: int | None = None,
    ) -> None:  # fmt: skip
        """`listening` is the seat's; it is closed in the end. `uid` may take over; None: our own user."""
        self._waits = waits
        self.state = State.SERVING
        self._seat = seat
        self._listening = listening
        self._identity = identity
        self._estate = estate
        self._kill = kill
        self._uid = os.geteuid() if uid is None else uid
        self._changing = threading.Lock()  # of the state
        self._wake, self._woken = socket.socketpair()
        self._steps: threading.Thread | None = None  # the latest

    def __repr__(self) -> str:
        return f"<Predecessor {self.state} {self._seat}>"

    def start(self) -> None:
        """Begin to answer."""
        self._listening.setblocking(False)
        threading.Thread(target=self._run, name="takeover", daemon=True).start()

    def close(self) -> None:
        """Let nobody take over from now on; one that prepares gets a letter. Waits for no thread."""
        with self._changing:
            left = self.state in (State.GRANTED, State.LEFT)
            if not left:
                self.state = State.CLOSED
                self._seat.leave()
        self._wake.close()  # wakes both threads

    # The thread that answers

    def _run(self) -> None:
        while self._waits_for(self._listening, None):
            if self.state in (State.GRANTED, State.LEFT):  # the successor will answer, or we again
                self._waits_for(self._woken, GRANTED_CHECK)
                continue
            try:
                sock, _ = self._listening.accept()
            except BlockingIOError:
                continue
            except OSError as error:  # too few descriptors
                log.warning("no successor can be accepted: %s; trying again in %g s", error, ACCEPT_PAUSE)
                self._waits_for(self._woken, ACCEPT_PAUSE)
                continue
            try:
                self._answer(sock)
            except (OSError, Gone, Malformed) as error:
                log.warning("a process that asked to take over was not understood: %s", error)
                sock.close()
        if self._steps is not None:
            self._steps.join()
        self._listening.close()
        self._woken.close()

    def _answer(self, sock: socket.socket) -> None:
        """Refuse, or begin. Raises OSError, Gone and Malformed."""
        peer = peer_of(sock)
        sock.settimeout(ASK_SECONDS)
        letter = receive(sock)
        if letter.kind is Kind.LOOK and peer.uid == self._uid:
            edition = self._identity.edition
            send(sock, Letter(Kind.HERE, {"pid": os.getpid(), "program": edition.program, "keys": edition.keys}))
            sock.close()
            return
        why = self._refusal(peer, letter)
        if not why:
            with self._changing:
                if self.state is State.SERVING:
                    self.state = State.RELEASING
                else:
                    why = f"it is {self.state} now, to another one or because it stops"
        if why:
            log.warning("process %d of uid %d can't take over: %s", peer.pid, peer.uid, why)
            send(sock, _refused(why))
            sock.close()
            return
        log.info("process %d (mcproxy %s) takes over", peer.pid, letter.text("version"))
        heir = _Heir(sock, peer, managed=bool(letter.fields.get("managed")))
        self._steps = threading.Thread(target=self._succeeded_by, args=(heir,), name="takeover-steps", daemon=True)
        self._steps.start()

    def _refusal(self, peer: Peer, letter: Letter) -> str:
        """Why this one may not take over; "" if it may. Raises Malformed."""
        if peer.uid != self._uid:
            return f"it is another user's (uid {self._uid}, not {peer.uid})"
        if letter.kind is not Kind.ASK or letter.number("protocol") != PROTOCOL:
            return "it is of a version that takes over in another way: restart instead"
        if not peer.pid:
            return "it runs in another container: stop it first"
        return self._identity.refusal(letter)

    # The thread with the steps

    def _succeeded_by(self, heir: "_Heir") -> None:
        with heir:
            try:
                released = self._estate.release()
            except Withheld as error:
                log.error("not handed over: %s", error)
                heir.tell(_refused(str(error)))
                self._resume()
                return
            if self._moved(State.RELEASING, State.RELEASED) and self._passed_on(released, heir):
                self._left(heir)
            else:
                self._take_back(heir)

    def _passed_on(self, released: Released, heir: "_Heir") -> bool:
        """Take the steps up to the last one; False: the successor has failed, or we stop."""
        try:
            _send_all(heir.sock, released, self._listening, managed=heir.managed)
            self._waits_for(heir.sock, self._waits.ready)
            if self.state is State.CLOSED:
                return False
            heir.sock.settimeout(SHORT)
            _expect(heir.sock, Kind.READY)
            if not self._moved(State.RELEASED, State.GRANTED):
                return False
            send(heir.sock, Letter(Kind.YOURS))
            heir.sock.settimeout(self._waits.serving)
            _expect(heir.sock, Kind.SERVING)
        except TimeoutError:
            if self.state is State.GRANTED:
                log.warning("the new server doesn't accept connections yet; it owns the database, so this one ends")
                return True
            log.error("not handed over: the new server was not ready in time")
        except (Gone, Malformed) as error:
            log.error("not handed over: %s", error)
        else:
            return True
        return False

    def _left(self, heir: "_Heir") -> None:
        self.state = State.LEFT
        self._estate.leave(heir.peer.pid, managed=heir.managed)
        heir.tell(Letter(Kind.BYE))
        self._wake.close()

    def _take_back(self, heir: "_Heir") -> None:
        """Go on as before, once the successor can no longer write to the database."""
        stops = self.state is State.CLOSED
        heir.tell(Letter(Kind.WITHDRAWN, {"why": "it stops" if stops else "this one was not ready in time"}))
        if stops:
            return
        if not heir.has_let_go(self._waits.let_go):
            log.error("process %d failed to take over and holds on to the database: killing it", heir.peer.pid)
            heir.kill(self._kill, self._waits.let_go)
        self._resume()

    def _resume(self) -> None:
        while self.state is not State.CLOSED:
            try:
                self._estate.resume()
            except Exception as error:  # whatever it is, the data path serves on
                log.exception("the admin API is closed, trying again in %g s: %s", RETRY, error)
                self._waits_for(self._woken, RETRY)
            else:
                break
        with self._changing:
            if self.state is not State.CLOSED:
                self.state = State.SERVING
                log.info("nothing was handed over; going on as before")

    # Both

    def _moved(self, old: State, new: State) -> bool:
        """Move on; False: the state is not the old one, because we stop."""
        with self._changing:
            if self.state is old:
                self.state = new
            return self.state is new

    def _waits_for(self, sock: socket.socket, seconds: float | None) -> bool:
        """Wait until there is something to read; False: the time is over, or we are closed."""
        found = wait(seconds, sock.fileno(), self._woken.fileno())
        return sock.fileno() in found and self._woken.fileno() not in found


class _Heir:
    """The new server."""

    def __init__(self, sock: socket.socket, peer: Peer, *, managed: bool) -> None:
        self.sock = sock
        self.peer = peer
        self.managed = managed  # it has a service manager of its own
        self._process: int | None = None  # a descriptor of it
        with contextlib.suppress(ProcessLookupError):
            self._process = os.pidfd_open(peer.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.sock.close()
        if self._process is not None:
            os.close(self._process)

    def tell(self, letter: Letter) -> None:
        """Send a letter, if it is still there."""
        with contextlib.suppress(Gone, TimeoutError):
            send(self.sock, letter)

    def has_let_go(self, seconds: float) -> bool:
        """Wait until it has closed the connection, which it does after its database, or ended."""
        end = time.monotonic() + seconds
        process = () if self._process is None else (self._process,)
        while found := wait(end - time.monotonic(), self.sock.fileno(), *process):
            if self.sock.fileno() not in found:
                return True
            try:
                receive(self.sock)
            except Gone:
                return True
            except (Malformed, TimeoutError):
                continue
        return False

    def kill(self, kill: Callable[[int, int], None], seconds: float) -> None:
        """End it, and wait for that."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                kill(self._process, signal.SIGKILL)
            self.has_let_go(seconds)


def _send_all(sock: socket.socket, released: Released, listening: socket.socket, *, managed: bool) -> None:
    """Send everything that the successor needs. Raises Gone and TimeoutError."""
    for i in range(0, len(released.sockets), MAX_SOCKETS):
        some = released.sockets[i : i + MAX_SOCKETS]
        send(sock, Letter(Kind.SOCKETS, {"addresses": [addr for addr, _ in some]}, [fd for _, fd in some]))
    manager = {} if managed else {"notify": released.notify, "watchdog": released.watchdog}
    fields = {"generation": released.generation, "pid": os.getpid(), **manager}
    send(sock, Letter(Kind.ALL, fields, [listening.fileno()]))


def _refused(why: str) -> Letter:
    return Letter(Kind.REFUSED, {"why": why, "pid": os.getpid()})


def _expect(sock: socket.socket, kind: Kind) -> None:
    """Wait for a letter of this kind. Raises Gone, Malformed and TimeoutError."""
    letter = receive(sock)
    if letter.kind is not kind:
        raise Malformed(f"{letter.kind} instead of {kind}")
