"""The bounds of the bridge, each with its reason; what both kinds of HTTP share is in l7/bounds.py."""

from typing import Final

# The client's time -----------------------------------------------------------------------------------------------
HEAD_SECONDS: Final = 10.0  # from a head's first byte to its last: a client sends it in one breath
KEEP_ALIVE_SECONDS: Final = 75.0  # between two requests; longer than what clients use, so that they close first
# From an answer, or the handshake, to a request that a drain still waits for: a program's next step, and round trips.
NEXT_REQUEST_SECONDS: Final = 2.0
BODY_GRACE_SECONDS: Final = 60.0  # after which a body of declared length has to come at MIN_BODY_RATE on average
MIN_BODY_RATE: Final = 100  # bytes a second; a modem did 30 times that

# The backend's time ----------------------------------------------------------------------------------------------
EXPECT_SECONDS: Final = 0.5  # for a backend's 100 or answer, before we invite the body ourselves: many never say 100
FIRST_SETTINGS_SECONDS: Final = 10.0  # for a backend's first SETTINGS, where a WebSocket has to wait for them
ATTEMPTS: Final = 2  # of one request

# Bytes -----------------------------------------------------------------------------------------------------------
MAX_WAITING: Final = 262_144  # bytes of a body that the backend has no room for; beyond, the client is not read
MAX_REPLAY: Final = 65_536  # bytes of a body kept for a second attempt; covers what forms and API calls send
MAX_UNREAD: Final = 262_144  # bytes of a body that are read for nothing after its answer; beyond, the connection ends
WINDOW: Final = 1 << 20  # bytes that the backend may send ahead: enough for 1 Gbit/s at 8 ms, few enough to hold
# Bytes that came before a WINDOW_UPDATE says so: few frames, and no backend waits for one.
WINDOW_STEP: Final = WINDOW // 2
MAX_UNSENT: Final = 262_144  # bytes for a backend that its socket has no room for: as much as is read of a client
# Bytes of a read whose chunks are passed on as one piece: to copy them costs less than to frame.
JOINED_PIECES: Final = 16_384
SHORT_PIECE: Final = 1_024  # bytes: a shorter piece of a body costs by its frame, behind whose header it is copied

# Heads of HTTP/1.1 that are kept (head_cache.py) -------------------------------------------------------------------
CACHE_HEADS: Final = 1_024  # heads of one generation; about 4 KB each, two generations, requests and answers
KEPT_OF_MADE: Final = 7  # heads that were made from a template, one is kept: see request_heads.py
CACHE_HEAD_BYTES: Final = 2_048  # a larger head repeats too seldom for the memory it takes

# What a turn is spent on: microseconds, as measured ----------------------------------------------------------------
HEAD_COST: Final = 80  # of a request: to read it, to begin it, and to end it
HEAD_FIELD_COST: Final = 5  # of each field of its head: to read, judge and encode it
HEAD_BYTES: Final = 30  # of its head, in one microsecond
DEAR_HEAD: Final = 384  # a head that takes longer waits for a turn of its own; browsers send some 20 fields
NEW_TARGET_COST: Final = 20  # of a head of which only the target is new
KNOWN_HEAD_COST: Final = 15  # of a head that is cached, whichever side sent it
ANSWER_COST: Final = 30  # of an answer's head that is new
STEP_COST: Final = 3  # of a line or a piece of its body
