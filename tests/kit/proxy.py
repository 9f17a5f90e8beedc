"""The proxy under test, in this process: an `App` with a hub of its own in a native thread.

So tests use plain blocking sockets, and afterwards everything that the proxy made can be seen to be gone.
"""

import gc
import itertools
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import greenlet

from mcproxy import config
from mcproxy.app import App
from mcproxy.net.session import Session
from tests.kit.peers import DEADLINE, held_descriptors, until

T = TypeVar("T")

_count = itertools.count(1)


class Proxy:
    """A running proxy; `ports` are those of its listeners in the order of the configuration."""

    def __init__(self, document: dict[str, Any], folder: Path) -> None:
        # A database for each, or the second proxy of a test would find what the first was seeded with.
        document = {"database": {"path": f"mcproxy-{next(_count)}.db"}, **document}
        self.config = config.parse(document, folder / "mcproxy.toml")
        self.lines: list[str] = []  # the log
        self.clean: bool | None = None  # what stop() said
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE), "the proxy does not start"
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        try:
            self.app = App(self.config, self.lines.extend)
            self.app.start()
            addresses = self.app.worker.addresses
            self.ports = [addresses[each.addr][1] for each, _ in self.config.listeners]
            self._told_to_stop = Event()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._failure = error
            get_hub().destroy(destroy_loop=True)
            return
        finally:
            self._ready.set()
        self._told_to_stop.wait()
        self.clean = self.app.stop()
        get_hub().destroy(destroy_loop=True)

    @property
    def port(self) -> int:
        """The first listener's."""
        return self.ports[0]

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run something on the proxy's hub."""
        return self.app.data.door.call(function, *args, timeout=DEADLINE)

    def sessions(self) -> list[Session]:
        """The open ones."""
        return cast("list[Session]", self.call(self.app.worker.sessions))

    def connection(self, skip: int = 0, **wanted: object) -> dict[str, str]:
        """Wait for a log line with these fields, after the first `skip` lines; return all of its fields."""
        found: list[dict[str, str]] = []

        def look() -> bool:
            found[:] = [
                fields
                for fields in map(parse_line, self.lines[skip:])
                if all(fields.get(key) == str(value) for key, value in wanted.items())
            ]
            return bool(found)

        try:
            until(look, f"a line with {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; there are\n{''.join(self.lines)}") from None
        return found[-1]

    def begin_stop(self) -> None:
        """Start draining; `stop` waits for its end."""
        self.app.data.door.call(self._told_to_stop.set)

    def stop(self) -> None:
        """Drain and end; nothing is left."""
        if self._thread.is_alive():
            self.begin_stop()
            self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the proxy does not stop"


_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def parse_line(line: str) -> dict[str, str]:
    """The fields of a text log line."""
    return dict(_FIELD.findall(line))


def open_descriptors() -> dict[str, str]:
    """What this process has open, but for the ports that it holds."""
    found, held = {}, held_descriptors()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[link.name] = str(link.readlink())
        except FileNotFoundError:
            continue  # the listing's own
    return {number: what for number, what in found.items() if number not in held}


def live_greenlets() -> list[greenlet]:
    """Greenlets of any thread that have begun and not ended, but the hubs and the threads' own."""
    gc.collect()
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, greenlet) and each and each.parent is not None and not isinstance(each, gevent.hub.Hub)
    ]
