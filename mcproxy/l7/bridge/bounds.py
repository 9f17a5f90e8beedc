"""The bounds of the bridge, each with its reason; what both kinds of HTTP share is in l7/bounds.py."""

# The client's time -----------------------------------------------------------------------------------------------
HEAD_SECONDS = 10.0  # from a head's first byte to its last: a client sends it in one breath
KEEP_ALIVE_SECONDS = 75.0  # between two requests; longer than what clients use, so that they close first
BODY_GRACE_SECONDS = 60.0  # after which a body of declared length has to come at MIN_BODY_RATE on average
MIN_BODY_RATE = 100  # bytes a second; a modem did 30 times that

# The backend's time ----------------------------------------------------------------------------------------------
EXPECT_SECONDS = 0.5  # for a backend's 100 or answer, before we invite the body ourselves: many never say 100
FIRST_SETTINGS_SECONDS = 10.0  # for a backend's first SETTINGS, where a WebSocket has to wait for them
ATTEMPTS = 2  # of one request

# Bytes -----------------------------------------------------------------------------------------------------------
MAX_WAITING = 262_144  # bytes of a body that the backend has no room for; beyond, the client is not read
MAX_REPLAY = 65_536  # bytes of a body kept for a second attempt; covers what forms and API calls send
MAX_UNREAD = 262_144  # bytes of a body that are read for nothing after its answer; beyond, the connection ends
WINDOW = 1 << 20  # bytes that the backend may send ahead: enough for 1 Gbit/s at 8 ms, few enough to hold
WINDOW_STEP = WINDOW // 2  # bytes that came before a WINDOW_UPDATE says so: few frames, and no backend waits for one
STREAM_WINDOW = MAX_WAITING  # bytes of a request's body that an HTTP/2 client may send ahead of the backend
CONNECTION_WINDOW = 1 << 20  # the same of all its streams together
CREDIT = 65_536  # bytes that the backend has taken, before a WINDOW_UPDATE says so: a sixteenth of the frames otherwise
MAX_UNSENT = 262_144  # bytes for a backend that its socket has no room for: as much as is read of a client
JOINED_PIECES = 16_384  # bytes of a read whose chunks are passed on as one piece: to copy them costs less than to frame
SHORT_PIECE = 1_024  # bytes: a shorter piece of a body costs by its frame, behind whose header it is copied

# Heads of HTTP/1.1 that are kept (head_cache.py) -------------------------------------------------------------------
CACHE_HEADS = 1_024  # heads of one generation; about 4 KB each, two generations, requests and answers
CACHE_HEAD_BYTES = 2_048  # a larger head repeats too seldom for the memory it takes

# What a turn is spent on: microseconds, as measured ----------------------------------------------------------------
HEAD_COST = 80  # of a request: to read it, to begin it, and to end it
HEAD_FIELD_COST = 5  # of each field of its head: to read, judge and encode it
HEAD_BYTES = 30  # of its head, in one microsecond
DEAR_HEAD = 384  # a head that takes longer waits for a turn of its own; browsers send some 20 fields
KNOWN_HEAD_COST = 15  # of a head that is cached, whichever side sent it
ANSWER_COST = 30  # of an answer's head that is new
STEP_COST = 3  # of a line or a piece of its body
