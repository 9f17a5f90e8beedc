"""Answers that are larger than the windows of the client (RFC 9113, section 5.2).

A backend of HTTP/2 sees the client's windows end to end: one that keeps to them is never slowed down here. One that
doesn't, or that has not heard yet of a window made smaller, must not make *us* overrun the client, and a backend of
HTTP/1.1 knows no windows at all. So what exceeds a window waits, in order, and leaves as the window opens, cut to fit.
`MAX_HELD` bounds it: beyond that the owner stops reading the backend, which affects only this client.
"""

from collections import deque

from mcproxy.l7.http2.budgets import HELD_OVERHEAD
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.stream import Held, Stream
from mcproxy.wire.http2 import MAX_FRAME_SIZE, ErrorCode, StreamFault, data, headers


def hold(leg: ClientLeg, stream: Stream, piece: Held) -> None:
    """Keep a piece until the windows allow it, and send what they allow now. Raises StreamFault."""
    if stream.held is None:
        stream.held = deque()
    elif stream.held and stream.held[-1].last:
        raise StreamFault(stream.id, ErrorCode.STREAM_CLOSED, "more after END_STREAM")
    stream.held.append(piece)
    leg.windows.held_bytes += len(piece.payload) + HELD_OVERHEAD
    release(leg, stream)


def release(leg: ClientLeg, stream: Stream) -> None:
    """Send what the windows allow."""
    held, windows = stream.held, leg.windows
    while held:
        piece = held.popleft()
        windows.held_bytes -= len(piece.payload) + HELD_OVERHEAD
        room = max(0, min(stream.down_window, windows.down, MAX_FRAME_SIZE))
        if piece.trailers:
            leg.out.append(headers(stream.id, leg.down.prefix() + piece.payload, piece.last))
        elif len(piece.payload) <= room:
            _send(leg, stream, piece.payload, piece.last)
        else:
            if room:
                _send(leg, stream, piece.payload[:room], False)
            rest = Held(piece.payload[room:], piece.last)
            held.appendleft(rest)
            windows.held_bytes += len(rest.payload) + HELD_OVERHEAD
            if room < MAX_FRAME_SIZE:
                return
            continue
        if piece.last:
            stream.held = None
            leg.answer_ended(stream)
            return
    stream.held = None


def _send(leg: ClientLeg, stream: Stream, payload: bytes, last: bool) -> None:
    stream.down_window -= len(payload)
    leg.windows.down -= len(payload)
    leg.out.append(data(stream.id, payload, last))


def release_all(leg: ClientLeg) -> None:
    """The connection's window has opened, or the initial one was raised."""
    if leg.windows.held_bytes:
        for stream in list(leg.streams.values()):
            if stream.held:
                release(leg, stream)
