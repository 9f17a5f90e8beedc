"""A hub in a native thread of its own, for tests of what lives on one; and ways to hold one still and to hear it."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from gevent import sleep, spawn_raw
from gevent.hub import get_hub

from mcproxy.net.door import Door
from tests.kit.peers import DEADLINE, is_reset

T = TypeVar("T")


class HubThread:
    """A running hub; afterwards its loop and its thread are gone."""

    def __init__(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="hub", daemon=True)
        self._thread.start()
        assert ready.wait(DEADLINE)

    def _run(self, ready: threading.Event) -> None:
        hub = get_hub()
        self.door = Door()
        self._told_to_stop = hub.loop.async_()  # while it is waited for, the hub has something to live for
        hub.loop.run_callback(ready.set)
        hub.wait(self._told_to_stop)
        self._told_to_stop.close()
        hub.destroy(destroy_loop=True)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run something on the hub that does not wait."""
        return self.door.call(function, *args, timeout=DEADLINE)

    def spawn(self, function: Callable[..., T], *args: Any) -> "Future[T]":
        """Run something in a greenlet, which may wait."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - passed on with the result
                future.set_exception(error)

        self.call(spawn_raw, run)
        return future

    def close(self) -> None:
        """End the thread."""
        self._told_to_stop.send()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the hub does not stop"


@contextmanager
def paused(door: Door) -> Iterator[None]:
    """The hub stands still, so that what clients do meanwhile is all there when it looks."""
    stands, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        stands.set()
        go_on.wait(DEADLINE)

    holder = threading.Thread(target=door.call, args=(hold,), kwargs={"timeout": DEADLINE}, daemon=True)
    holder.start()
    try:
        assert stands.wait(DEADLINE)
        yield
    finally:
        go_on.set()
        holder.join(DEADLINE)


def knock(
    door: Door, port: int, sends: bytes = b"", host: str = "127.0.0.1", source: str = "", ends: bool = False
) -> socket.socket:
    """A client that has connected and sent this, and FIN if it `ends`, before the hub first looks.

    It stands still until all of that is in the kernel; else a RST might come while the client still connects.
    """
    with paused(door):
        client = socket.create_connection((host, port), DEADLINE, (source or host, 0))
        client.sendall(sends)
        if ends:
            client.shutdown(socket.SHUT_WR)
    return client


def is_turned_away(door: Door, port: int, sends: bytes = b"", **how: Any) -> bool:
    """Whether such a client gets a RST and not one byte."""
    with knock(door, port, sends, **how) as client:
        return is_reset(client)


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname.lower()} {self.format(record)}")


@contextmanager
def messages() -> Iterator[list[str]]:
    """What the package logs meanwhile, tracebacks included: "level message"."""
    keeper, logger = _Keeper(), logging.getLogger("mcproxy")
    level = logger.level
    logger.addHandler(keeper)
    logger.setLevel(logging.DEBUG)
    try:
        yield keeper.lines
    finally:
        logger.removeHandler(keeper)
        logger.setLevel(level)


def pass_rounds(count: int = 20) -> None:
    """Let the hub of this thread have so many rounds: more than any test here has events that wait."""
    end = get_hub().loop.iteration + count
    while get_hub().loop.iteration < end:
        sleep(0)
