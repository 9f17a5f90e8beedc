"""One HTTP/1.1 connection to the backend: a `BackendConnection` (ends.py).

**What is sent** is framed from what was parsed, and never copied from a client: the request line and fields of
`RequestHead.lines`, the fields that we add, and one way of framing. That is the length which the client declared, or
chunks where more follows, or nothing. So the backend finds the end of each message where we do.

**What comes** is read by wire/http1_answers.py. A connection carries the next request only if all of its answer and
all of its request are through, both mean to go on, and not a byte came that belongs to none: a backend that sends more
than its answer has *poisoned* its connection, and nobody's request. A request whose body the backend may overlook is
the last one of its connection, and says so: else the answer to what was hidden there would be another client's.

**A tunnel** opens with the 101 for a protocol that the request asked for. From there on bytes pass as they are.
"""

import os
from base64 import b64encode
from collections.abc import Callable
from enum import Enum
from typing import Final

from mcproxy.l7.bridge.bounds import (
    ANSWER_COST,
    CACHE_HEAD_BYTES,
    JOINED_PIECES,
    KNOWN_HEAD_COST,
    MAX_UNSENT,
    STEP_COST,
)
from mcproxy.l7.bridge.ends import Answered, BackendConnection, BackendFault, OtherVersion, Processed, Takes
from mcproxy.l7.bridge.heads import AnswerHead, Forwarded, RequestHead, Upgrade, field_lines
from mcproxy.l7.bridge.translate import ANSWERS, ReadAnswer, accept_key
from mcproxy.l7.core import Turn
from mcproxy.l7.meters import BARREN, SMALL, Loop, Pace
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1_answers import Answers, is_frames
from mcproxy.wire.http1_framing import END, BadMessage
from mcproxy.wire.http2 import Piece

# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
NOT_PROCESSED: Final = Processed.NO
UNKNOWN: Final = Processed.UNKNOWN
NEVER: Final = Takes.NEVER
NOW: Final = Takes.NOW
UPGRADE_NONE: Final = Upgrade.NONE

_CRLF: Final = b"\r\n"
_SWITCHING: Final = 101
# Methods whose request is expected to have a body: without one, its length is said to be 0 (RFC 9110, section 8.6).
_WITH_BODY: Final = frozenset((b"POST", b"PUT", b"PATCH"))


class _Request(Enum):
    """How much of the request has been sent."""

    NONE = "none"  # there is none
    COUNTED = "counted"  # a part, and its length is declared
    CHUNKED = "chunked"  # a part, whose body has chunks
    SENT = "sent"
    TUNNEL = "tunnel"  # the client's half of one
    HALF_CLOSED = "half closed"  # all of that


class _Answer(Enum):
    """How much of the answer has come."""

    NONE = "none"  # none is expected, or all of it has come
    AWAITED = "awaited"  # at most interim heads
    BODY = "body"  # a final head
    TUNNEL = "tunnel"  # the backend's half of one


# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
BODY: Final = _Answer.BODY
ANSWER_NONE: Final = _Answer.NONE
ANSWER_TUNNEL: Final = _Answer.TUNNEL
CHUNKED: Final = _Request.CHUNKED
COUNTED: Final = _Request.COUNTED
HALF_CLOSED: Final = _Request.HALF_CLOSED
REQUEST_NONE: Final = _Request.NONE
SENT: Final = _Request.SENT
REQUEST_TUNNEL: Final = _Request.TUNNEL


# Members of an enum cost three times as much to read as a global.
AWAITED: Final = _Answer.AWAITED
POSSIBLY: Final = Processed.POSSIBLY


class Http1Connection(BackendConnection):
    """Methods that send, and `receive`, raise BackendFault."""

    __slots__ = (
        "_answer", "_answers", "_asked", "_goes_on", "_left", "_random", "_request", "_reused", "out", "pace",
        "processed", "requests",
    )  # fmt: skip
    version = "http/1.1"
    pace: Pace
    processed: Processed

    def __init__(self, now: float, reused: bool, random: Callable[[int], bytes] = os.urandom) -> None:  # noqa: ARG002
        """`random` makes the keys of WebSockets."""
        self.out: list[Piece] = []
        self.requests = 0
        self.pace = Pace(Loop.BACKEND_PIECES)
        self.processed = NOT_PROCESSED
        self._reused = reused
        self._random = random
        self._answers = Answers()
        self._request = REQUEST_NONE
        self._answer = ANSWER_NONE
        self._goes_on = True  # another request may follow this one
        self._left = 0  # bytes of the request's body that are to be sent
        self._asked: tuple[frozenset[bytes], bytes] | None = None  # the protocols to change to, and the accept key

    def __repr__(self) -> str:
        state = "" if self._goes_on else " last"
        return f"<Http1Connection {self._request.value}, {self._answer.value} requests={self.requests}{state}>"

    @property
    def reusable(self) -> bool:
        """Whether another request may begin here."""
        request = self._request
        return self._goes_on and self._answer is ANSWER_NONE and (request is SENT or request is REQUEST_NONE)

    @property
    def half_closed(self) -> bool:
        """Whether our side of the connection ends once `out` is sent."""
        return self._request is HALF_CLOSED

    def go_on(self) -> None:
        """Begin with another client's requests, between two requests: nothing else is left of those before."""
        self.processed = NOT_PROCESSED
        if self.pace.has_counted:
            self.pace = Pace(Loop.BACKEND_PIECES)

    # Sending

    def room(self, unsent: int) -> int:
        """Bytes of the body that may be sent now."""
        return MAX_UNSENT - unsent - sum(map(len, self.out))

    def takes(self, head: RequestHead) -> Takes:
        """Whether this request may begin here: gRPC needs HTTP/2."""
        return NEVER if head.request.grpc and head.upgrade is UPGRADE_NONE else NOW

    def begin(self, head: RequestHead, forwarded: Forwarded, ended: bool) -> None:
        """Send a head. Raises BackendFault where the backend has sent something before."""
        if not self.reusable:
            raise BackendFault("its connection carries no further request")
        request = head.request
        self.requests += 1
        self._answer = AWAITED
        self._answers.expect(request.method == b"HEAD")
        if head.upgrade is not UPGRADE_NONE or request.protocol:
            framing = self._upgrade(head)
            self._request = SENT
        elif ended:
            if request.content_length > 0:
                raise BackendFault("the request lacks the body that it declares")
            empty = request.content_length < 0 and request.method in _WITH_BODY
            framing = b"content-length: 0\r\n" if empty else b""
            self._request = SENT
        elif request.content_length >= 0:
            framing, self._left = b"", request.content_length  # it is among the lines
            self._request = COUNTED
        else:
            framing = b"transfer-encoding: chunked\r\n"
            self._request = CHUNKED
        if self._request is not SENT and head.hides_its_body:
            framing += b"connection: close\r\n"
            self._goes_on = False
        self.out.append(b"%b%b%b\r\n" % (head.lines, forwarded.lines, framing))
        self.processed = UNKNOWN if self._reused or self.requests > 1 else POSSIBLY

    def _upgrade(self, head: RequestHead) -> bytes:
        """The fields that ask for a tunnel. A WebSocket's client of HTTP/2 has no key, so we make one."""
        accept, handshake = b"", b""
        if head.request.protocol:  # RFC 8441, section 5
            key = b64encode(self._random(16))
            accept = accept_key(key)
            handshake = b"sec-websocket-key: %b\r\n" % key
        elif head.key:
            handshake = b"sec-websocket-key: %b\r\n" % head.key
        protocols = head.upgrade_to or head.request.protocol
        self._asked = _protocols(protocols), accept
        return b"connection: Upgrade\r\nupgrade: %b\r\n%b" % (protocols, handshake)

    def body(self, data: Piece) -> None:
        """Send a piece of the body, or of the client's half of a tunnel."""
        request = self._request
        if not data:
            return  # a chunk of no bytes would be the last
        if request is COUNTED:
            self._left -= len(data)
            if self._left < 0:
                raise BackendFault("the request's body is longer than its content-length")
            self.out.append(data)
        elif request is CHUNKED:
            self.out += (b"%x\r\n" % len(data), data, _CRLF)
        elif request is REQUEST_TUNNEL:
            self.out.append(data)
        else:
            raise BackendFault(f"a body behind a request that is {request.value}")

    def end(self, trailers: list[Field]) -> None:
        """Send the end of the request, or of the client's half of a tunnel."""
        request = self._request
        if request is REQUEST_TUNNEL:
            self._request = HALF_CLOSED
        elif request is CHUNKED:
            self.out.append(b"0\r\n%b\r\n" % field_lines(trailers))
            self._request = SENT
        elif request is COUNTED:  # trailers have no place behind it
            if self._left:
                raise BackendFault("the request's body is shorter than its content-length")
            self._request = SENT

    def cancel(self) -> None:
        """The request under way is no longer wanted. HTTP/1.1 can say so only by ending the connection."""
        if self._answer is not ANSWER_NONE or self._request is not SENT:
            self._goes_on = False

    # Receiving

    def express(self, data: bytes, now: float) -> bool:  # noqa: ARG002 - the BackendConnection's
        """Nothing: whatever comes is of an answer."""
        return False

    def receive(self, data: bytes, turn: Turn, exchange: Answered | None, now: float) -> int:
        """Read what came, and pass it to the exchange. Returns how many bytes; the rest is offered again."""
        pace = self.pace
        if pace.over and pace.must_wait(now):
            return 0
        try:
            if exchange is not None and self._answer is AWAITED and self._take_whole(data, turn, exchange):
                return len(data)
            at = self._receive(data, turn, exchange, now)
        except BadMessage as bad:
            self._goes_on = False
            raise BackendFault(bad.why) from None
        except BackendFault:
            self._goes_on = False
            raise
        if at < len(data) and self._answer is ANSWER_NONE:
            self._goes_on = False  # poisoned
            at = len(data)
        return at

    def _receive(self, data: bytes, turn: Turn, exchange: Answered | None, now: float) -> int:
        at = 0
        if not self.requests:
            self._check_version(data)
        else:
            self.processed = POSSIBLY  # a backend that closed an idle connection would have sent nothing
        while self._answer is AWAITED and at < len(data) and turn.left > 0:
            searched = self._answers.searched
            size = self._take_head(data[at:] if at else data, turn, exchange)
            if not size:
                if len(data) - at - searched < SMALL:
                    self.pace.spend(now, BARREN)
                return at
            at += size
        while self._answer is not ANSWER_NONE and self._answer is not AWAITED and at < len(data):
            if turn.left <= 0 or self.pace.over:
                break
            before, at = at, self._take_body(data, at, turn, exchange, now)
            if at == before:
                break
        return at

    def _take_whole(self, data: bytes, turn: Turn, exchange: Answered) -> bool:
        """Take an answer that came in one piece. Whether it is one."""
        if self._request is not SENT or self._answers.is_special or exchange.over:
            return False
        size = data.find(END) + len(END)  # of a head that is not complete: three bytes, which no cache has
        known = ANSWERS.young.get(data[:size])
        if known is None and len(END) < size <= CACHE_HEAD_BYTES:
            self.processed = POSSIBLY  # whatever comes of it
            known = self._new_head(data, turn)
            turn.left += KNOWN_HEAD_COST  # which comes to it here or in `_take_head`, where the cache has it by then
        if known is None or known.plain_length != len(data) - size:
            return False
        turn.left -= KNOWN_HEAD_COST + STEP_COST
        self._answer = ANSWER_NONE
        self._asked = None
        exchange.on_whole(known.head, data[size:])
        return True

    def _take_head(self, data: bytes, turn: Turn, exchange: Answered | None) -> int:
        """Take a head. Returns its size; 0: it is not complete."""
        size = data.find(END) + len(END)  # of a head that is not complete: three bytes, which no cache has
        known = ANSWERS.young.get(data[:size])
        if known is not None:  # the same bytes have passed every check
            self._answers.searched = 0
            turn.left -= KNOWN_HEAD_COST
        else:
            known = self._new_head(data, turn)
            if known is None:
                return 0
            size = data.find(END) + len(END)
        if known.raw.is_interim:
            self._interim(known, exchange)
        else:
            self._final(known, exchange, size == len(data))
        return size

    def _new_head(self, data: bytes, turn: Turn) -> ReadAnswer | None:
        """Read a head; None: it is not complete."""
        self._check_version(data)
        size = self._answers.head_size(data)
        if not size:
            return None
        known = ANSWERS.find(data[:size])
        turn.left -= ANSWER_COST + STEP_COST * len(known.raw.fields)
        return known

    def _check_version(self, data: bytes) -> None:
        """Raises OtherVersion where the backend speaks HTTP/2: it can't have understood a request of HTTP/1.1."""
        if is_frames(data):
            self.processed = NOT_PROCESSED
            raise OtherVersion("the backend sends HTTP/2 frames where it should speak HTTP/1.1")

    def _interim(self, known: ReadAnswer, exchange: Answered | None) -> None:
        """A 1xx head came: only a 101 is the last one."""
        if known.raw.status != _SWITCHING:
            if exchange is not None and not exchange.over:
                exchange.on_interim(known.head)
            return
        self._check_switch(known.head)
        self._request, self._answer, self._goes_on = REQUEST_TUNNEL, ANSWER_TUNNEL, False
        self._answers.begin_tunnel()
        if exchange is not None and not exchange.over:
            exchange.on_head(known.head, ended=False)

    def _check_switch(self, head: AnswerHead) -> None:
        """Judge a 101 (RFC 9110, section 7.8; RFC 6455, section 4.1). Raises BackendFault."""
        if self._asked is None:
            raise BackendFault("101 for a request without Upgrade")
        protocols, accept = self._asked
        chosen = _protocols(head.upgrade_to)
        if not chosen or not chosen <= protocols:
            raise BackendFault("101 with an Upgrade to another protocol than the request asked for")
        if accept and accept not in [value for name, value in head.fields if name == b"sec-websocket-accept"]:
            raise BackendFault("101 with another Sec-WebSocket-Accept than the key's")

    def _final(self, known: ReadAnswer, exchange: Answered | None, is_all: bool) -> None:
        """The final head came; `is_all`: nothing behind it has."""
        raw = known.raw
        follows = self._answers.begin_body(raw)
        if not raw.persists or self._answers.ends_with_connection or (not follows and not is_all):
            self._goes_on = False
        self._answer = BODY if follows else ANSWER_NONE
        self._asked = None
        if exchange is None or exchange.over:
            return
        exchange.on_head(known.head, ended=not follows)
        if not follows and not exchange.over:
            exchange.on_end([])

    def _take_body(self, data: bytes, at: int, turn: Turn, exchange: Answered | None, now: float) -> int:
        """Take more of the body, or of the backend's half of a tunnel. Returns the position behind it."""
        answers = self._answers
        pieces: list[bytes] = []
        at, steps = answers.next_body(data, at, -(-turn.left // STEP_COST), pieces)
        turn.left -= steps * STEP_COST
        ended = not answers.in_body
        if ended:
            self._answer = ANSWER_NONE
            if at < len(data):
                self._goes_on = False  # before the exchange hears of its end: poisoned
        self._count(pieces, ended, len(data), now)
        if exchange is None:
            return at
        if len(pieces) > 1 and len(data) <= JOINED_PIECES:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            if not exchange.over:
                exchange.on_body(piece)
        if ended and not exchange.over:
            exchange.on_end(answers.trailers)
        return at

    def _count(self, pieces: list[bytes], ended: bool, offered: int, now: float) -> None:
        """Count small pieces, as http2/frames.py does: what ends an answer does not count."""
        small = sum([len(each) < SMALL for each in pieces]) if pieces else BARREN * (offered < SMALL)
        if small and not (ended and len(pieces) <= 1):
            self.pace.spend(now, small)

    def closed(self, exchange: Answered | None, clean: bool) -> None:
        """The connection is over; `clean`: by a FIN. That ends what it delimits; else the answer is lost."""
        answer, self._answer, self._goes_on = self._answer, ANSWER_NONE, False
        if answer is ANSWER_NONE or exchange is None or exchange.over:
            return
        if answer is AWAITED:
            exchange.on_lost("the backend closed its connection before it answered", self.processed)
        elif clean and self._answers.ends_with_connection:
            exchange.on_end([])
        else:
            exchange.on_lost("the backend's answer broke off", self.processed)


def _protocols(value: bytes) -> frozenset[bytes]:
    """The members of Upgrade, in lower case: names of protocols are compared so (RFC 9110, section 7.8)."""
    return frozenset(each for each in (part.strip(b" \t").lower() for part in value.split(b",")) if each)
