"""The bounds of HTTP/2, each with its reason, and a client's budget.

The bounds that both kinds of HTTP share are in l7/bounds.py. The rates, of frames that cost their sender next to
nothing and us (or the backend) something, are in l7/meters.py.
"""

from typing import Final

from mcproxy.l7.meters import TALK_FOR_WORK, Loop, Meter

# Streams ---------------------------------------------------------------------------------------------------------
MAX_STREAMS: Final = 256  # at once; browsers use 100, and a backend that wants fewer has its own number passed on
EARLY_STREAMS: Final = 100  # announced while the backend has not spoken: RFC 9113, section 6.5.2 recommends no fewer
REMEMBERED_RESETS: Final = 1_024  # closed streams whose late frames are expected; two flights of MAX_STREAMS, and room

# What a turn is spent on: microseconds, as measured ----------------------------------------------------------------
FRAME_COST: Final = 2  # to judge one that is small, and to send what it leads to
EXPRESS_FRAMES: Final = 2  # of an express lane in one microsecond
EARLY_END_COST: Final = 8  # of a frame that ends a stream early: a line is written, too
FIELD_COST: Final = 2  # of each field of a header block that is decoded
BYTES_DECODED: Final = 8  # of such a block, in one microsecond
PATH_COST: Final = 5  # of a block of which only the path is new; the bytes of its Huffman code come to that
# Bytes of a header block; a larger one is unpacked in turns of its own. What takes longest are new names and values of
# two bytes: 384 us for so many, as DEAR_HEAD allows in HTTP/1.1. Heads of programs have fewer once the table is filled.
LARGE_BLOCK: Final = 1_024
UNPACKED: Final = 4_096  # bytes of such a block in one turn

# Header blocks ---------------------------------------------------------------------------------------------------
MAX_BLOCK: Final = 81_920  # bytes, encoded: MAX_HEADER_LIST as literals, and its overhead
MAX_FRAGMENTS: Final = 64  # frames of one block; five full ones hold MAX_BLOCK
BLOCK_SECONDS: Final = 10.0  # from HEADERS to END_HEADERS, which a client sends in one breath
CACHE_BLOCKS: Final = 1_024  # sections of one generation; about 3 KB each, two generations, four kinds, and templates
CACHE_BLOCK_BYTES: Final = 2_048  # a larger block repeats too seldom for the memory it takes
CACHE_FIELDS: Final = 64  # the same holds for one of more fields, which may be a few bytes each
# Bytes of the fields of such a block: what the dynamic table and a block of that size can say once. One that says much
# again and again stands for 64 KiB in twenty bytes.
CACHE_FIELD_BYTES: Final = 8_192
KEPT_OF_MADE: Final = 7  # sections that were made from a template, one is kept: see request_blocks.py
MAX_TABLE: Final = 4_096  # bytes of a mirrored dynamic table: the default, which every peer takes

# Bytes, read and waiting -----------------------------------------------------------------------------------------
MAX_HELD: Final = 1 << 20  # DATA of a backend that overruns the client's windows; beyond it the backend is not read
HELD_OVERHEAD: Final = 128  # bytes that each piece of it counts for, whatever it holds
STREAM_WINDOW: Final = 262_144  # bytes of a request's body that a client may send ahead of the backend
CONNECTION_WINDOW: Final = 1 << 20  # the same of all its streams together
CREDIT: Final = STREAM_WINDOW // 2  # bytes that the backend has taken, before a WINDOW_UPDATE says so
SETTINGS_SECONDS: Final = 10.0  # for a SETTINGS acknowledgement, which needs one round trip (RFC 9113, section 6.5.3)
PREFACE_SECONDS: Final = 1.0  # how long the client's SETTINGS wait for the backend's; some clients wait for ours
GRACE_SECONDS: Final = 1.0  # between "no new streams, please" and "no new streams" of a drain (section 6.8)

# One frame ---------------------------------------------------------------------------------------------------------
MAX_SETTINGS: Final = 64  # in one frame, which has room for 2,730; real ones hold up to ten, GREASE included


class Budget:
    """Counts the work of a client connection in this period, which pays for frames that cost us more than the client.

    Work of long ago pays for nothing: the owner begins a new period every PERIOD seconds.
    """

    __slots__ = ("_answers", "_resets", "_talk", "done", "work")

    def __init__(self, now: float) -> None:
        self.work = 0  # requests, and DATA frames either way; see TALK_FOR_WORK
        self.done = 0  # exchanges that were completed
        self._answers = Meter(Loop.OWN_ANSWERS, now)
        self._resets = Meter(Loop.RESETS, now)
        self._talk = Meter(Loop.TALK, now)

    def __repr__(self) -> str:
        return f"<Budget {self.work} of work, {self.done} done, {self._resets!r}>"

    def renew(self, now: float) -> None:
        """Begin a new period."""
        self.work = self.done = 0
        self._answers.renew(now)
        self._resets.renew(now)
        self._talk.renew(now)

    def spend_talk(self, now: float) -> None:
        """Count a frame that asks for nothing. Raises Exceeded."""
        talk = self._talk
        if talk.count < talk.limit:  # without a call: nearly all are like this
            talk.count += 1
        elif talk.spend(now, TALK_FOR_WORK * self.work):
            self.work = 0

    def spend_answer(self, now: float) -> None:
        """Count a request that we answered ourselves, though it could be read. Raises Exceeded."""
        if self._answers.spend(now, self.done):
            self.done = 0

    def spend_reset(self, now: float) -> None:
        """Count a stream that the client, or a fault of the client's, has ended early. Raises Exceeded."""
        if self._resets.spend(now, self.done):
            self.done = 0
