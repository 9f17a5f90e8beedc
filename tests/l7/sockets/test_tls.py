"""A socket with TLS: whose the descriptor is, from the beginning to the end. What it carries is in test_channel.py."""

import socket
import ssl
import weakref
from collections.abc import Callable

import pytest

from mcproxy.l7.sockets import tls
from mcproxy.l7.sockets.channel import accept
from mcproxy.net.accepted import Accepted
from mcproxy.net.read_guard import ReadGuard
from mcproxy.net.turns import Turns
from tests.kit.peers import Authority, reset, until
from tests.kit.socket_pairs import connected, unix_pair


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


@pytest.mark.parametrize("name", ["one.test", ".not a name"])
def test_an_accepted_socket_has_room_for_tls(authority: Authority, name: str, nothing_left: None) -> None:
    """Another one would cost each connection two system calls."""
    ours, theirs = unix_pair()
    accepted = Accepted(ours.family, ours.type, ours.proto, ours.detach())
    accepted.setblocking(False)
    if name == "one.test":
        secured = tls.on(accepted, authority.client_context(), name)
        assert secured is accepted
        with pytest.raises(ssl.SSLWantReadError):
            secured.tls.do_handshake()
        assert theirs.recv(1) == b"\x16", "the hello is there"
        secured.close()
        assert secured.tls is None
    else:
        with pytest.raises(ValueError, match="host"):
            tls.on(accepted, authority.client_context(), name)
    assert accepted.fileno() == -1
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


@pytest.mark.usefixtures("main_hub", "nothing_left")
def test_a_client_that_has_gone_breaks_no_other_ones_connection(authority: Authority) -> None:
    """OpenSSL 3.5 kept the failure of a write, and Python 3.13 raised it from the next read of another connection."""
    server, guard = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ReadGuard()
    server.load_cert_chain(*authority.pair("one.test"))

    def client(then: Callable[[ssl.SSLSocket], object]) -> Callable[[socket.socket], None]:
        def run(sock: socket.socket) -> None:
            with authority.client_context().wrap_socket(sock, server_hostname="one.test") as secured:
                then(secured)

        return run

    with connected(client(lambda stays: stays.recv(1))) as one, connected(client(reset)) as other:
        channel, gone = (accept(each, server, Turns(), guard) for each in (one, other))

        def is_lost() -> bool:
            gone.send(b"1")
            return bool(gone.lost)

        until(is_lost, "the client to be gone")
        for fails in (gone.end, gone.receive, gone.close):
            assert channel.receive() == b""
            assert not channel.lost
            fails()
        channel.send(b"2")
        assert not channel.lost
        channel.close()
    guard.close()
