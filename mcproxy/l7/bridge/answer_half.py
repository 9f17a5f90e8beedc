"""The answer's half of an exchange: from the backend's end to the client's."""

from enum import Enum
from typing import Final

from mcproxy.l7.bounds import MAX_INTERIM
from mcproxy.l7.bridge.ends import BackendFault, ClientEnd
from mcproxy.l7.bridge.heads import AnswerHead
from mcproxy.wire.fields import passed_answer_trailers
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http2 import Piece


class AnswerState(Enum):
    """How much of the answer has been written to the client."""

    __hash__ = object.__hash__  # a member is one of a kind; the one of Enum is written in Python

    AWAITED = "awaited"  # at most interim heads
    BEGUN = "begun"  # its final head
    TUNNEL = "tunnel"  # that the tunnel is open: bytes pass as they are
    COMPLETE = "complete"  # all of it
    OURS = "ours"  # an answer of our own instead
    BROKEN = "broken"  # a part, which will never be complete; the client must not take it for all


# Members of an enum cost many times as much to read as a global (CONTRIBUTING).
AWAITED: Final = AnswerState.AWAITED
BEGUN: Final = AnswerState.BEGUN
BROKEN: Final = AnswerState.BROKEN
COMPLETE: Final = AnswerState.COMPLETE
OURS: Final = AnswerState.OURS
TUNNEL: Final = AnswerState.TUNNEL


_NEXT: dict[AnswerState, frozenset[AnswerState]] = {
    AnswerState.AWAITED: frozenset((AnswerState.BEGUN, AnswerState.TUNNEL, AnswerState.COMPLETE, AnswerState.OURS)),
    AnswerState.BEGUN: frozenset((AnswerState.COMPLETE, AnswerState.BROKEN)),
    AnswerState.TUNNEL: frozenset((AnswerState.COMPLETE, AnswerState.BROKEN)),
    AnswerState.COMPLETE: frozenset((AnswerState.BROKEN,)),  # the client breaks a rule in the rest of its request
    AnswerState.OURS: frozenset(),
    AnswerState.BROKEN: frozenset(),
}


class AnswerHalf:
    """The answer of one exchange. Raises BackendFault for an answer that can't be written to the client."""

    __slots__ = ("_interim", "client", "head_at", "sent", "state", "status", "takes_interim")

    def __init__(self, client: ClientEnd) -> None:
        self.client = client
        self.state = AWAITED
        self.status = 0  # of the final answer; 0: not begun
        self.head_at = 0.0  # when that came: seconds of the bridge's clock
        self.sent = 0  # bytes of the body
        self.takes_interim = False  # until the request is known to allow it
        self._interim = 0  # 1xx heads so far

    def __repr__(self) -> str:
        return f"<AnswerHalf {self.status} {self.state.value} sent={self.sent}>"

    def _become(self, state: AnswerState) -> None:
        assert state in _NEXT[self.state], (self, state)
        self.state = state

    def count_interim(self) -> None:
        """A 1xx head came. Raises BackendFault where it is one too many."""
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise BackendFault("too many interim answers")

    def interim(self, head: AnswerHead) -> None:
        """Write a 1xx head, if the client knows what that is."""
        if self.takes_interim:
            self.client.interim(head)

    def head(self, head: AnswerHead, empty: bool, last: bool) -> None:
        """Write the final head."""
        self.client.head(head, empty, last)
        self.status = head.status
        self._become(BEGUN)

    def whole(self, head: AnswerHead, body: Piece) -> None:
        """Write a whole answer, whose body is as long as the head says."""
        self.client.whole(head, body)
        self.status = head.status
        self.sent = len(body)
        self._become(COMPLETE)

    def open_tunnel(self, head: AnswerHead) -> None:
        """Write that the tunnel is open."""
        self.status = self.client.tunnel(head)
        self._become(TUNNEL)

    def body(self, data: Piece) -> None:
        """Write a piece of the body."""
        self.sent += len(data)
        self.client.body(data)

    def end(self, trailers: list[Field]) -> None:
        """Write the end."""
        self.client.end(passed_answer_trailers(trailers) if trailers else trailers)
        self._become(COMPLETE)

    def own(self, status: int, last: bool, why: str) -> None:
        """Write an answer of our own; `last`: the connection takes no further request."""
        self.status = status
        self.sent = self.client.own(status, last, why)
        self._become(OURS)

    def break_off(self) -> None:
        """The rest of the answer will never come."""
        self._become(BROKEN)
        self.client.reset()
