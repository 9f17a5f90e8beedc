"""The bounds that both kinds of HTTP share, each with its reason.

Those of one kind only are in http2/budgets.py and bridge/bounds.py.
"""

# Reads -----------------------------------------------------------------------------------------------------------
READ_SIZE = 65_536  # bytes for one wake-up
BULK_SIZE = 131_072  # one read of a side that sends in bulk: a fifth less CPU than with 64 KiB, and 0.15 ms to send
LONE_BULK = 524_288  # the same of the only session there is, which delays nobody: another tenth less

MAX_UNSENT = 262_144  # bytes unsent to a side at which the other one is no longer read
MAX_PENDING = 65_536  # bytes read and not taken: requests behind the one that is under way; beyond, no more is read

# One turn --------------------------------------------------------------------------------------------------------
# Microseconds of judging before other sessions have their turn, as measured on one core: short enough that a client
# that sends the most expensive bytes there are costs its neighbours next to nothing, and long beside the 5 us that
# another turn costs.
TURN = 128

# Heads -----------------------------------------------------------------------------------------------------------
# MAX_HEADER_LIST and MAX_FIELDS are in wire/fields.py, for the reader of HTTP/1.1 needs them, too.
MAX_INTERIM = 16  # 1xx heads of one answer, under no flow control; real ones send one or two

# Answers of ours --------------------------------------------------------------------------------------------------
RETRY_AFTER = 1  # seconds, in a 503: connections to a backend that is merely busy are free again sooner

# Bodies ----------------------------------------------------------------------------------------------------------
BODY_STALL_SECONDS = 60.0  # a request's body that makes no progress though it may
