"""The only way from native threads to the hub."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from gevent.hub import get_hub

T = TypeVar("T")

HUB_TIMEOUT: Final = 5.0  # seconds that a native thread waits for the hub, whose own turns take milliseconds


class Door:
    """Calls from native threads to the hub's: the only way in (`run_callback_threadsafe`)."""

    def __init__(self) -> None:
        """To be made on the hub's thread."""
        self._loop = get_hub().loop
        self._its_thread = threading.get_ident()

    def call(self, function: Callable[..., T], *args: Any, timeout: float = HUB_TIMEOUT) -> T:
        """Run `function` on the hub and return what it returns. It must not wait.

        Raises what it raises, and TimeoutError if the hub did not get to it in `timeout` seconds; then it never
        runs.
        """
        future = self._put(function, args)
        try:
            return future.result(timeout)
        finally:
            future.cancel()
            del future  # see _run

    def send(self, function: Callable[..., T], *args: Any, timeout: float = HUB_TIMEOUT) -> T:
        """Like `call`, but it always runs, even after TimeoutError: once, and after all earlier sends and calls."""
        future = self._put(function, args)
        try:
            return future.result(timeout)
        finally:
            del future  # see _run

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Run it on the hub some time soon. It must not wait or raise."""
        self._loop.run_callback_threadsafe(function, *args)

    def _put(self, function: Callable[..., T], args: tuple[Any, ...]) -> Future[T]:
        future: Future[T] = Future()
        if threading.get_ident() == self._its_thread:
            _run(future, function, args)
        else:
            self._loop.run_callback_threadsafe(_run, future, function, args)
        return future


def _run(future: Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function(*args))
    except BaseException as error:  # noqa: BLE001 - passed on to the caller
        future.set_exception(error)
    finally:
        # A future has its exception, that one's traceback has the frames that it went through, and a frame has its
        # variables: a circle, which would keep the frames of all callers, a call of the admin API's among them, until
        # the next garbage collection.
        del future
