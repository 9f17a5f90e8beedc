"""Answers that a backend sends beyond the windows of the client (RFC 9113, section 5.2).

Windows are end to end: the client's WINDOW_UPDATE frames reach the backend, and a backend that keeps to them is never
slowed down here. One that doesn't, or that has not heard yet of a window made smaller, must not make *us* overrun the
client. So what exceeds a window waits, in order, and leaves as the window opens, cut to fit. `MAX_HELD` bounds it:
beyond that we stop reading the backend, which affects only this client.
"""

from collections import deque

from mcproxy.l7.http2.budgets import HELD_OVERHEAD
from mcproxy.l7.http2.stream import Held, Stream
from mcproxy.l7.relay.pair import Pair
from mcproxy.wire.http2 import MAX_FRAME_SIZE, ErrorCode, StreamFault, data, headers


def hold(pair: Pair, stream: Stream, piece: Held) -> None:
    """Keep a piece until the windows allow it, and send what they allow now. Raises StreamFault."""
    if stream.held is None:
        stream.held = deque()
    elif stream.held and stream.held[-1].last:
        raise StreamFault(stream.id, ErrorCode.STREAM_CLOSED, "more after END_STREAM")
    stream.held.append(piece)
    pair.held_bytes += len(piece.payload) + HELD_OVERHEAD
    release(pair, stream)


def release(pair: Pair, stream: Stream) -> None:
    """Send what the windows allow."""
    held = stream.held
    while held:
        piece = held.popleft()
        pair.held_bytes -= len(piece.payload) + HELD_OVERHEAD
        room = max(0, min(stream.down_window, pair.down_window, MAX_FRAME_SIZE))
        if piece.trailers:
            pair.to_client.append(headers(stream.id, pair.down.prefix() + piece.payload, piece.last))
        elif len(piece.payload) <= room:
            _send(pair, stream, piece.payload, piece.last)
        else:
            if room:
                _send(pair, stream, piece.payload[:room], False)
            rest = Held(piece.payload[room:], piece.last)
            held.appendleft(rest)
            pair.held_bytes += len(rest.payload) + HELD_OVERHEAD
            if room < MAX_FRAME_SIZE:
                return
            continue
        if piece.last:
            stream.held = None
            pair.backend_ended(stream)
            return
    stream.held = None


def _send(pair: Pair, stream: Stream, payload: bytes, last: bool) -> None:
    stream.down_window -= len(payload)
    pair.down_window -= len(payload)
    pair.to_client.append(data(stream.id, payload, last))


def release_all(pair: Pair) -> None:
    """The connection's window has opened, or the initial one was raised."""
    if pair.held_bytes:
        for stream in list(pair.streams.values()):
            if stream.held:
                release(pair, stream)
