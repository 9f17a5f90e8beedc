"""A drive on a stage: its core keeps its calls, its sockets' far ends are the test's."""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import gevent

from mcproxy.l7.bounds import READ_SIZE
from mcproxy.l7.core import Ending, Turn
from mcproxy.l7.sockets.channel import Channel
from mcproxy.l7.sockets.departure import Patience
from mcproxy.l7.sockets.dialling import Dial
from mcproxy.l7.sockets.drive import Drive
from mcproxy.l7.sockets.lines import Lines
from mcproxy.model import End, Exchanges, FinishedExchange, Timeouts
from mcproxy.net.backlog import Backlog
from mcproxy.net.crew import Crew
from mcproxy.net.raw import IoWatcher, RawSocket
from mcproxy.net.session import Session
from mcproxy.net.sweep import Sweeper
from mcproxy.net.turns import Turns
from mcproxy.wire.http2 import Piece
from tests.kit.peers import DEADLINE


class Telling:
    """A core that keeps its calls, and does what it is set to."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.bulk: list[int] = []  # how much it was to be of one read
        self.take: Callable[[bytes, Turn], int] = lambda data, _turn: len(data)
        self.take_express: Callable[[bytes], int] = lambda _data: 0
        self.wants_dial = self.hurried = False
        self.ending: Ending | None = None
        self.leaving = False
        self.gives_up = self.drains = True
        self.kept = 0
        self.wants_client = self.wants_backend = self.has_backend = True
        self.to_client = self.to_backend = b""
        self.over: list[FinishedExchange] = []
        self.react: Callable[[tuple[Any, ...]], None] = lambda _what: None

    @property
    def seen(self) -> list[tuple[Any, ...]]:
        """Its calls, but for the time."""
        return [what for what in self.told if what != ("tick",)]

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self.react(what)

    def receive_from_client(self, data: bytes, turn: Turn, now: float) -> int:
        return self._receive("client", data, turn)

    def _receive(self, side: str, data: bytes, turn: Turn) -> int:
        taken = self.take(data, turn)
        if taken:
            self._tell(side, data[:taken])
        return taken

    def dialling(self) -> None:
        self.wants_dial = False

    @property
    def stirred(self) -> bool:
        return bool(self.to_client or self.over or self.ending)

    def express(self, data: bytes, now: float) -> int:
        taken = self.take_express(data)
        if taken:
            self._tell("express", data[:taken])
        return taken

    def client_closed(self, now: float) -> None:
        self._tell("client closed")

    def client_lost(self, now: float) -> None:
        self._tell("client lost")
        self.ending = Ending()

    def cut(self, why: str, now: float) -> None:
        self._tell("cut", why)
        self.ending = Ending()

    def receive_from_backend(self, data: bytes, turn: Turn, now: float) -> int:
        return self._receive("backend", data, turn)

    def backend_closed(self, now: float) -> None:
        self._tell("backend closed")

    def backend_failed(self, status: int, why: str, now: float) -> None:
        self._tell("backend failed", status, why)

    def client_lags(self, now: float) -> None:
        self._tell("client lags")

    def backend_lags(self, now: float) -> None:
        self._tell("backend lags")

    def tick(self, now: float, idle: float) -> None:
        self._tell("tick")

    def give_up(self, now: float) -> None:
        self._tell("give up")
        if self.gives_up:
            self.ending = Ending(end=End.IDLE_TIMEOUT)

    def drain(self, now: float) -> None:
        self._tell("drain")
        if self.drains:
            self.ending = Ending()
        else:
            self.leaving = True

    def leave(self, now: float) -> None:
        self._tell("leave")
        if self.leaving:
            self.ending = Ending()

    def bulk_read(self, most: int) -> int:
        self.bulk.append(most)
        return most

    def take_ended(self) -> Exchanges:
        ended, self.over = self.over, []
        return ended

    def take_for_client(self) -> Sequence[Piece]:
        data, self.to_client = self.to_client, b""
        return (data,) if data else ()

    def take_for_backend(self) -> Sequence[Piece]:
        data, self.to_backend = self.to_backend, b""
        return (data,) if data else ()


class Later(Turns):
    """Nobody goes ahead, and whose turn it is says the test."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Callable[[], object]] = []

    def take(self) -> bool:
        return False

    def ask(self, on_turn: Callable[[], object]) -> None:
        self.asked.append(on_turn)

    def forget(self, on_turn: Callable[[], object]) -> None:
        self.asked.remove(on_turn)


def arrival(sock: socket.socket, count: int) -> Callable[[], bool]:
    """Whether `count` bytes have come, which are read."""
    sock.setblocking(False)
    got = 0

    def all_came() -> bool:
        nonlocal got
        with suppress(BlockingIOError):
            got += len(sock.recv(1 << 20))
        return got == count

    return all_came


def is_closed(sock: socket.socket) -> bool:
    """Whether we have closed our end; what came before that is dropped."""
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            try:
                if not sock.recv(1 << 20):
                    return True
            except ConnectionResetError:
                return True
    return False


class EndingStream(Channel):
    """Whose end comes with its first bytes."""

    def receive(self, most: int = READ_SIZE) -> bytes:
        data = super().receive(most)
        self.ended = self.ended or bool(data)
        return data


class StageSession:
    """What the drive uses of a session."""

    def __init__(self, sweeper: Sweeper, timeouts: Timeouts, turns: Turns, backlog: Backlog) -> None:
        self.shared = SimpleNamespace(
            sweeper=sweeper,
            timeouts=timeouts,
            draining=False,
            crew=Crew(),
            turns=turns,
            sessions=[1],
            backlog=backlog,
            awake={},
        )
        self.readable: IoWatcher | None = None
        self.deadline = 0.0
        self.slot = 0
        self.drive: Drive | None = None
        self.cut: Callable[[BaseException], None] = lambda _cause: None
        self.wake: Callable[[], object] = lambda: None
        self.fail: Callable[[BaseException], None] = lambda _failure: None

    def overdue(self, now: float) -> float | None:
        assert self.drive is not None
        return self.drive.overdue(now)


class Stage:
    """A drive in a greenlet, with the far ends of its sockets."""

    def __init__(
        self,
        dial: Callable[[bytes], Channel] | None = None,
        channel: type[Channel] = Channel,
        turns: Turns | None = None,
        patience: Patience | None = None,
        backlog: Backlog | None = None,
        **durations: float,
    ) -> None:
        ours, self.client = socket.socketpair()
        self.core = self._core()
        self.ended: list[FinishedExchange] = []
        self.backends: list[socket.socket] = []
        self.first: list[bytes] = []
        self.sweeper = Sweeper()
        self.end: End | BaseException | None = None
        timeouts = Timeouts(**{"handshake": 9.0, "connect": 9.0, "idle": 9.0, "half_close": 9.0, **durations})
        self.session = StageSession(self.sweeper, timeouts, turns or Turns(), backlog or Backlog())
        self.session.cut = self._cut
        self.session.wake = self._wake
        self.session.fail = self._live
        self._stream = channel(self._raw(ours))
        self._dial = dial or self.connect
        self._patience = patience or Patience()
        self._greenlet = gevent.spawn(self._run)
        gevent.sleep(0)

    def _core(self) -> Telling:
        return Telling()

    @staticmethod
    def _raw(sock: socket.socket) -> RawSocket:
        raw = RawSocket(sock.family, sock.type, 0, sock.detach())
        raw.setblocking(False)
        return raw

    def _way(self) -> Dial | Lines:
        return self._dial

    def _run(self) -> None:
        session = cast("Session", self.session)
        self.drive = Drive(session, self._stream, self.core, self._way(), self.ended.extend, self._patience)
        self.session.drive = self.drive
        self._live()

    def _live(self, cause: BaseException | None = None) -> None:
        """As a session does: until its end, or until it rests."""
        assert self.drive is not None
        try:
            self.end = self.drive.go_on(cause)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.end = error
        if self.drive.rests:
            return
        self.sweeper.disarm(self.session)
        self._stream.close()

    def _wake(self) -> None:
        self._greenlet = gevent.spawn(self._live)

    def _cut(self, cause: BaseException) -> None:
        assert self.drive is not None
        if self.drive.rests:
            self._live(cause)
        else:
            self._greenlet.throw(cause)

    def connect(self, first: bytes, channel: type[Channel] = Channel) -> Channel:
        ours, theirs = socket.socketpair()
        self.backends.append(theirs)
        self.first.append(first)
        return channel(self._raw(ours))

    def until(self, what: Callable[[], object]) -> None:
        with gevent.Timeout(DEADLINE):
            while not what():
                gevent.sleep(0.001)

    def close(self) -> None:
        self._greenlet.kill()
        self.sweeper.close()
        gevent.sleep(0)  # a dial that was abandoned ends in it
        self.session.shared.crew.close()
        gevent.sleep(0)
        for sock in (self.client, *self.backends):
            sock.close()


def pour(sock: socket.socket) -> int:
    """Send until nothing more is taken. Returns how many bytes were."""
    sock.setblocking(False)
    poured = held_up = 0
    while held_up < 20:
        try:
            poured += sock.send(bytes(1 << 16))
            held_up = 0
        except BlockingIOError:
            held_up += 1
        gevent.sleep(0.001)
        assert poured < 1 << 24
    return poured
