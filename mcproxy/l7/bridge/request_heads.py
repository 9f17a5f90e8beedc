"""The heads of an HTTP/1.1 client's requests, read and translated; whole ones that came before cost a look-up.

The requests of one client are nearly all alike but for the target. So a head is three parts: the method, the target,
what is behind it. One that was read in full, and passed every check, is a *template*: kept by (method, part behind),
it is the answer to every head that differs from it in the target only, if both targets are absolute paths.

**Why that is right.** The first blank ends the method, and the second one the target, which can have none: so where a
target is an absolute path in the characters that one may have, the request line divides as here and in no other way,
and the lines behind it are the template's. Nothing that http1.py, translate.py and wire/requests.py ask of those parts
has to do with the target. What they ask of a target of that form is its characters, its length, and nothing else, and
it passes as it is: here it is asked the same, by the same function. All else is read in full, as if there were no
templates: other forms, OPTIONS and CONNECT, which have some, an upgrade, HTTP/1.0 without Host, a head that comes in
pieces or behind empty lines.

Only every KEPT_OF_MADE-th head that was made so enters the cache of whole heads: one that comes often will be among
these, and those that come once don't push out what is used. From timing a client can learn whether somebody sent the
same whole head, whatever its target: so no secret can be learnt piece by piece.
"""

from typing import NamedTuple

from mcproxy.l7.bridge.bounds import (
    CACHE_HEAD_BYTES,
    CACHE_HEADS,
    DEAR_HEAD,
    HEAD_BYTES,
    HEAD_COST,
    HEAD_FIELD_COST,
    KEPT_OF_MADE,
    KNOWN_HEAD_COST,
    NEW_TARGET_COST,
)
from mcproxy.l7.bridge.head_cache import HeadCache
from mcproxy.l7.bridge.heads import RequestHead, Upgrade
from mcproxy.l7.bridge.translate import translate
from mcproxy.l7.core import Turn
from mcproxy.l7.generations import Generations
from mcproxy.wire.http1 import Head, Requests, parse_head
from mcproxy.wire.http1_framing import END, BadMessage
from mcproxy.wire.requests import is_path

_SPECIAL = frozenset((b"CONNECT", b"OPTIONS"))  # methods whose target has other forms than a path
_NO_UPGRADE = Upgrade.NONE


class ReadRequest(NamedTuple):
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


class Templates(Generations[tuple[bytes, bytes], ReadRequest]):
    """Heads by the method, with the blank behind it, and what is behind the target."""

    __slots__ = ("_made",)

    def __init__(self, capacity: int = CACHE_HEADS) -> None:
        super().__init__(capacity)
        self._made = 0  # heads, from templates

    def made(self, raw: bytes) -> ReadRequest | None:
        """Make a head from its template; None: it has to be read in full."""
        at = raw.find(b" ") + 1
        end = raw.find(b" ", at)
        if end < 0 or len(raw) > CACHE_HEAD_BYTES:
            return None
        key = raw[:at], raw[end:]
        template = self.young.get(key) or self.again(key)
        target = raw[at:end]
        if template is None or not is_path(target):
            return None
        neutral = template.neutral
        assert neutral is not None  # or it would be no template
        request = neutral.request.with_path(target)
        read = ReadRequest(template.head.with_target(target), neutral.with_request(request))
        self._made += 1
        if not self._made % KEPT_OF_MADE:
            REQUESTS.keep(raw, read)
        return read

    def learn(self, raw: bytes, read: ReadRequest) -> None:
        """Keep a head that was read as a template, if it can be one."""
        head, neutral = read.head, read.neutral
        if neutral is None or head.host is None or head.method in _SPECIAL or len(raw) > CACHE_HEAD_BYTES:
            return
        if neutral.upgrade is _NO_UPGRADE and is_path(head.target):
            at = len(head.method) + 1
            self.keep((raw[:at], raw[at + len(head.target) :]), read)


REQUESTS: HeadCache[ReadRequest] = HeadCache(_read_anywhere)
TEMPLATES = Templates()


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
            raw = data[:size]
            known = REQUESTS.young.get(raw)
            if known is not None and known.neutral is not None:  # the same bytes have passed every check
                turn.left -= KNOWN_HEAD_COST
                requests.begin(known.head)
                return known, size
            made = TEMPLATES.made(raw)
            if made is not None:  # the same bytes but for a path have
                turn.left -= NEW_TARGET_COST
                requests.begin(made.head)
                return made, size
        extent = requests.head_extent(data)
        if extent is None:
            return None
        begin, size = extent
        raw = data[begin:size]
        read = REQUESTS.find(raw)
        if read.head.host is None:  # HTTP/1.0
            read = read_request(raw, self._hostname)
        TEMPLATES.learn(raw, read)
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
