"""Two sockets, relayed until both sides have ended: full duplex, half-close, resets as resets.

One greenlet copies from the client to the backend; the session's own copies back. Talk goes by `recv` and `send`. A
read that fills its buffer says that bulk is flowing: from there on the bytes are spliced through a pipe and never
enter this process, until the source runs dry. Back-pressure is the kernel's: a side that can't write is not read, so
a slow side costs only one buffer or one pipe here.

How endings pass on:

* FIN becomes FIN, after everything before it.
* A reset is found by reading, which yields what came before it and then fails. That direction ends and stops the
  other one; the survivor is reset in turn, by the session, when it has taken what is queued for it (an earlier RST
  would overtake those bytes and destroy them).
* A failed *write* shows a reset too, but bytes that this side sent before may still be unread. So the direction that
  wrote just ends, and leaves it to the one that reads to drain the dead socket and to meet its end there.

Waiting costs a switch and nothing more: a direction leaves its watcher running, and whenever it switches to the hub
the watcher switches it back. That is sound because nothing else ever switches a direction; `stop` and `rest` throw.

A relay in which nothing moves can rest: both greenlets leave `_talk`, where they hold nothing, and its owner runs it
again when one of the two sockets can be read (net/slumber.py).
"""

import os
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from os import splice
from socket import SHUT_WR
from typing import Final

from gevent import sleep, spawn_raw
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.native import mypyc_attr
from mcproxy.net.pipes import PIPE_SIZE, Pipes
from mcproxy.net.raw import READ, WRITE, IoWatcher, RawSocket, pauses, unsent
from mcproxy.net.thrown import Thrown

BUFFER: Final = 16384  # bytes a read; one TLS record at most, and below it the copy is cheaper than a pipe
FAIR_SHARE: Final = 4 << 20  # bytes that one direction may splice before others get their turn: about a millisecond
FLUSH_CHECK: Final = 0.005  # seconds between the first two looks at what a side has not acknowledged yet
# Seconds between the later ones: a peer that stalls a flush on purpose must not cost 200 looks a second.
MAX_FLUSH_CHECK: Final = 0.1
_MOVE: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Outcome(Enum):
    """How one direction ended."""

    FIN = "fin"  # its source sent FIN, and everything before it was passed on
    SOURCE_RESET = "source reset"  # reading failed; everything before was passed on
    SINK_RESET = "sink reset"  # writing failed
    STOPPED = "stopped"  # by the other direction


# Named once: CONTRIBUTING says why.
_FIN: Final = Outcome.FIN
_SOURCE_RESET: Final = Outcome.SOURCE_RESET
_SINK_RESET: Final = Outcome.SINK_RESET
_STOPPED: Final = Outcome.STOPPED


@mypyc_attr(native_class=False)
class Stopped(Thrown):
    """Thrown into a direction whose other side is gone."""


@mypyc_attr(native_class=False)
class Rested(Thrown):
    """Thrown into a direction that has nothing to do."""


class Direction:
    """One way through a relay: from `source` to `sink`, in a greenlet of its own."""

    __slots__ = ("_greenlet", "_holds", "_pipes", "_readable", "_sink", "_source", "moved", "outcome")

    def __init__(self, source: RawSocket, readable: IoWatcher, sink: RawSocket, pipes: Pipes) -> None:
        self._source = source
        self._readable = readable
        self._sink = sink
        self._pipes = pipes
        self._greenlet: greenlet | None = None
        self._holds = False  # bytes that the sink has not taken
        self.moved = 0  # bytes
        self.outcome: Outcome | None = None  # None: not ended yet

    def __repr__(self) -> str:
        return f"<Direction moved={self.moved} {self.outcome.value if self.outcome else 'open'}>"

    def run(self) -> Outcome | None:
        """Copy until the source ends or a side fails; None: until it may rest. Passes no ending on."""
        if self.outcome is not None:
            return self.outcome
        self._greenlet = current = getcurrent()
        self._readable.start(current.switch)
        outcome: Outcome | None = _STOPPED  # by a bug, too
        try:
            outcome = self._talk()
        except Stopped:
            outcome = _STOPPED
        except Rested:
            outcome = self._greenlet = None
        finally:
            self.outcome = outcome
            self._readable.stop()
        return outcome

    @property
    def is_waiting(self) -> bool:
        """True if it waits for its source, and for nothing else."""
        return self._greenlet is not None and self.outcome is None and not self._holds

    def rest(self, stirred: Callable[[], object]) -> None:
        """Give the greenlet back, and call `stirred` when there is something to read. On the hub, if `is_waiting`."""
        assert self._greenlet is not None
        self._greenlet.throw(Rested)
        self._readable.start(stirred)

    def stir(self) -> None:
        """Take `rest` back; `run` comes next."""
        self._readable.stop()

    def stop(self) -> None:
        """End this direction, if it has not ended; one that has not begun never will. To be called on the hub."""
        if self.outcome is not None:
            return
        if self._greenlet is None:
            self.outcome = _STOPPED
        else:
            self._greenlet.throw(Stopped)

    def _talk(self) -> Outcome:
        recv, send, wait = self._source.recv, self._sink.send, get_hub().switch
        while True:
            wait()
            try:
                data = recv(BUFFER)
            except BlockingIOError:
                continue
            except OSError:
                return _SOURCE_RESET
            if not data:
                return _FIN
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return _SINK_RESET
            self.moved += sent
            if sent < len(data) and not self._send_rest(data[sent:]):
                return _SINK_RESET
            if len(data) == BUFFER and (outcome := self._bulk()):
                return outcome

    def _send_rest(self, rest: bytes) -> bool:
        """Send the bytes that the sink did not take at once. False: the sink is gone."""
        while rest:
            self._wait_for_sink()
            try:
                sent = self._sink.send(rest)
            except BlockingIOError:
                continue
            except OSError:
                return False
            self.moved += sent
            rest = rest[sent:]
        return True

    def _bulk(self) -> Outcome | None:
        """Splice until the source runs dry or seems to end (then None: reading goes on) or a side fails."""
        if not (pipe := self._pipes.take()):
            return None
        source, filled, share = self._source.fileno(), 0, FAIR_SHARE
        try:
            while True:
                try:
                    filled = splice(source, pipe[1], PIPE_SIZE, flags=_MOVE)
                except BlockingIOError:
                    return None
                except OSError:
                    return _SOURCE_RESET
                if not filled:
                    return None  # the end, or an urgent byte, before which splice stops (tcp(7)): reading shows which
                share -= filled
                filled = self._empty(pipe[0], filled)
                if filled:
                    return _SINK_RESET
                if share <= 0:
                    share = FAIR_SHARE
                    get_hub().switch()
        finally:
            self._pipes.give(pipe, empty=not filled)

    def _empty(self, pipe: int, filled: int) -> int:
        """Splice a pipe's content to the sink. Returns the bytes left in it: not 0 if the sink is gone."""
        sink = self._sink.fileno()
        while filled:
            try:
                moved = splice(pipe, sink, filled, flags=_MOVE)
            except BlockingIOError:
                self._wait_for_sink()
                continue
            except OSError:
                return filled
            self.moved += moved
            filled -= moved
        return 0

    def _wait_for_sink(self) -> None:
        self._readable.stop()
        self._holds = True
        writable: IoWatcher = get_hub().loop.io(self._sink.fileno(), WRITE)
        try:
            writable.start(getcurrent().switch)
            get_hub().switch()
        finally:
            writable.close()
        self._holds = False
        self._readable.start(getcurrent().switch)


class Relay:
    """A client and a backend, connected to each other."""

    __slots__ = (
        "_backend",
        "_backend_readable",
        "_bug",
        "_client",
        "_half_closed",
        "_joining",
        "_spawn",
        "down",
        "first_reset",
        "up",
    )

    def __init__(
        self,
        client: RawSocket,
        client_readable: IoWatcher,
        backend: RawSocket,
        pipes: Pipes,
        half_closed: Callable[[], None],
        spawn: Callable[[Callable[[], None]], object] = spawn_raw,
    ) -> None:
        """`half_closed` is called when one side has sent FIN and the other has not; `spawn` starts a greenlet."""
        self._client = client
        self._backend = backend
        self._backend_readable: IoWatcher = get_hub().loop.io(backend.fileno(), READ)
        self.up = Direction(client, client_readable, backend, pipes)
        self.down = Direction(backend, self._backend_readable, client, pipes)
        self._half_closed = half_closed
        self._spawn = spawn
        self._joining: greenlet | None = None
        self._bug: Exception | None = None  # that ended the upward direction
        self.first_reset: RawSocket | None = None  # the side that reset first, if any did

    def __repr__(self) -> str:
        return f"<Relay up={self.up} down={self.down}>"

    def run(self) -> bool:
        """Relay until both directions have ended. False: until it rests, and it is to be run again or closed.

        Raises what either of the directions raised by a bug.
        """
        self._spawn(self._run_up)
        outcome: Outcome | None = _STOPPED
        try:
            outcome = self.down.run()
            if outcome is not None:
                self._passed_on(outcome, self.down, self.up)
                if self.up.outcome is None:
                    self._joining = getcurrent()
                    get_hub().switch()
        finally:
            if outcome is not None:
                self.close()
        if self._bug is not None:
            raise self._bug
        return outcome is not None

    def close(self) -> None:
        """Relay no more; `run` does this at its end."""
        self._joining = None
        self._backend_readable.close()
        self._half_closed = _ignore  # its owner refers to the relay: both would be left to the collector
        if self.up.outcome is None:
            get_hub().loop.run_callback(self.up.stop)

    @property
    def is_waiting(self) -> bool:
        """True if both directions wait for their sources: nothing is on its way through this process."""
        return self.up.is_waiting and self.down.is_waiting

    def rest(self, stirred: Callable[[], object]) -> None:
        """Have `run` return; `stirred` is called when a side can be read. On the hub, and only if `is_waiting`."""
        self.up.rest(stirred)
        self.down.rest(stirred)

    def stir(self) -> None:
        """Take `rest` back; `run` comes next."""
        self.up.stir()
        self.down.stir()

    @property
    def moved(self) -> int:
        """Bytes that were passed on, both ways; those that the kernel still has for a peer are among them."""
        return self.up.moved + self.down.moved

    @property
    def peers(self) -> tuple[RawSocket, RawSocket]:
        """The client and the backend, whose queues net/delivery.py looks at."""
        return self._client, self._backend

    def stop(self) -> None:
        """End the upward direction, because the session is about to be cut. To be called on the hub."""
        self.up.stop()

    def _run_up(self) -> None:
        try:
            outcome = self.up.run()
            if outcome is None:
                return
            self._passed_on(outcome, self.up, self.down)
        except Exception as error:  # noqa: BLE001 - raised again by `run`
            self._bug = error
            get_hub().loop.run_callback(self.down.stop)
        if self._joining is not None:
            get_hub().loop.run_callback(self._join)

    def _join(self) -> None:
        if self._joining is not None:
            self._joining.switch()

    def _passed_on(self, outcome: Outcome, this: Direction, other: Direction) -> None:
        """Pass the end of this direction's source on to the other side."""
        source, sink = (self._client, self._backend) if this is self.up else (self._backend, self._client)
        if outcome is _FIN and other.outcome is _SINK_RESET:
            outcome = this.outcome = _SOURCE_RESET  # the failed write took the error; what is left reads as FIN
        if outcome is _FIN and other.outcome is None:
            with suppress(OSError):  # a sink that is gone is found by the direction that reads from it
                sink.shutdown(SHUT_WR)
            self._half_closed()
        elif outcome is _SOURCE_RESET:
            self.first_reset = self.first_reset or source
            get_hub().loop.run_callback(other.stop)
        elif outcome is _SINK_RESET:
            self.first_reset = self.first_reset or sink


def _ignore() -> None:
    """Do nothing: the relay is over."""


def flush(survivor: RawSocket) -> None:
    """Wait until a side has taken all that is queued for it, or is gone. There is no event for that."""
    for pause in pauses(FLUSH_CHECK, MAX_FLUSH_CHECK):
        if not unsent(survivor):
            return
        sleep(pause)
