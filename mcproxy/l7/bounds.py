"""The bounds that both kinds of HTTP share, each with its reason.

Those of one kind only are in http2/budgets.py and bridge/bounds.py.
"""

from typing import Final

# Reads -----------------------------------------------------------------------------------------------------------
READ_SIZE: Final = 65_536  # bytes for one wake-up
# One read of a side that sends in bulk: a fifth less CPU than with 64 KiB, and 0.15 ms to send.
BULK_SIZE: Final = 131_072
LONE_BULK: Final = 524_288  # the same of the only session there is, which delays nobody: another tenth less
# The same of its backend in clear text, while the client takes all: an answer costs a seventh less again, and 2 ms to
# send. What a client sends is not read so far ahead: README says how much of an upload may wait.
LONE_ANSWER: Final = 2_097_152

MAX_UNSENT: Final = 262_144  # bytes unsent to a side at which the other one is no longer read
# Bytes read and not taken: requests behind the one that is under way; beyond, no more is read.
MAX_PENDING: Final = 65_536

# One turn --------------------------------------------------------------------------------------------------------
# Microseconds of judging before other sessions have their turn, as measured on one core: short enough that a client
# that sends the most expensive bytes there are costs its neighbours next to nothing, and long beside the 5 us that
# another turn costs.
TURN: Final = 128

# Heads -----------------------------------------------------------------------------------------------------------
# MAX_HEADER_LIST and MAX_FIELDS are in wire/fields.py, for the reader of HTTP/1.1 needs them, too.
MAX_INTERIM: Final = 16  # 1xx heads of one answer, under no flow control; real ones send one or two

# Answers of ours --------------------------------------------------------------------------------------------------
RETRY_AFTER: Final = 1  # seconds, in a 503: connections to a backend that is merely busy are free again sooner

# Bodies ----------------------------------------------------------------------------------------------------------
BODY_STALL_SECONDS: Final = 60.0  # a request's body that makes no progress though it may
