"""Bodies of requests on their way to the backend: its windows, and what waits for them (RFC 9113, section 5.2).

The client's windows are ours (STREAM_WINDOW, CONNECTION_WINDOW), and wider than the 65,535 bytes that many backends
leave as they are. So a distant client sends ahead, and what a backend takes in small steps comes in few reads and is
acknowledged in few WINDOW_UPDATEs: an upload takes two thirds of the CPU time that end-to-end windows took. DATA that
the backend's windows allow passes as it came. What they don't waits here, in order and bounded by the client's windows,
which open again as the backend takes it.

The end of a request is one for the rest of the relay once it has gone, too: until then its stream is OPEN, or
BACKEND_ENDED. Streams share the backend's window by turns, one frame each, so that a long upload starves no other.

Many backends open their windows for each 32 KiB that they have taken. So `grow_all` and `_release` run for every second
frame of an upload, and are written for few steps rather than for few lines.
"""

from collections import deque
from typing import Final

from mcproxy.l7.http2.budgets import CONNECTION_WINDOW, CREDIT
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.frames import END_STREAM, PADDED, Verdict, unpadded
from mcproxy.l7.http2.stream import Stream, StreamState, Upload
from mcproxy.wire.http2 import (
    DEFAULT_WINDOW,
    HEADER,
    MAX_WINDOW,
    WINDOW_UPDATE_SIZE,
    WINDOW_UPDATE_START,
    ConnectionFault,
    ErrorCode,
    Frame,
    Piece,
    StreamFault,
    frame_header,
    headers,
    unpack_window_update,
    window_update,
)

DATA: Final = int(Frame.DATA)
pack: Final = HEADER.pack
CONNECTION_CREDIT: Final = CONNECTION_WINDOW // 2  # bytes for which the client is sent a WINDOW_UPDATE in any case
CREDIT_BESIDE: Final = CREDIT // 2  # bytes for which a stream's window is opened where another one's is
CLOSED: Final = StreamState.CLOSED


def upload_of(stream: Stream) -> Upload:
    """Return how its body stands."""
    upload = stream.upload
    if upload is None:
        stream.upload = upload = Upload()
    return upload


class Uploads:
    """The bodies of one client's requests. Lengths are bytes."""

    __slots__ = ("_initial", "_is_due", "_out", "_owed", "_queue", "_room", "stirred")

    def __init__(self, out: list[Piece]) -> None:
        """`out`: frames for the backend."""
        self._out = out
        self._initial = DEFAULT_WINDOW  # of each stream, by the backend's SETTINGS
        self._room = DEFAULT_WINDOW  # of the backend's window for the connection
        self._owed = 0  # that went, and that the client's window for the connection lacks
        self._is_due = False  # a stream's window lacks CREDIT
        self._queue: deque[Stream] = deque()  # for whom something waits, in the order of their turns
        self.stirred = False  # `settle` has something to do

    def __repr__(self) -> str:
        return f"<Uploads {'waiting' if self._queue else 'flowing'} room={self._room}>"

    # From the client

    def holds(self, stream: Stream, size: int) -> bool:
        """Return whether a payload of that size would wait here."""
        upload = upload_of(stream)
        return upload.waits or (size > 0 and size > min(self._room, self._initial + upload.grown))

    def take(self, stream: Stream, flags: int, buf: bytes, start: int, end: int) -> Verdict:
        """Pass DATA as it came, or keep it. The stream's end is kept with it, and is no longer the caller's."""
        size = end - start
        upload = upload_of(stream)
        waits = upload.ended or upload.held > 0
        if waits or (size and (size > self._room or size > self._initial + upload.grown)):
            if flags & PADDED:
                start, end = unpadded(buf, start, end)
                self._owe(upload, size - (end - start))  # it goes no further
            upload.hold(buf, start, end, bool(flags & END_STREAM))
            if not waits and upload.waits:
                # An end alone, of a frame whose padding had no room, needs none itself.
                self._queue.append(stream) if upload.held else self._queue.appendleft(stream)
            self.stirred = True  # a part of it may fit
            return None
        self._room -= size
        upload.grown -= size
        self._owe(upload, size)
        return True

    def take_trailers(self, stream: Stream, encoded: bytes) -> None:
        """Keep them behind what waits, and the stream's end with them."""
        upload = upload_of(stream)
        upload.ended = True
        upload.trailers = encoded

    def _owe(self, upload: Upload, size: int) -> None:
        self._owed += size
        upload.owed += size
        if upload.owed >= CREDIT:
            self._is_due = self.stirred = True
        elif self._owed >= CONNECTION_CREDIT:
            self.stirred = True

    # From the backend

    def grow_all(self, buf: bytes, pos: int, size: int, streams: dict[int, Stream], most: int) -> int:
        """Take WINDOW_UPDATEs that overflow nothing, from `pos` on, at most so many. Returns where they end."""
        while most > 0 and size - pos >= WINDOW_UPDATE_SIZE:
            begins, stream_id, increment = unpack_window_update(buf, pos)
            if begins != WINDOW_UPDATE_START or not increment:
                break
            if not stream_id:
                room = self._room + increment
                if room > MAX_WINDOW:
                    break
                self._room = room
            else:
                stream = streams.get(stream_id)
                if stream is None:
                    break
                upload = upload_of(stream)
                grown = upload.grown + increment
                if self._initial + grown > MAX_WINDOW:
                    break
                upload.grown = grown
            self.stirred = True
            pos += WINDOW_UPDATE_SIZE
            most -= 1
        return pos

    def grow(self, stream: Stream | None, increment: int) -> None:
        """WINDOW_UPDATE: of the stream, or of the connection. Raises StreamFault, ConnectionFault."""
        self.stirred = True
        if stream is None:
            self._room += increment
            if self._room > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
            return
        upload = upload_of(stream)
        upload.grown += increment
        if self._initial + upload.grown > MAX_WINDOW:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")

    def resize(self, initial: int, client: ClientLeg) -> None:
        """SETTINGS_INITIAL_WINDOW_SIZE (section 6.9.2). Raises ConnectionFault."""
        self.stirred = True
        self._initial = initial
        most = max((each.upload.grown for each in client.streams.values() if each.upload is not None), default=0)
        if initial + most > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE overflows a window")

    # After each event

    def settle(self, client: ClientLeg) -> None:
        """Send what the backend's windows allow now, and open the client's. After each event, if it is `stirred`."""
        if self._queue:
            self._release(client)
        if self._is_due or self._owed >= CONNECTION_CREDIT:
            self._credit(client)
        self.stirred = False

    def _credit(self, client: ClientLeg) -> None:
        """Open the windows that lack much, in one write: where streams keep pace with each other, of all of them."""
        client.credit(self._owed)
        self._owed = 0
        self._is_due = False
        for stream in client.streams.values():
            upload = stream.upload
            if upload is None or upload.owed < CREDIT_BESIDE:
                continue
            if not stream.client_ended:
                stream.up_window += upload.owed
                client.out.append(window_update(stream.id, upload.owed))
            upload.owed = 0

    def _release(self, client: ClientLeg) -> None:
        """Send what the windows have room for, one frame of each stream in turn."""
        if len(self._queue) > len(client.streams):  # streams that ended leave it here, or when their turn comes
            self._queue = deque(each for each in self._queue if each.state is not CLOSED)
        queue, out, initial, room, now = self._queue, self._out, self._initial, self._room, client.now
        stuck = 0  # streams in a row whose own windows have no room
        while stuck < len(queue):
            stream = queue.popleft()
            upload = stream.upload
            if upload is None or not (upload.held or upload.ended) or stream.state is CLOSED:
                continue  # what waited has been dropped
            held, grown = upload.held, upload.grown
            most = initial + grown
            if held and (most <= 0 or room <= 0):
                if room <= 0:
                    queue.appendleft(stream)
                    break
                queue.append(stream)
                stuck += 1
                continue
            payload = upload.next_piece(min(most, room))
            size = len(payload)
            room -= size
            upload.grown = grown - size
            upload.owed = owed = upload.owed + size
            if owed >= CREDIT:
                self._is_due = True
            stream.progress = now
            if held > size:
                out += (pack(size >> 8, size & 0xFF, DATA, 0, stream.id), payload)
                queue.append(stream)
            elif upload.ended:
                self._end(stream, upload, payload, client)
            else:
                out += (pack(size >> 8, size & 0xFF, DATA, 0, stream.id), payload)
            stuck = 0
        self._owed += self._room - room
        self._room = room

    def _end(self, stream: Stream, upload: Upload, payload: Piece, client: ClientLeg) -> None:
        """Send the last piece, and what ends the request."""
        if payload or not upload.trailers:
            flags = 0 if upload.trailers else END_STREAM
            self._out += (frame_header(len(payload), DATA, flags, stream.id), payload)
        if upload.trailers:
            self._out.append(headers(stream.id, upload.trailers, end_stream=True))
        upload.ended = False
        client.request_ended(stream)
