"""The heads of an HTTP/1.1 client's requests, read and translated; whole ones that came before cost a look-up."""

from dataclasses import dataclass

from mcproxy.l7.bridge.bounds import DEAR_HEAD, HEAD_BYTES, HEAD_COST, HEAD_FIELD_COST, KNOWN_HEAD_COST
from mcproxy.l7.bridge.head_cache import HeadCache
from mcproxy.l7.bridge.heads import RequestHead
from mcproxy.l7.bridge.translate import translate
from mcproxy.l7.core import Turn
from mcproxy.wire.http1 import Head, Requests, parse_head
from mcproxy.wire.http1_framing import END, BadMessage


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request's head as it was read, and in neutral form."""

    head: Head
    neutral: RequestHead | None  # None: it can't be served, because of `fault`
    fault: BadMessage | None = None


def read_request(raw: bytes, hostname: str) -> ReadRequest:
    """Read a head, without lines before it. Raises BadMessage where nothing of it can be known."""
    head = parse_head(raw)
    try:
        return ReadRequest(head, translate(head, hostname))
    except BadMessage as fault:
        return ReadRequest(head, None, fault)


def _read_anywhere(raw: bytes) -> ReadRequest:
    """Read a head as it is on every connection: without a Host or another authority, it is a fault."""
    return read_request(raw, "")


REQUESTS: HeadCache[ReadRequest] = HeadCache(_read_anywhere)


class RequestHeads:
    """Finds the heads of one client's requests; one that costs much waits for a turn of its own.

    Else those of ten clients, 2 ms each, would run in one round of the hub.
    """

    __slots__ = ("_hostname", "_waiting", "requests")

    def __init__(self, hostname: str) -> None:
        """`hostname` is the route's: it takes the place of the Host that HTTP/1.0 needn't send."""
        self._hostname = hostname
        self.requests = Requests()
        self._waiting: tuple[ReadRequest, int] | None = None  # the head that was found, and its size in bytes

    def __repr__(self) -> str:
        return f"<RequestHeads {self.requests!r}>"

    def take(self, data: bytes, turn: Turn) -> tuple[ReadRequest, int] | None:
        """Return the next head and its size. None: it is not complete, or has to wait; the turn is over then.

        Raises BadMessage where nothing of the head can be known; else the fault is in what is returned.
        """
        if self._waiting is not None:
            turn.spend(DEAR_HEAD)
            return self._begun(*self._waiting)
        requests = self.requests
        if not requests.in_head:
            size = data.find(END) + len(END)  # of a head that is not complete: three bytes, which no cache has
            known = REQUESTS.young.get(data[:size])
            if known is not None and known.neutral is not None:  # the same bytes have passed every check
                turn.left -= KNOWN_HEAD_COST
                requests.begin(known.head)
                return known, size
        extent = requests.head_extent(data)
        if extent is None:
            return None
        begin, size = extent
        read = REQUESTS.find(data[begin:size])
        if read.head.host is None:  # HTTP/1.0
            read = read_request(data[begin:size], self._hostname)
        cost = HEAD_COST + HEAD_FIELD_COST * len(read.head.fields) + size // HEAD_BYTES
        if cost > DEAR_HEAD:
            self._waiting = read, size
            turn.left = 0
            return None
        turn.spend(cost)
        return self._begun(read, size)

    def _begun(self, read: ReadRequest, size: int) -> tuple[ReadRequest, int]:
        self._waiting = None
        self.requests.begin(read.head)
        return read, size
