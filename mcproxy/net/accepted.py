"""The socket of an accepted connection. Tested by tests/net/test_listener.py and tests/l7/sockets/test_tls.py.

Never compiled: mypyc's C doesn't find the class of sockets.
"""

from socket import SocketType


class Accepted(SocketType):
    """The C type, with room for TLS: another socket for that would cost l7 two system calls a connection."""

    __slots__ = ("__weakref__", "tls")  # OpenSSL's object refers to the socket weakly
