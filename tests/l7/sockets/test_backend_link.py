"""The way to a backend, from its dial to its close."""

import socket
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event as NeverSet

from mcproxy.l7.sockets.backend_link import MAX_KEPT, BackendLink, BeginAgain, OtherVersion
from mcproxy.l7.sockets.channel import Channel, Lost
from mcproxy.l7.sockets.side import Event, Side
from mcproxy.model import Reason, Refused
from mcproxy.net.crew import Crew
from mcproxy.net.raw import RawSocket
from mcproxy.wire.http2 import settings
from tests.kit.hub import pass_rounds
from tests.kit.socket_pairs import unix_pair

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew()
    yield made
    made.close()
    gevent.sleep(0)


def ignore(_event: Event) -> None:
    """No test here waits for an event of the new side."""


def test_bytes_wait_for_the_dial_and_the_last_ones_go_before_the_end(crew: Crew) -> None:
    ours, far = socket.socketpair()
    seen, over = list[bytes](), list[int]()

    def dial(first: bytes) -> Channel:
        seen.append(first)
        raw = RawSocket(ours.family, ours.type, 0, ours.detach())
        raw.setblocking(False)
        return Channel(raw)

    link = BackendLink(dial, crew)
    assert (link.unsent, link.dialled(ignore, may_begin_again=True), repr(link)) == (0, None, "<BackendLink None>")
    link.connect(b"first", 5.0, lambda: over.append(1))
    link.send([b"sec", b"ond"])
    assert (link.unsent, link.dialled(ignore, may_begin_again=True)) == (6, None), "there is no result yet"
    assert [link.until_deadline(now, 1.0) for now in (1.0, 4.5, 6.0)] == [1.0, 0.5, 1.0]
    while not over:
        pass_rounds()
    assert link.dialled(ignore, may_begin_again=True) is None
    assert link.side
    link.side.channel.flush()
    link.drop(lambda: [b"last"])
    assert seen == [b"first"]
    assert (far.recv(20), far.recv(20)) == (b"secondlast", b"")
    assert repr(link) == "<BackendLink None>"
    far.close()


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Refused(Reason.BACKEND_REFUSED, "no"), 502),
        (Lost("bad TLS"), 502),
        (Refused(Reason.BACKEND_TIMEOUT, "no"), 504),
    ],
)
def test_a_failure_is_a_status_and_a_reason(failure: Exception, status: int, crew: Crew) -> None:
    over = list[int]()

    def dial(_first: bytes) -> Channel:
        raise failure

    link = BackendLink(dial, crew)
    link.connect(b"", 5.0, lambda: over.append(1))
    while not over:
        pass_rounds()
    assert link.dialled(ignore, may_begin_again=True) == (status, str(failure))
    assert link.dialling is None


def test_a_bug_in_a_dial_is_no_failure_to_connect(crew: Crew) -> None:
    over = list[int]()

    def dial(_first: bytes) -> Channel:
        raise ZeroDivisionError

    link = BackendLink(dial, crew)
    link.connect(b"", 5.0, lambda: over.append(1))
    while not over:
        pass_rounds()
    with pytest.raises(ZeroDivisionError):
        link.dialled(ignore, may_begin_again=True)


def test_a_dial_that_is_late_or_not_needed_is_given_up(crew: Crew) -> None:
    ends = list[BaseException]()

    def dial(_first: bytes) -> Channel:
        try:
            NeverSet().wait()
        except BaseException as error:
            ends.append(error)
            raise
        raise AssertionError("not reached")

    link = BackendLink(dial, crew)
    link.connect(b"", 5.0, lambda: None)
    pass_rounds()
    link.give_up_late(4.9, 1.0)
    pass_rounds()
    assert not ends
    link.give_up_late(5.0, 1.0)
    pass_rounds()
    assert link.dialled(ignore, may_begin_again=True) == (504, "backend_timeout: no connection in 1 s")
    link.connect(b"", 5.0, lambda: pytest.fail("it was given up"))
    pass_rounds()
    link.drop()
    pass_rounds()
    assert len(ends) == 2


# --- what a backend speaks after all ----------------------------------------------------------------------------------


def linked(crew: Crew, contradicted: Callable[[bytes], object] | None) -> tuple[BackendLink, Side, socket.socket]:
    """A link with a connection, and the client's side, on either of which anything may come."""
    ours, theirs = unix_pair()
    far, near = unix_pair()
    over = list[int]()
    link = BackendLink(lambda _first: Channel(far), crew, contradicted)
    link.connect(b"", 5.0, lambda: over.append(1))
    while not over:
        pass_rounds()
    link.dialled(ignore, may_begin_again=True)
    theirs.close()
    return link, Side(Channel(ours), Event.CLIENT, ignore), near


def unlink(link: BackendLink, client: Side, near: socket.socket) -> None:
    link.drop()
    client.close()
    client.channel.close()
    near.close()


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n", b"", b"<!DOCTYPE HTML>"])
def test_a_backend_that_does_not_begin_with_http2_makes_the_session_begin_again(said: bytes, crew: Crew) -> None:
    told: list[bytes] = []
    link, client, near = linked(crew, told.append)
    link.follow(client, b"all that ", client.channel)
    link.follow(client, b"was sent", client.channel)
    assert link.side
    with pytest.raises(BeginAgain) as again:
        link.follow(link.side, said, client.channel)
    assert (again.value.kept, told, link.kept) == (b"all that was sent", [said], None)
    unlink(link, client, near)


def test_one_that_does_is_trusted_from_then_on(crew: Crew) -> None:
    link, client, near = linked(crew, lambda _said: pytest.fail("it is no contradiction"))
    link.follow(client, b"x", client.channel)
    assert link.side
    link.follow(link.side, settings([]), client.channel)
    assert link.kept is None
    unlink(link, client, near)


def test_nothing_begins_again_once_the_client_was_sent_something(crew: Crew) -> None:
    """It would get it twice. What was found is doubted none the less."""
    told: list[bytes] = []
    link, client, near = linked(crew, told.append)
    link.follow(client, b"x", client.channel)
    client.channel.sent = 1
    assert link.side
    link.follow(link.side, b"HTTP/1.1 400", client.channel)
    assert (told, link.kept) == ([b"HTTP/1.1 400"], None)
    unlink(link, client, near)


def test_what_is_kept_is_bounded(crew: Crew) -> None:
    link, client, near = linked(crew, lambda _said: None)
    kept = []
    for data in (bytes(MAX_KEPT), b"x"):
        link.follow(client, data, client.channel)
        kept.append(link.kept is not None)
    assert kept == [True, False]
    unlink(link, client, near)


def test_nothing_is_kept_where_it_is_certain_what_is_spoken(crew: Crew) -> None:
    link, client, near = linked(crew, None)
    assert link.kept is None
    unlink(link, client, near)


@pytest.mark.parametrize("may", [True, False])
def test_a_dial_may_find_another_version(may: bool, crew: Crew) -> None:
    over = list[int]()

    def dial(_first: bytes) -> Channel:
        raise OtherVersion("the backend speaks HTTP/1.1 now")

    link = BackendLink(dial, crew, lambda _said: None)
    link.connect(b"", 5.0, lambda: over.append(1))
    while not over:
        pass_rounds()
    if may:
        with pytest.raises(BeginAgain):
            link.dialled(ignore, may_begin_again=True)
    else:
        assert link.dialled(ignore, may_begin_again=False) == (502, "the backend speaks HTTP/1.1 now")
    assert link.dialling is None
