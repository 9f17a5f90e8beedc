"""The new server's side: asks the running one for its seat."""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcproxy import __version__
from mcproxy.takeover.letters import (
    PROTOCOL,
    Gone,
    Kind,
    Letter,
    Malformed,
    peer_of,
    receive,
    send,
)
from mcproxy.takeover.renewal import NO_EDITION, Edition
from mcproxy.takeover.seat import Seat

ANSWER_SECONDS = 40.0  # the old one has RELEASE_LIMIT (handover.py) to end its control plane
YOURS_SECONDS = 10.0  # it has only to write a letter
BYE_SECONDS = 5.0  # it has to send a line to the service manager, and its hub has to turn
BYE_CHECK = 0.002  # seconds between two looks

log = logging.getLogger(__package__)


class TakeoverError(Exception):
    """A server runs with this database, and this one can't take over from it. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What two servers must have in common, and in what they may differ."""

    configuration: str  # absolute path of the file; a symbolic link of another release may lead elsewhere
    database: tuple[int, int]  # device and inode
    edition: Edition = NO_EDITION
    node: str = ""  # in a fleet, where the database is a copy, and may be a new one; "": in none

    @classmethod
    def of(cls, configuration: Path, database: Path, edition: Edition = NO_EDITION, node: str = "") -> "Identity":
        """Of a server that is given these files, and is this node."""
        path = str(configuration.absolute())
        try:
            found = database.stat()
        except OSError:
            return cls(path, (0, 0), edition, node)
        return cls(path, (0, 0) if node else (found.st_dev, found.st_ino), edition, node)

    def fields(self) -> Mapping[str, object]:
        """As fields of a letter: what they must have in common."""
        database = ":".join(map(str, self.database))
        return {"configuration": self.configuration, "database": database, "node": self.node}

    def refusal(self, letter: Letter) -> str:
        """Why a server with the identity in this letter can't succeed one with ours; "" if it can. Raises Malformed."""
        own = self.fields()
        if (theirs := letter.text("configuration")) != own["configuration"]:
            return f"it was started with another configuration, {own['configuration']}, not {theirs}"
        if (node := letter.text("node")) != self.node:
            return f"it is {_node(self.node)}, not {_node(node)}: restart it instead"
        if letter.text("database") != own["database"]:
            return "it has another file open as its database: the file was moved or replaced meanwhile"
        return ""


class Successor:
    """Takes over in the order of the methods; `close` at the end, whatever came of it."""

    def __init__(self, sock: socket.socket, place: Path) -> None:
        """`sock` is connected to the server that runs, at its seat, which is this path. Raises TakeoverError."""
        self._sock = sock
        self.pid = 0  # the old server's process, when it has said so: the socket was made by its first predecessor
        _check(sock, place)
        self.listening: socket.socket | None = None  # at the seat
        self.sockets: list[tuple[str, socket.socket]] = []  # by the listener's configured address
        self.notify, self.watchdog = "", 0.0  # the service manager's address, and its watchdog's seconds; "": none
        self.generation = 0  # of the old server's table

    def __repr__(self) -> str:
        return f"<Successor of {self.pid or '?'} sockets={len(self.sockets)}>"

    @classmethod
    def find(cls, seat: Seat) -> "Successor | None":
        """A server that runs; None if there is none that we could succeed. Raises TakeoverError."""
        try:
            sock = seat.connect()
        except PermissionError:  # another user's: what it has in use, it keeps
            return None
        except OSError as error:
            raise TakeoverError(f"a server that runs can't be asked at {seat.path}: {error}") from error
        if sock is None:
            return None
        try:
            return cls(sock, seat.path)
        except BaseException:
            sock.close()
            raise

    def ask(self, identity: Identity, *, managed: bool) -> bool:
        """Ask for the seat, and wait until the old server has let go of its database. False: it died before that.

        `managed`: we have a service manager of our own. Raises TakeoverError.
        """
        asked = {**identity.fields(), "protocol": PROTOCOL, "version": __version__, "managed": managed}
        try:
            send(self._sock, Letter(Kind.ASK, asked))
            self._sock.settimeout(ANSWER_SECONDS)
            while self._take(receive(self._sock)) is not Kind.ALL:
                pass
        except Gone:
            self._drop()
            return False
        except TimeoutError as error:
            raise TakeoverError(f"{self._it} doesn't answer: end it, and start again") from error
        except Malformed as error:
            raise TakeoverError(f"{self._it} can't be understood ({error}): restart instead") from error
        return True

    def ready(self) -> None:
        """Report that all that can fail is done, and wait until database and clients are ours. Raises TakeoverError."""
        try:
            self._sock.settimeout(YOURS_SECONDS)
            send(self._sock, Letter(Kind.READY))
            letter = receive(self._sock)
        except Gone:
            log.warning("the old server has ended before it said goodbye; going on without it")
            return
        except (TimeoutError, Malformed) as error:
            raise TakeoverError(f"{self._it} doesn't give its place up: {error}") from error
        if letter.kind is not Kind.YOURS:
            raise TakeoverError(f"{self._it} goes on itself: {letter.text('why') or letter.kind}")

    def serving(self, rest: Callable[[float], object]) -> None:
        """Report that we accept connections, and wait until the old server doesn't. `rest` sleeps for some seconds."""
        end = time.monotonic() + BYE_SECONDS
        self._sock.setblocking(False)
        try:
            send(self._sock, Letter(Kind.SERVING))
            while time.monotonic() < end:
                try:
                    receive(self._sock)
                except BlockingIOError:
                    rest(BYE_CHECK)
                else:
                    return
        except (Gone, Malformed):
            return
        log.warning("%s still accepts connections", self._it)

    def close(self) -> None:
        """Let go of the connection, and of sockets that nobody has taken."""
        self._drop()
        self._sock.close()

    @property
    def _it(self) -> str:
        return f"mcproxy runs with this database{f' (process {self.pid})' if self.pid else ''} and"

    def _take(self, letter: Letter) -> Kind:
        """Take what a letter has brought. Raises TakeoverError and Malformed."""
        sockets = [socket.socket(fileno=each) for each in letter.sockets]
        self.pid = int(letter.number("pid"))
        if letter.kind is Kind.REFUSED:
            raise TakeoverError(f"{self._it} doesn't let this one take over: {letter.text('why')}")
        addresses = [""] if letter.kind is Kind.ALL else letter.texts("addresses")
        if letter.kind not in (Kind.SOCKETS, Kind.ALL) or len(addresses) != len(sockets):
            for each in sockets:
                each.close()
            raise Malformed(f"{letter.kind} with {len(sockets)} sockets")
        if letter.kind is Kind.SOCKETS:
            self.sockets += zip(addresses, sockets, strict=True)
            return letter.kind
        (self.listening,) = sockets
        self.generation = int(letter.number("generation"))
        self.notify, self.watchdog = letter.text("notify"), letter.number("watchdog")
        return letter.kind

    def take(self) -> Sequence[tuple[str, socket.socket]]:
        """The sockets, which are the caller's from now on."""
        taken, self.sockets = self.sockets, []
        return taken

    def take_listening(self) -> socket.socket | None:
        """The seat's socket, which is the caller's from now on."""
        taken, self.listening = self.listening, None
        return taken

    def _drop(self) -> None:
        for _, sock in self.sockets:
            sock.close()
        self.sockets = []
        if self.listening is not None:
            self.listening.close()
            self.listening = None


def _node(name: str) -> str:
    return f"node {name}" if name else "a server in no fleet"


def _check(sock: socket.socket, place: Path) -> None:
    """Raise TakeoverError if the server at the other end is another user's."""
    try:
        uid = peer_of(sock).uid
    except OSError:
        uid = -1
    if uid != os.geteuid():
        raise TakeoverError(
            f"a process of another user (uid {uid}) listens at {place}, as the server of this database would: end it"
        )
