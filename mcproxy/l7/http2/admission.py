"""Rules for new streams: their number, their host, what was announced, and what GOAWAY has refused."""

from collections.abc import Callable
from typing import Final, NamedTuple

from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.budgets import EARLY_STREAMS
from mcproxy.l7.http2.header_link import Section, TooLarge
from mcproxy.wire.fields import Malformed, Request
from mcproxy.wire.http2 import MAX_STREAM_ID, ErrorCode

BAD_REQUEST_STATUS: Final = 400  # RFC 9110, section 15.5.1
TOO_LARGE_STATUS: Final = 431  # RFC 6585, section 5


class Refusal(NamedTuple):
    """How a request ends that is not admitted, and why."""

    outcome: ErrorCode | int  # the code of its RST_STREAM, or the status of its answer
    why: str

    @property
    def reason(self) -> str:
        """The reason for the log, with the code that the client is sent."""
        return f"{self.outcome.name}: {self.why}" if isinstance(self.outcome, ErrorCode) else self.why

    @property
    def end(self) -> ExchangeEnd:
        """The word for it in the log."""
        if self.outcome == ErrorCode.REFUSED_STREAM:
            return ExchangeEnd.REFUSED
        is_fault = isinstance(self.outcome, ErrorCode) or self.outcome in (BAD_REQUEST_STATUS, TOO_LARGE_STATUS)
        return ExchangeEnd.CLIENT_FAULT if is_fault else ExchangeEnd.ANSWERED


class Admission:
    """The rules for new streams of one client connection."""

    __slots__ = (
        "closing",
        "extended_connect",
        "host",
        "last_offered",
        "leads_here",
        "max_streams",
        "status",
        "unchecked",
        "why",
    )

    def __init__(self, host: bytes, leads_here: Callable[[bytes], bool]) -> None:
        """`host` is the connection's name; `leads_here` returns whether another host leads to the same route."""
        self.host = host
        self.leads_here = leads_here
        self.max_streams = EARLY_STREAMS  # the most that was ever announced and not taken back
        # The most that may be open and still let a request of the connection's own host pass without `refusal`.
        self.unchecked = EARLY_STREAMS
        self.extended_connect = False  # RFC 8441 is offered
        self.last_offered = MAX_STREAM_ID  # of our last GOAWAY: higher streams are not processed
        self.closing = False  # GOAWAY has named a last stream
        self.status = 0  # that every new request is answered with, for there is no backend; 0: requests pass
        self.why = ""  # of `status`

    def __repr__(self) -> str:
        rule = f"all get {self.status}" if self.status else f"up to {self.last_offered}"
        return f"<Admission {self.host!r} {self.max_streams} streams, {rule}>"

    def allow(self, streams: int) -> None:
        """So many may be open at once."""
        self.max_streams = streams
        self.unchecked = 0 if self.status or self.closing else streams

    def offer(self, last_id: int) -> int:
        """Process streams up to this one; returns the last one: a refusal is never taken back (section 6.8)."""
        self.last_offered = min(last_id, self.last_offered)
        self.closing = self.last_offered != MAX_STREAM_ID
        self.allow(self.max_streams)
        return self.last_offered

    def answer_all(self, status: int, why: str) -> None:
        """Answer every request from now on with this status."""
        self.status = status
        self.why = why
        self.unchecked = 0

    def refusal(
        self, stream_id: int, ended: bool, section: Section[Request], streams: int, frame_fault: str
    ) -> Refusal | None:
        """Judge a request; None admits it.

        `ended`: it has no body. `streams` are open. `frame_fault` is what is wrong with the frame of its head.
        """
        request, fault = section.value, section.fault
        if stream_id > self.last_offered:
            return Refusal(ErrorCode.REFUSED_STREAM, "a stream above the last one that GOAWAY named")
        if streams >= self.max_streams:
            return Refusal(ErrorCode.REFUSED_STREAM, f"more than {self.max_streams} streams at once")
        if frame_fault or isinstance(fault, Malformed):
            return Refusal(ErrorCode.PROTOCOL_ERROR, frame_fault or str(fault))  # section 8.1.1
        if request is None:
            return Refusal(TOO_LARGE_STATUS if isinstance(fault, TooLarge) else BAD_REQUEST_STATUS, str(fault))
        if request.refusal:
            return Refusal(request.refusal, request.why)
        if request.protocol and not self.extended_connect:
            return Refusal(ErrorCode.PROTOCOL_ERROR, ":protocol, which was not offered")  # RFC 8441, section 3
        if request.content_length > 0 and ended:
            return Refusal(ErrorCode.PROTOCOL_ERROR, "content-length without a body")
        if request.host != self.host and not self.leads_here(request.host):
            return Refusal(421, "a host that this connection's route doesn't serve")
        return Refusal(self.status, self.why) if self.status else None
