"""The admin API's doorman: finds out where each connection comes from, and ends some when a place is needed.

gRPC for Python has no access to an accepted socket. It doesn't know the user on a UNIX socket, and its bounds are a
total and a timeout of the TLS handshake: connections that do nothing, renewed for ever, would take all places. So this
thread accepts on the public socket (entrance.py), connects on behalf of each peer to gRPC's own socket, from a name
that says who it is (peer.py), and passes bytes both ways; TLS is gRPC's business. Where all places are taken, room.py
decides who leaves, and `guard.py` reports the calls.

One thread with one selector serves all connections. A side that doesn't read stops the reading on the other: at most
`CHUNK` bytes wait in each direction.
"""

import contextlib
import logging
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

from mcproxy.admin.entrance import Entrance
from mcproxy.admin.peer import Peer, serial_of
from mcproxy.admin.room import Room

ACCEPT_PAUSE = 0.1  # seconds after a failed accept
CHUNK = 64 << 10  # bytes
LOG_PAUSE = 60.0  # seconds between two lines about connections that were ended or refused: a flood fills no disk

log = logging.getLogger(__name__)


class _Side:
    """One direction of a connection: the bytes that were read here and not yet written there."""

    __slots__ = ("ended", "events", "number", "other", "peer", "sock", "waiting")

    def __init__(self, sock: socket.socket, number: int, peer: Peer | None = None) -> None:
        self.sock = sock
        self.number = number
        self.peer = peer  # None: this is gRPC's side
        self.other: _Side = self
        self.waiting = b""  # from the other side, to be written here
        self.ended = False  # nothing more comes from here
        self.events = 0  # that the selector waits for


class Doorman:
    """The thread. `close` ends it, with all connections and its entrance."""

    def __init__(self, entrance: Entrance, room: Room | None = None) -> None:
        """Take over an entrance."""
        self.entrance = entrance
        self._room = Room() if room is None else room
        self._lock = threading.Lock()  # of the room, which gRPC's threads enter too
        self._clients: dict[int, _Side] = {}  # the clients' sides, by number
        self._serial = 0
        self._paused: float | None = None  # until when nothing is accepted
        self._next_line = 0.0
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="admin-doorman", daemon=True)

    def __repr__(self) -> str:
        return f"<Doorman {self.entrance} connections={len(self._clients)}>"

    def start(self) -> None:
        """Begin to accept; gRPC listens at the entrance's `inner` by now."""
        self._resume()
        self._thread.start()

    def call(self, peer: str) -> Callable[[], None]:
        """A call has come from a peer of this name of gRPC's; returns what to call at its end. From any thread."""
        number = serial_of(peer)
        if number is None:
            return _nothing
        with self._lock:
            self._room.call_began(number)
        return partial(self._call_ended, number)

    def _call_ended(self, number: int) -> None:
        with self._lock:
            self._room.call_ended(number, time.monotonic())

    def close(self) -> None:
        """End all connections and remove the sockets."""
        self._wake.send(b"\0")
        if self._thread.is_alive():
            self._thread.join()
        for side in self._clients.values():
            side.sock.close()
            side.other.sock.close()
        self._selector.close()
        self._wake.close()
        self._woken.close()
        self.entrance.close()

    def _run(self) -> None:
        while True:
            pause = None if self._paused is None else max(0.0, self._paused - time.monotonic())
            for key, events in self._selector.select(pause):
                if key.fileobj is self._woken:
                    return
                if isinstance(key.data, _Side):
                    self._serve(key.data, events)
                elif isinstance(key.fileobj, socket.socket):
                    self._accept(key.fileobj)
            if self._paused is not None and time.monotonic() >= self._paused:
                self._resume()

    def _pause(self, until: float) -> None:
        """Accept none before that time. Connections wait in the kernel's queue, in order."""
        if self._paused is None:
            for sock in self.entrance.sockets:
                self._selector.unregister(sock)
        self._paused = until

    def _resume(self) -> None:
        self._paused = None
        for sock in self.entrance.sockets:
            self._selector.register(sock, selectors.EVENT_READ)

    def _accept(self, listening: socket.socket) -> None:
        if self._paused is not None:
            return  # since this turn's event for another socket
        if self._room.is_full and not self._make_place():
            return
        try:
            outer, address = listening.accept()
        except BlockingIOError:
            return  # it has gone
        except OSError as error:  # too few descriptors: the socket stays readable, so don't look again at once
            log.warning("admin API: %s", error)
            self._pause(time.monotonic() + ACCEPT_PAUSE)
            return
        if self._room.is_full:
            self._tell("all its %d connections have calls; one more was refused", self._room.size)
            outer.close()
            return
        self._receive(outer, address)

    def _make_place(self) -> bool:
        """End a connection, if one may be ended; returns whether to accept now, if only to refuse."""
        with self._lock:
            found = self._room.next_to_leave()
        if found is None:
            return True
        number, when = found
        if when > time.monotonic():
            self._pause(when)
            return False
        client = self._clients[number]
        self._tell("all its %d connections were taken; ended a quiet one from %s", self._room.size, client.peer)
        self._part(client)
        return True

    def _receive(self, outer: socket.socket, address: object) -> None:
        self._serial += 1
        inner = socket.socket(socket.AF_UNIX)
        try:
            peer = self.entrance.peer(outer, address)
            # A token for each: /proc/net/unix shows these names to all users, who may take the next ones they guess.
            inner.bind("\0" + peer.name(secrets.token_hex(8), self._serial))
            inner.connect(os.fspath(self.entrance.inner))
        except OSError as error:
            log.warning("admin API: can't take a connection: %s", error)
            outer.close()
            inner.close()
            return
        with self._lock:
            self._room.enter(self._serial, peer.origin, time.monotonic())
        self._join(outer, inner, peer)

    def _join(self, outer: socket.socket, inner: socket.socket, peer: Peer) -> None:
        one, two = _Side(outer, self._serial, peer), _Side(inner, self._serial)
        one.other, two.other = two, one
        for side in (one, two):
            side.sock.setblocking(False)
            self._watch(side)
        self._clients[self._serial] = one

    def _serve(self, side: _Side, events: int) -> None:
        if side.sock.fileno() < 0:
            return  # closed while this turn's other event was served
        try:
            if events & selectors.EVENT_WRITE:
                self._write(side)
            if events & selectors.EVENT_READ and not side.other.waiting:
                self._read(side)
        except OSError:  # reset by either: the connection is over
            self._part(side)
            return
        if _is_over(side):
            self._part(side)
        else:
            self._watch(side)
            self._watch(side.other)

    def _read(self, side: _Side) -> None:
        with contextlib.suppress(BlockingIOError):
            side.other.waiting = side.sock.recv(CHUNK)
            side.ended = not side.other.waiting
            if not side.ended:
                with self._lock:
                    self._room.heard(side.number, time.monotonic(), client=side.peer is not None)
            self._write(side.other)

    def _write(self, side: _Side) -> None:
        with contextlib.suppress(BlockingIOError):
            while side.waiting:
                side.waiting = side.waiting[side.sock.send(side.waiting) :]
        if side.other.ended and not side.waiting:
            side.sock.shutdown(socket.SHUT_WR)

    def _watch(self, side: _Side) -> None:
        reading = selectors.EVENT_READ if not side.ended and not side.other.waiting else 0
        events = reading | (selectors.EVENT_WRITE if side.waiting else 0)
        if events == side.events:
            return
        if not side.events:
            self._selector.register(side.sock, events, side)
        elif events:
            self._selector.modify(side.sock, events, side)
        else:
            self._selector.unregister(side.sock)
        side.events = events

    def _part(self, side: _Side) -> None:
        other = side.other
        for each in (side, other):
            if each.events:
                self._selector.unregister(each.sock)
            each.sock.close()
        del side.other, other.other  # each has the other: the collector would have to find out
        del self._clients[side.number]
        with self._lock:
            self._room.leave(side.number)
        if self._paused is not None:
            self._paused = 0.0  # there is a place

    def _tell(self, line: str, *fields: object) -> None:
        now = time.monotonic()
        if now >= self._next_line:
            self._next_line = now + LOG_PAUSE
            log.warning(f"admin API: {line}; no more such lines for %g s", *fields, LOG_PAUSE)


def _is_over(side: _Side) -> bool:
    """Whether nothing more will pass: gRPC, which never ends only one direction, has ended, or both have."""
    inner, outer = (side.other, side) if side.peer else (side, side.other)
    return inner.ended and not outer.waiting


def _nothing() -> None:
    """The end of a call that no doorman knows."""
