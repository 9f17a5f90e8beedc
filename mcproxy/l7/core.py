"""What drives HTTP over sockets, and what it drives: the two know each other by this alone."""

from collections.abc import Callable
from typing import Protocol

from mcproxy.model import Exchanges

Record = Callable[[Exchanges], None]  # is given exchanges that have ended, each of them once; must not raise


class Core(Protocol):
    """HTTP between a client and a backend, without sockets. Times are seconds of one monotonic clock."""

    wants_dial: bool  # a new backend connection, in place of the one that there is
    failed: bool  # with `closing`: by a RST
    abused: bool  # with `closing`: the client went past a budget
    fault: str  # what went wrong, for the log

    @property
    def closing(self) -> bool:
        """Send what waits for the client, and end."""

    @property
    def wants_client(self) -> bool:
        """Whether to read the client."""

    @property
    def wants_backend(self) -> bool:
        """Whether to read the backend."""

    @property
    def has_backend(self) -> bool:
        """Whether the backend's connection is to be kept."""

    @property
    def hurried(self) -> bool:
        """Whether to tick sooner."""

    @property
    def wants_turn(self) -> bool:
        """Whether to call `go_on` once others have had their turn."""

    def go_on(self, now: float) -> None: ...  # noqa: D102 - as their names say
    def receive_from_client(self, data: bytes, now: float) -> None: ...  # noqa: D102
    def client_closed(self, now: float) -> None: ...  # noqa: D102
    def client_lost(self, now: float) -> None: ...  # noqa: D102
    def receive_from_backend(self, data: bytes, now: float) -> None: ...  # noqa: D102
    def backend_closed(self, now: float) -> None: ...  # noqa: D102
    def backend_failed(self, status: int, why: str, now: float) -> None: ...  # noqa: D102
    def cut(self, now: float) -> None: ...  # noqa: D102
    def tick(self, now: float) -> None: ...  # noqa: D102
    def give_up(self, now: float) -> None: ...  # noqa: D102
    def drain(self, now: float) -> None: ...  # noqa: D102
    def bulk_read(self, most: int) -> int:
        """How many bytes to read of a backend that sends in bulk, if it may be some `most`."""

    def take_for_client(self) -> bytes: ...  # noqa: D102
    def take_for_backend(self) -> bytes: ...  # noqa: D102
    def take_ended(self) -> Exchanges:
        """The exchanges that are over, each once."""
