"""Bodies of requests on their way to the backend: its windows, and what waits for them (RFC 9113, section 5.2).

The client's windows are ours (STREAM_WINDOW, CONNECTION_WINDOW), and wider than the 65,535 bytes that many backends
leave as they are. So a distant client sends ahead, and what a backend takes in small steps comes in few reads and is
acknowledged in few WINDOW_UPDATEs: an upload takes two thirds of the CPU time that end-to-end windows took. DATA that
the backend's windows allow passes as it came. What they don't waits here, in order and bounded by the client's windows,
which open again as the backend takes it.

The end of a request is one for the rest of the relay once it has gone, too: until then its stream is OPEN, or
BACKEND_ENDED. Streams share the backend's window by turns, one frame each, so that a long upload starves no other.
"""

from typing import Final

from mcproxy.l7.http2.budgets import CONNECTION_WINDOW, CREDIT
from mcproxy.l7.http2.client_leg import ClientLeg
from mcproxy.l7.http2.frames import END_STREAM, PADDED, Verdict, unpadded
from mcproxy.l7.http2.stream import Stream, StreamState, Upload
from mcproxy.wire.http2 import (
    DEFAULT_WINDOW,
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
    Frame,
    Piece,
    StreamFault,
    frame_header,
    headers,
    window_update,
)

DATA: Final = int(Frame.DATA)
CONNECTION_CREDIT: Final = CONNECTION_WINDOW // 2  # bytes for which the client is sent a WINDOW_UPDATE in any case
CLOSED: Final = StreamState.CLOSED


def upload_of(stream: Stream) -> Upload:
    """Return how its body stands."""
    upload = stream.upload
    if upload is None:
        stream.upload = upload = Upload()
    return upload


class Uploads:
    """The bodies of one client's requests. Lengths are bytes."""

    __slots__ = ("_initial", "_last_id", "_out", "_owed", "_owing", "_room", "_waits", "stirred")

    def __init__(self, out: list[Piece]) -> None:
        """`out`: frames for the backend."""
        self._out = out
        self._initial = DEFAULT_WINDOW  # of each stream, by the backend's SETTINGS
        self._room = DEFAULT_WINDOW  # of the backend's window for the connection
        self._owed = 0  # that went, and that the client's window for the connection lacks
        self._owing: list[Stream] = []  # streams whose windows lack much
        self._last_id = 0  # of the stream that was served last
        self._waits = False  # some may wait
        self.stirred = False  # `settle` has something to do

    def __repr__(self) -> str:
        return f"<Uploads {'waiting' if self._waits else 'flowing'} room={self._room}>"

    # From the client

    def holds(self, stream: Stream, size: int) -> bool:
        """Return whether a payload of that size would wait here."""
        upload = upload_of(stream)
        return upload.waits or size > max(0, min(self._room, self._initial + upload.grown))

    def take(self, stream: Stream, flags: int, buf: bytes, start: int, end: int) -> Verdict:
        """Pass DATA as it came, or keep it. The stream's end is kept with it, and is no longer the caller's."""
        size = end - start
        upload = upload_of(stream)
        if self.holds(stream, size):
            if flags & PADDED:
                start, end = unpadded(buf, start, end)
                self._owe(stream, upload, size - (end - start))  # it goes no further
            upload.hold(memoryview(buf)[start:end], bool(flags & END_STREAM))
            self._waits = self.stirred = True  # a part of it may fit
            return None
        self._room -= size
        upload.grown -= size
        self._owe(stream, upload, size)
        return True

    def take_trailers(self, stream: Stream, encoded: bytes) -> None:
        """Keep them behind what waits, and the stream's end with them."""
        upload = upload_of(stream)
        upload.ended = True
        upload.trailers = encoded

    def _owe(self, stream: Stream, upload: Upload, size: int) -> None:
        self._owed += size
        upload.owed += size
        if upload.owed >= CREDIT > upload.owed - size:
            self._owing.append(stream)
            self.stirred = True
        elif self._owed >= CONNECTION_CREDIT:
            self.stirred = True

    # From the backend

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
        if self._waits:
            self._release(client)
        if self._owing or self._owed >= CONNECTION_CREDIT:
            client.credit(self._owed)
            self._owed = 0
        while self._owing:
            stream = self._owing.pop()
            upload = upload_of(stream)
            if not (stream.client_ended or stream.state is CLOSED):
                stream.up_window += upload.owed
                client.out.append(window_update(stream.id, upload.owed))
            upload.owed = 0
        self.stirred = False

    def _release(self, client: ClientLeg) -> None:
        waiting = [each for each in client.streams.values() if each.upload is not None and each.upload.waits]
        waiting.sort(key=lambda each: each.id <= self._last_id)
        while waiting:
            waiting = [each for each in waiting if self._serve(each, client)]
        self._waits = any(each.upload is not None and each.upload.waits for each in client.streams.values())

    def _serve(self, stream: Stream, client: ClientLeg) -> bool:
        """Send one frame of what waits. Returns whether another may follow."""
        upload = upload_of(stream)
        room = min(self._room, self._initial + upload.grown, MAX_FRAME_SIZE)
        if upload.waiting and room <= 0:
            return False
        payload = upload.next_piece(room)
        size, trailers, last = len(payload), upload.trailers, upload.ended and not upload.waiting
        if size or not trailers:
            self._out += (frame_header(size, DATA, END_STREAM if last and not trailers else 0, stream.id), payload)
        if last and trailers:
            self._out.append(headers(stream.id, trailers, end_stream=True))
        self._room -= size
        upload.grown -= size
        self._owe(stream, upload, size)
        self._last_id = stream.id
        stream.progress = client.now
        if last:
            upload.ended = False
            client.request_ended(stream)
        return upload.waits
