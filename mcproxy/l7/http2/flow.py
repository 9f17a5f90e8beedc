"""Answers that are larger than the windows of the client (RFC 9113, section 5.2).

A backend of HTTP/2 sees the client's windows end to end: one that keeps to them is never slowed down here. One that
doesn't, or that has not heard yet of a window made smaller, must not make *us* overrun the client, and a backend of
HTTP/1.1 knows no windows at all. So what exceeds a window waits, in order, and leaves as the window opens, cut to fit.
`MAX_HELD` bounds it: beyond that the owner stops reading the backend, which affects only this client.

A large piece is never copied here: its frames are headers of ours and views of it.
"""

from collections import deque
from typing import Final

from mcproxy.l7.http2.budgets import HELD_OVERHEAD
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.stream import Held, Stream
from mcproxy.wire.http2 import MAX_FRAME_SIZE, ErrorCode, Flag, Frame, Piece, StreamFault, frame_header, headers

DATA: Final = int(Frame.DATA)
END_STREAM: Final = int(Flag.END_STREAM)


def send(leg: ClientLeg, stream: Stream, payload: Piece, last: bool) -> None:
    """Send a piece of a body, as much as the windows allow, and keep the rest. `last`: END_STREAM."""
    size = len(payload)
    if stream.held is None and size <= stream.down_window and size <= leg.windows.down:
        _write(leg, stream, payload, size, last)  # nearly all are like this
        if last:
            leg.answer_ended(stream)
    else:
        hold(leg, stream, Held(payload, last))


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
        piece = held[0]
        size = len(piece.payload)
        room = size if piece.trailers else min(stream.down_window, windows.down)
        if room < size:
            if room > 0:
                _write(leg, stream, memoryview(piece.payload)[:room], room, last=False)
                held[0] = Held(_rest(piece.payload, room), piece.last)
                windows.held_bytes -= room
            return
        held.popleft()
        windows.held_bytes -= size + HELD_OVERHEAD
        if piece.trailers:
            leg.out.append(headers(stream.id, leg.down.prefix() + piece.payload, piece.last))
        else:
            _write(leg, stream, piece.payload, size, piece.last)
        if piece.last:
            stream.held = None
            leg.answer_ended(stream)
            return
    stream.held = None


def _rest(payload: Piece, start: int) -> Piece:
    """Return a piece from `start` on. A view keeps all of what it is of: it is copied once that is twice as long."""
    rest = memoryview(payload)[start:]
    return bytes(rest) if 2 * len(rest) < memoryview(rest.obj).nbytes else rest


def _write(leg: ClientLeg, stream: Stream, payload: Piece, size: int, last: bool) -> None:
    """Write DATA that the windows allow, cut into frames."""
    out, stream_id, start = leg.out, stream.id, 0
    stream.down_window -= size
    leg.windows.down -= size
    if size > MAX_FRAME_SIZE:
        payload = memoryview(payload)
        full = frame_header(MAX_FRAME_SIZE, DATA, 0, stream_id)
        while size - start > MAX_FRAME_SIZE:
            out += (full, payload[start : start + MAX_FRAME_SIZE])
            start += MAX_FRAME_SIZE
        payload = payload[start:]
    out += (frame_header(size - start, DATA, END_STREAM if last else 0, stream_id), payload)


def release_all(leg: ClientLeg) -> None:
    """The connection's window has opened, or the initial one was raised."""
    if leg.windows.held_bytes:
        for stream in list(leg.streams.values()):
            if stream.held:
                release(leg, stream)
