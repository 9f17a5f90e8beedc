"""Letters between two servers of different versions: what arrives, and what is not understood."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from mcproxy.takeover.letters import MAX_SOCKETS, Gone, Kind, Letter, Malformed, Peer, peer_of, receive, send, wait

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair(nothing_left: None) -> Iterator[Pair]:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, two:
        one.settimeout(0.05)
        two.settimeout(0.05)
        yield one, two


def test_a_letter_arrives_as_it_was_sent(pair: Pair) -> None:
    send(pair[0], Letter(Kind.ALL, {"generation": 7, "notify": "/run/n", "later": [1]}))
    found = receive(pair[1])
    assert (found.kind, found.number("generation"), found.text("notify")) == (Kind.ALL, 7, "/run/n")
    assert (found.number("watchdog"), found.text("why"), found.texts("addresses")) == (0, "", []), "what is not there"


def test_sockets_arrive_in_their_order_and_are_not_inherited(pair: Pair) -> None:
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in made]
    send(pair[0], Letter(Kind.SOCKETS, {"addresses": ["a", "b", "c"]}, [sock.fileno() for sock in made]))
    for sock in made:
        sock.close()
    found = receive(pair[1])
    assert not any(os.get_inheritable(each) for each in found.sockets)
    for port, descriptor in zip(ports, found.sockets, strict=True):
        with closing(socket.socket(fileno=descriptor)) as sock:
            assert sock.getsockname()[1] == port
            socket.create_connection(("127.0.0.1", port)).close()


def test_a_letter_has_room_for_its_sockets(pair: Pair) -> None:
    address = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        send(pair[0], Letter(Kind.SOCKETS, {"addresses": [address] * MAX_SOCKETS}, [sock.fileno()] * MAX_SOCKETS))
    found = receive(pair[1])
    for each in found.sockets:
        os.close(each)
    assert len(found.sockets) == len(found.texts("addresses")) == MAX_SOCKETS


@pytest.mark.parametrize(
    "text",
    [b"x", b"[]", b"{}", b'{"kind": "nonsense"}', b'{"kind": 1}', b"{" + b" " * (100 << 10) + b"}"],
    ids=["no JSON", "a list", "no kind", "a kind that is not known", "a number", "too long"],
)
def test_what_is_no_letter_is_refused_and_its_sockets_are_closed(text: bytes, pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        socket.send_fds(pair[0], [text], [sock.fileno()])
    with pytest.raises(Malformed):
        receive(pair[1])


@pytest.mark.parametrize(
    "ask",
    [lambda letter: letter.text("it"), lambda letter: letter.number("it"), lambda letter: letter.texts("it")],
)
def test_a_field_of_another_kind_is_refused(ask: object, pair: Pair) -> None:
    assert callable(ask)
    with pytest.raises(Malformed, match="ask: it is not a"):
        ask(Letter(Kind.ASK, {"it": {}}))


def test_a_peer_that_has_gone_is_gone(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(Gone):
        receive(pair[1])
    with pytest.raises(Gone):
        send(pair[1], Letter(Kind.READY))


def test_who_is_silent_is_not_gone(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        receive(pair[1])
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        receive(pair[1])


def test_the_kernel_says_who_is_there(pair: Pair) -> None:
    assert peer_of(pair[0]) == Peer(os.getpid(), os.geteuid())


def test_waiting_says_which_can_be_read(pair: Pair) -> None:
    one, two = pair[0].fileno(), pair[1].fileno()
    assert wait(0.01, one, two) == set()
    send(pair[0], Letter(Kind.READY))
    assert wait(None, one, two) == {two}
    pair[1].close()
    assert wait(None, one) == {one}, "an end counts too"
