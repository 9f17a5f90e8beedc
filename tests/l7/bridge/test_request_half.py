"""The request's half: its two states, slow clients, and second attempts."""

from itertools import product

import pytest

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.bridge.bounds import ATTEMPTS, BODY_GRACE_SECONDS, MAX_REPLAY, MAX_UNREAD, MIN_BODY_RATE
from mcproxy.l7.bridge.ends import BackendFault, Processed, Takes
from mcproxy.l7.bridge.heads import RequestHead, Upgrade
from mcproxy.l7.bridge.request_half import _COMING, _GOING, Coming, Going, RequestHalf
from mcproxy.l7.core import LineState
from mcproxy.wire.fields import NO_LENGTH
from tests.kit.exchange_ends import Between, NotedBackend, NotedClient, request_head

EXCHANGE = Between().exchange


def half(length: int = NO_LENGTH, method: bytes = b"POST", **more: bool) -> RequestHalf:
    return begun(request_head(method, length=length, **more), method == b"POST")  # type: ignore[arg-type]


def begun(head: RequestHead, has_body: bool) -> RequestHalf:
    one = RequestHalf(NotedBackend().for_exchange, NotedClient(), 0.0)
    one.read(head.request, has_body)
    one.accept(head)
    return one


def begin(one: RequestHalf) -> Takes:
    return one.begin(EXCHANGE)


def test_every_state_can_be_reached_and_no_other_step_is_taken() -> None:
    for table, first in ((_COMING, Coming.COMING), (_GOING, Going.UNSENT)):
        reached, todo = {first}, [first]
        while todo:
            fresh = table[todo.pop()] - reached  # type: ignore[index]
            reached |= fresh
            todo += fresh
        assert reached == set(table)
    for before, after in product(Going, Going):
        one = half()
        one.going = before
        if after in _GOING[before]:
            one._go(after)
            assert repr(one).startswith(f"<RequestHalf b'POST' coming, {after.value} ")
        else:
            with pytest.raises(AssertionError):
                one._go(after)


def test_it_says_how_far_it_is() -> None:
    one = half()
    begin(one)
    one.add(b"abc", 0.0)
    assert repr(one) == "<RequestHalf b'POST' coming, open <Body received=3 waiting=3>>"


def test_slowness() -> None:
    one = half()
    assert not one.is_slow(0.0, BODY_STALL_SECONDS)
    assert one.is_slow(0.0, BODY_STALL_SECONDS + 1)
    one.add(b"a", 0.0)
    assert not one.is_slow(0.0, BODY_STALL_SECONDS + 1), "it is the backend that is slow"
    one.body.next_piece(1)
    assert not one.is_slow(0.0, BODY_STALL_SECONDS + 2)
    counted, late = half(length=10_000), BODY_GRACE_SECONDS + 10
    counted.add(b"a", late)
    counted.body.drop()
    assert counted.is_slow(0.0, late)
    counted.add(bytes(10 * MIN_BODY_RATE), late)
    counted.body.drop()
    assert not counted.is_slow(0.0, late)
    counted.end([])
    assert not counted.is_slow(0.0, 10 * late), "nothing is expected any more"


def test_what_is_left_unread() -> None:
    assert not half(length=MAX_UNREAD).leaves_much_unread
    assert half(length=MAX_UNREAD + 1).leaves_much_unread
    assert half(length=1, expects_continue=True).leaves_much_unread, "it may come, or not"
    one = half()
    one.add(bytes(MAX_UNREAD + 1), 0.0)
    before = one.leaves_much_unread
    one.body.drop()
    after = one.leaves_much_unread
    one.end([])
    assert (before, after, one.leaves_much_unread) == (False, True, False), "what was dropped counts, until all came"


def test_the_end_of_a_short_request_goes_with_its_head() -> None:
    one = half(method=b"GET")
    assert begin(one) is Takes.NOW
    assert "complete, sent" in repr(one)
    tunnel = begun(request_head(upgrade=Upgrade.WEBSOCKET), has_body=False)
    assert tunnel.is_read
    begin(tunnel)
    assert "upgrading, open" in repr(tunnel), "it may become a tunnel"


def test_a_body_goes_again_as_long_as_all_of_it_is_kept() -> None:
    one = half()
    begin(one)
    backend = one.backend
    assert isinstance(backend, NotedBackend)
    one.add(bytes(MAX_REPLAY), 0.0)
    one.send()
    assert one.goes_again(Processed.NO, EXCHANGE)
    one.send()
    assert backend.told.count(("body", bytes(MAX_REPLAY))) == 2
    long = half()
    begin(long)
    long.add(bytes(MAX_REPLAY + 1), 0.0)
    long.send()
    assert not long.goes_again(Processed.NO, EXCHANGE)


@pytest.mark.parametrize("finds", ["h2", "http/1.1"])
def test_a_request_of_which_nothing_was_heard_goes_again_only_in_another_version(finds: str) -> None:
    """A server of HTTP/1.1 can't have read it; one of HTTP/2 may have acted on it."""
    first, second = NotedBackend(), NotedBackend()
    second.version = finds
    ways = iter((first, second))
    one = RequestHalf(lambda exchange: next(ways).for_exchange(exchange), NotedClient(), 0.0)
    one.read(request_head(b"POST").request, has_body=True)
    one.accept(request_head(b"POST"))
    begin(one)
    assert one.goes_again(Processed.UNHEARD, EXCHANGE) is (finds == "http/1.1")
    assert [what[0] for what in second.told] == ["connect"] + ["begin"] * (finds == "http/1.1")


def test_connections_for_one_request_are_bounded() -> None:
    one = half()
    for _ in range(ATTEMPTS):
        begin(one)
        assert isinstance(one.backend, NotedBackend)
        one.backend.answer = Takes.LATER
        one.backend.state = LineState.SPENT
    with pytest.raises(BackendFault, match="takes no request"):
        begin(one)
    assert not one.goes_again(Processed.NO, EXCHANGE)
