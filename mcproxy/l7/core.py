"""The contract between sockets and HTTP: `sockets/drive.py` knows HTTP by this alone, and HTTP knows the drive by it.

A core is the HTTP between one client connection and its backend. It has no socket and no clock: it is given bytes and
the time, and asked for bytes. Nothing here raises but by a defect.

The order of a core's life, from its side:

    made                the client's first bytes are still to come; `wants_dial` may be true at once
    receive_*, tick, go_on, drain, give_up, backend_*
                        in any order, until `closing` is true; after each of them the drive asks everything again:
                        it takes and sends what is for either side, takes the exchanges that are over, dials, and reads
                        a side again only where `wants_client` or `wants_backend` allows it
    client_closed, client_lost, cut
                        the end of the client: what follows is at most what is said at `closing`
    closing             final. The drive takes what is left for both sides, and the exchanges that are over, and closes.
                        A core ignores bytes and events that reach it later.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from mcproxy.model import Exchanges

Record = Callable[[Exchanges], None]  # is given exchanges that have ended, each of them once; must not raise


class StreamEnd(StrEnum):
    """How an exchange ended; the words of the log and the counters."""

    DONE = "done"  # request and answer are complete
    ANSWERED = "answered"  # by the proxy itself
    REFUSED = "refused"  # never processed: the client may repeat it (section 8.7)
    CLIENT_RESET = "client reset"  # cancelled
    CLIENT_FAULT = "client fault"  # the client broke a rule
    CLIENT_GONE = "client gone"  # the connection ended under it
    CUT = "cut"  # the connection was, by the proxy: killed, idle, or at shutdown_timeout
    BACKEND_RESET = "backend reset"
    BACKEND_FAULT = "backend fault"
    BACKEND_GONE = "backend gone"


class Core(Protocol):
    """HTTP between a client and a backend, without sockets. `now` is seconds of one monotonic clock."""

    wants_dial: bool  # a new backend connection in place of the one that there is; the drive sets it to False and dials
    failed: bool  # with `closing`: the connection ends by a RST, since an answer broke off
    abused: bool  # with `closing`: the client exceeded a budget
    fault: str  # what went wrong, for the log; "" is nothing

    @property
    def closing(self) -> bool:
        """Whether the connection is over: send what is left for the client, and end. Never false again."""

    @property
    def wants_client(self) -> bool:
        """Whether to read the client. May change with any call."""

    @property
    def wants_backend(self) -> bool:
        """Whether to read the backend. May change with any call."""

    @property
    def has_backend(self) -> bool:
        """Whether the backend's connection is still of use. If not, the drive sends what is left and closes it."""

    @property
    def hurried(self) -> bool:
        """Whether `tick` is needed ten times a second; once a second is usual."""

    @property
    def wants_turn(self) -> bool:
        """Whether bytes that were received are still to be judged: call `go_on` once other sessions had their turn."""

    def go_on(self, now: float) -> None:
        """Judge more of what was received. Only while `wants_turn`."""

    def receive_from_client(self, data: bytes, now: float) -> None:
        """Take what the client sent. Only while `wants_client`, and never after `client_closed` or `client_lost`."""

    def client_closed(self, now: float) -> None:
        """The client has ended its side; what it sent before has been received. Once. Only a tunnel lives on."""

    def client_lost(self, now: float) -> None:
        """The client's connection broke, at any time: nothing can be sent any more. `closing` follows."""

    def receive_from_backend(self, data: bytes, now: float) -> None:
        """Take what the backend sent. Follows a dial that succeeded."""

    def backend_closed(self, now: float) -> None:
        """The backend's connection is over, however that came; what it sent before has been received.

        Once for each connection. `wants_dial` may follow: a request may go again, over another connection.
        """

    def backend_failed(self, status: int, why: str, now: float) -> None:
        """The dial failed: what waits for it is answered with `status`, 502 or 504. In place of a connection."""

    def cut(self, now: float) -> None:
        """The client's connection ends where it stands, by our own decision. `closing` follows."""

    def tick(self, now: float) -> None:
        """Look at deadlines."""

    def give_up(self, now: float) -> None:
        """Nothing has moved for too long: what has no answer yet gets 504, and the connection drains. Once."""

    def drain(self, now: float) -> None:
        """Finish what is under way and take nothing new. May come at any time, more than once, before anything else."""

    def bulk_read(self, most: int) -> int:
        """How many bytes to read of a backend that sends in bulk, if it may be about `most`."""

    def take_for_client(self) -> bytes:
        """Bytes for the client, each once; b"" is nothing. After every call, and once more at `closing`."""

    def take_for_backend(self) -> bytes:
        """Bytes for the backend, each once; the first ones go with the dial. Never while `wants_dial`."""

    def take_ended(self) -> Exchanges:
        """The exchanges that are over, each once. After every call, and once more at `closing`."""
