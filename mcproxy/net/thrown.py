"""What is thrown into a greenlet to end it. Tested by tests/net/test_session.py.

Never compiled: mypyc finds the base class where greenlet's annotations have it, which it doesn't import there.
"""

from greenlet import GreenletExit


class Thrown(GreenletExit):
    """Ends a greenlet where it waits; gevent prints no traceback of it."""
