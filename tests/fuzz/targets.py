"""All targets, by name."""

from tests.fuzz.control import DOCUMENT, MESSAGE, NAME
from tests.fuzz.http import ANSWERS, BLOCK, BRIDGE, FRAMES, HEAD
from tests.fuzz.http1_backend import ARRIVAL, REPLY
from tests.fuzz.transport import HELLO, PROXY

TARGETS = {
    each.name: each
    for each in (HELLO, PROXY, HEAD, REPLY, ARRIVAL, BLOCK, FRAMES, ANSWERS, BRIDGE, DOCUMENT, NAME, MESSAGE)
}
