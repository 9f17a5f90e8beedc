"""A socket with TLS: whose the descriptor is, from the beginning to the end. What it carries is in test_channel.py."""

import ssl
import weakref

import pytest

from mcproxy.l7.sockets import tls
from tests.kit.peers import Authority
from tests.kit.socket_pairs import unix_pair


def test_it_takes_the_socket_over(authority: Authority) -> None:
    ours, theirs = unix_pair()
    descriptor = ours.fileno()
    secured = tls.on(ours, authority.client_context(), "one.test")
    assert (ours.fileno(), secured.fileno()) == (-1, descriptor)
    assert secured.gettimeout() == 0
    with pytest.raises(ssl.SSLWantReadError):
        secured.tls.do_handshake()
    assert theirs.recv(1) == b"\x16", "the hello is there"
    secured.close()
    theirs.close()


def test_nothing_reads_by_a_descriptor_that_was_given_back(authority: Authority) -> None:
    """The kernel gives the number to the next connection, whose bytes OpenSSL would take for this one's."""
    ours, theirs = unix_pair()
    secured = tls.on(ours, authority.client_context(), "one.test")
    secured.close()
    with pytest.raises(AttributeError):
        secured.tls.read(1)
    secured.close()
    theirs.close()


def test_one_that_is_forgotten_needs_no_collector(authority: Authority) -> None:
    ours, theirs = unix_pair()
    secured = tls.on(ours, authority.client_context(), "one.test")
    forgotten = weakref.ref(secured)
    secured.close()
    del secured
    assert forgotten() is None
    theirs.close()


def test_what_fails_leaves_no_descriptor(authority: Authority, nothing_left: None) -> None:
    ours, theirs = unix_pair()
    with pytest.raises(ValueError, match="host"):
        tls.on(ours, authority.client_context(), ".not a name")
    assert ours.fileno() == -1
    theirs.close()
