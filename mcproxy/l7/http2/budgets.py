"""The bounds of HTTP/2, each with its reason, and what rates are held with: a meter, and a client's budget.

The bounds that both kinds of HTTP share are in l7/bounds.py.

Each frame here is one that costs its sender next to nothing and us (or the backend) something: the attacks that have
names are Rapid Reset (CVE-2023-44487), MadeYouReset (CVE-2025-8671), the floods of CVE-2019-9511 to 9518 and of
CONTINUATION (CVE-2024-27316 and its kin), and HPACK bombs. Past a bound the client gets GOAWAY with ENHANCE_YOUR_CALM.
"""

from mcproxy.wire.http2 import ConnectionFault, ErrorCode

# Streams ---------------------------------------------------------------------------------------------------------
MAX_STREAMS = 256  # at once; browsers use 100, and a backend that wants fewer has its own number passed on
EARLY_STREAMS = 100  # announced while the backend has not spoken: RFC 9113, section 6.5.2 recommends no fewer
REMEMBERED_RESETS = 1_024  # closed streams whose late frames are expected; two flights of MAX_STREAMS, and room

# What a turn is spent on: microseconds, as measured ----------------------------------------------------------------
FRAME_COST = 2  # to judge one that is small, and to send what it leads to
EXPRESS_FRAMES = 2  # of an express lane in one microsecond
EARLY_END_COST = 8  # of a frame that ends a stream early: a line is written, too
FIELD_COST = 2  # of each field of a header block that is decoded
BYTES_DECODED = 8  # of such a block, in one microsecond
LARGE_BLOCK = 4_096  # bytes of a header block; of a larger one, so many are unpacked in a turn of its own

# Header blocks ---------------------------------------------------------------------------------------------------
MAX_BLOCK = 81_920  # bytes, encoded: MAX_HEADER_LIST as literals, and its overhead
MAX_FRAGMENTS = 64  # frames of one block; five full ones hold MAX_BLOCK
BLOCK_SECONDS = 10.0  # from HEADERS to END_HEADERS, which a client sends in one breath
CACHE_BLOCKS = 1_024  # sections of one generation; about 3 KB each, two generations, four kinds
CACHE_BLOCK_BYTES = 2_048  # a larger block repeats too seldom for the memory it takes
CACHE_FIELDS = 64  # the same holds for one of more fields, which may be a few bytes each
MAX_TABLE = 4_096  # bytes of a mirrored dynamic table: the default, which every peer takes

# Bytes, read and waiting -----------------------------------------------------------------------------------------
MAX_HELD = 1 << 20  # DATA of a backend that overruns the client's windows; beyond it the backend is not read
HELD_OVERHEAD = 128  # bytes that each piece of it counts for, whatever it holds
SETTINGS_SECONDS = 10.0  # for a SETTINGS acknowledgement, which needs one round trip (RFC 9113, section 6.5.3)
PREFACE_SECONDS = 1.0  # how long the client's SETTINGS wait for the backend's; some clients wait for ours
GRACE_SECONDS = 1.0  # between "no new streams, please" and "no new streams" of a drain (section 6.8)

# Rates: so many in each PERIOD -----------------------------------------------------------------------------------
PERIOD = 10.0  # seconds; long enough that a burst of a real client averages out
RESETS = 500  # streams ended early by the client or its faults, beyond one for each exchange that was completed
TOO_LARGE = 20  # header lists answered 431, each of which may take 3 ms to decode; real clients learn from the first
MAX_SETTINGS = 64  # in one frame, which has room for 2,730; real ones hold up to ten, GREASE included
SETTINGS = 50  # each walks all streams; real clients send two or three in a connection's life
EMPTY = 500  # DATA without a byte or an end, empty header fragments: they say nothing
IDLE_TALK = 2_000  # PING, WINDOW_UPDATE, PRIORITY, unknown frames, beyond TALK_FOR_WORK
TALK_FOR_WORK = 10  # of them for each request and each DATA frame either way; grpc-go sends a PING a round trip


class Meter:
    """Counts one kind of frame in periods; a count past its limit is the client's fault."""

    __slots__ = ("count", "limit", "since", "what")

    def __init__(self, limit: int, what: str, now: float) -> None:
        self.limit = limit
        self.what = what
        self.count = 0
        self.since = now  # seconds, of the clock that the relay is given

    def __repr__(self) -> str:
        return f"<Meter {self.what} {self.count} of {self.limit}>"

    def spend(self, now: float, allowance: int = 0) -> bool:
        """Count one. True: a new period began. Raises ConnectionFault past the limit and `allowance`."""
        self.count += 1
        if self.count <= self.limit + allowance:
            return False
        if now - self.since < PERIOD:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many: {self.what}")
        self.since = now
        self.count = 1
        return True

    def renew(self, now: float) -> None:
        """Begin a new period."""
        self.since = now
        self.count = 0


class Budget:
    """Counts the work of a client connection in this period, which pays for frames that cost us more than the client.

    Work of long ago pays for nothing: the owner begins a new period every PERIOD seconds.
    """

    __slots__ = ("_resets", "_talk", "done", "work")

    def __init__(self, now: float) -> None:
        self.work = 0  # requests, and DATA frames either way; see TALK_FOR_WORK
        self.done = 0  # exchanges that were completed
        self._resets = Meter(RESETS, "streams ended early", now)
        self._talk = Meter(IDLE_TALK, "frames without work", now)

    def __repr__(self) -> str:
        return f"<Budget {self.work} of work, {self.done} done, {self._resets!r}>"

    def renew(self, now: float) -> None:
        """Begin a new period."""
        self.work = self.done = 0
        self._resets.renew(now)
        self._talk.renew(now)

    def spend_talk(self, now: float) -> None:
        """Count a frame that asks for nothing. Raises ConnectionFault."""
        talk = self._talk
        if talk.count < IDLE_TALK:  # without a call: nearly all are like this
            talk.count += 1
        elif talk.spend(now, TALK_FOR_WORK * self.work):
            self.work = 0

    def spend_reset(self, now: float) -> None:
        """Count a stream that the client, or a fault of the client's, has ended early. Raises ConnectionFault."""
        if self._resets.spend(now, self.done):
            self.done = 0
