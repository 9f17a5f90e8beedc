"""The pool of a route's connections: reuse, the bound, who waits and for how long, PROXY headers, routes that change.

Idle connections themselves are in test_idle.py.
"""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import pytest

from mcproxy.l7.sockets.channel import Lost
from mcproxy.l7.sockets.pool import Pools
from mcproxy.l7.sockets.pooled import H2, Holder
from mcproxy.model import Listener, Reason, Refused
from mcproxy.table import Table
from tests.kit.hub import messages
from tests.kit.pool_stage import LISTENER, TIMEOUTS, Guest, PoolStage, route

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")

Make = Callable[..., PoolStage]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[PoolStage] = []

    def build(bound: int = 2, *, proxies: bool = False) -> PoolStage:
        made.append(PoolStage(route(bound, send_proxy_protocol=proxies)))
        return made[-1]

    yield build
    for each in made:
        each.close()


def finish(guest: Guest, on: PoolStage) -> None:
    """Close what a guest still has."""
    for _, conn in guest.got:
        if conn.line is not None:
            on.pool.discard(conn)


def test_a_connection_serves_one_line_after_another(make: Make) -> None:
    on = make()
    one, other = Guest(on), Guest(on)
    one.ask("first")
    one.has("first")
    conn = one.back("first")
    assert on.tally.idle == 1
    other.ask("second")
    assert other.got == [("second", conn)], "at once"
    assert (conn.uses, on.dials, on.tally.idle, on.tally.read().made) == (2, 1, 0, {"http/1.1": 1})
    finish(other, on)
    on.until(lambda: on.is_closed(0))


def test_the_one_that_was_used_last_is_used_first(make: Make) -> None:
    """So that those which are not needed grow old."""
    on = make()
    guest = Guest(on)
    guest.ask("a")
    guest.ask("b")
    guest.has("a", "b")
    guest.back("a")
    conn = guest.back("b")
    guest.ask("c")
    assert guest.got[-1] == ("c", conn)
    guest.back("c")


def test_what_is_beyond_the_bound_waits_in_the_order_of_arrival(make: Make) -> None:
    on = make(bound=2)
    one, other = Guest(on), Guest(on)
    for name in ("a", "b", "c"):
        one.ask(name)
    other.ask("d")
    one.has("a", "b")
    assert (on.dials, on.tally.waiting) == (2, 2)
    one.back("b")
    one.has("a", "b", "c")
    one.back("a")
    other.has("d")
    assert (on.dials, on.tally.waiting, on.tally.idle) == (2, 0, 0)
    for guest in (one, other):
        finish(guest, on)


def test_a_connection_that_is_given_back_goes_to_nobody_who_came_later(make: Make) -> None:
    on = make(bound=1)
    guest = Guest(on)
    guest.ask("a")
    guest.has("a")
    guest.ask("b")
    guest.back("a")
    guest.ask("c")  # in the same round
    guest.has("a", "b")
    guest.back("b")
    guest.has("a", "b", "c")
    finish(guest, on)


def test_a_place_that_becomes_free_is_dialled_for(make: Make) -> None:
    on = make(bound=1)
    guest = Guest(on)
    guest.ask("a")
    guest.has("a")
    guest.ask("b")
    on.pool.discard(guest.got[0][1])
    guest.has("a", "b")
    assert on.dials == 2
    finish(guest, on)


def test_who_waits_too_long_gets_503(make: Make) -> None:
    on = make(bound=1)
    guest = Guest(on)
    guest.ask("a")
    guest.has("a")
    guest.ask("b")
    on.wind(TIMEOUTS.connect - 1)
    assert not guest.failures
    on.wind(2)
    ((name, status, why),) = guest.failures
    assert (name, status) == ("b", 503)
    assert why == "all 1 connections to the backend were in use for 5 s; see max_backend_connections"
    assert (on.tally.waiting, on.tally.waited_too_long) == (0, 1)
    guest.back("a")
    guest.ask("c")
    guest.has("a", "c")
    guest.back("c")


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Refused(Reason.BACKEND_REFUSED, "no"), 502), (Lost("bad TLS"), 502), (Refused(Reason.BACKEND_TIMEOUT), 504),
    ],
)  # fmt: skip
def test_a_dial_that_fails_is_told_to_its_line_alone(failure: Exception, status: int, make: Make) -> None:
    on = make(bound=1)
    guest, other = Guest(on), Guest(on)
    guest.failure = failure
    guest.ask("a")
    other.ask("b")
    other.has("b")
    assert guest.failures == [("a", status, str(failure))]
    other.back("b")


def test_a_dial_that_takes_too_long_is_given_up(make: Make) -> None:
    on = make(bound=1)
    guest = Guest(on)
    guest.gate.clear()
    guest.ask("a")
    on.until(lambda: on.dials)
    on.wind(TIMEOUTS.connect + 1)
    assert guest.failures == [("a", 504, "backend_timeout: no connection in 5 s")]
    guest.gate.set()
    guest.ask("b")
    guest.has("b")
    guest.back("b")


def test_a_defect_in_a_dial_is_its_sessions(make: Make) -> None:
    on = make(bound=1)
    guest = Guest(on)
    guest.failure = ZeroDivisionError("defect")
    guest.ask("a")
    on.until(lambda: guest.defects)
    assert (guest.defects, guest.failures) == ([guest.failure], [])
    gone = guest.ask("b")
    on.pool.forget(gone, cast("Holder", guest))
    with messages() as logged:
        on.settle()
    assert "ZeroDivisionError: defect" in logged[0]


def test_a_dial_whose_line_is_gone_serves_the_next(make: Make) -> None:
    on = make(bound=1)
    one, other = Guest(on), Guest(on)
    one.gate.clear()
    gone = one.ask("a")
    other.ask("b")
    on.pool.forget(gone, cast("Holder", one))
    one.gate.set()
    other.has("b")
    assert (on.dials, one.got) == (1, [])
    other.back("b")


def test_a_dial_that_nobody_needs_is_kept_idle(make: Make) -> None:
    on = make()
    guest = Guest(on)
    guest.gate.clear()
    gone = guest.ask("a")
    on.until(lambda: on.dials)
    on.pool.forget(gone, cast("Holder", guest))
    guest.leave()
    guest.gate.set()
    on.until(lambda: on.tally.idle == 1)
    guest.ask("b")
    assert (guest.got[0][0], on.dials) == ("b", 1)
    guest.back("b")


def test_what_becomes_free_first_serves_who_waits_longest(make: Make) -> None:
    """A dial may take long: the line that it was begun for need not wait for it."""
    on = make()
    one, slow = Guest(on), Guest(on)
    one.ask("a")
    one.has("a")
    slow.gate.clear()
    slow.ask("b")
    on.until(lambda: on.dials == 2)
    one.back("a")
    slow.has("b")
    slow.gate.set()
    on.until(lambda: on.tally.idle == 1)
    finish(slow, on)


def test_a_line_that_is_gone_waits_no_longer(make: Make) -> None:
    on = make(bound=1)
    guest = Guest(on)
    guest.ask("a")
    guest.has("a")
    gone = guest.ask("b")
    guest.ask("c")
    on.pool.forget(gone, cast("Holder", guest))
    on.pool.forget(gone, cast("Holder", guest))  # twice is once
    guest.back("a")
    guest.has("a", "c")
    on.wind(TIMEOUTS.connect + 1)
    assert guest.failures == []
    guest.back("c")


def test_http2_counts_in_no_bound_and_is_not_kept(make: Make) -> None:
    on = make(bound=1)
    modern = Guest(on, H2)
    for name in ("a", "b", "c"):
        modern.ask(name)
    modern.has("a", "b", "c")
    assert on.tally.read().made == {"h2": 3}
    gone = modern.ask("d")
    on.pool.forget(gone, cast("Holder", modern))
    on.until(lambda: len(on.far) == 4)
    on.until(lambda: on.is_closed(3))
    plain = Guest(on)
    plain.ask("e")
    plain.has("e")
    plain.back("e")
    finish(modern, on)


# --- routes that send PROXY headers -----------------------------------------------------------------------------------


def test_sessions_never_share_where_proxy_headers_are_sent(make: Make) -> None:
    on = make(proxies=True)
    one, other = Guest(on), Guest(on)
    one.ask("a")
    one.has("a")
    conn = one.back("a")
    other.ask("b")
    other.has("b")
    assert other.got[0][1] is not conn
    one.ask("c")
    assert one.got[-1] == ("c", conn), "its own it has again"
    one.back("c")
    one.leave()
    on.until(lambda: on.is_closed(0))
    other.back("b")
    assert not on.is_closed(1)
    other.leave()
    on.until(lambda: on.is_closed(1))


def test_the_oldest_idle_one_of_another_session_makes_room(make: Make) -> None:
    on = make(bound=2, proxies=True)
    guests = [Guest(on) for _ in range(3)]
    for number, guest in enumerate(guests[:2]):
        guest.ask(str(number))
        guest.has(str(number))
        guest.back(str(number))
        on.wind(1)
    guests[2].ask("2")
    guests[2].has("2")
    assert (on.is_closed(0), on.is_closed(1)) == (True, False)
    guests[2].back("2")


def test_where_none_is_idle_another_session_waits(make: Make) -> None:
    on = make(bound=1, proxies=True)
    one, other = Guest(on), Guest(on)
    one.ask("a")
    one.has("a")
    other.ask("b")
    one.back("a")
    other.has("b")
    assert on.is_closed(0)
    other.back("b")


def test_a_dial_ends_with_the_only_session_that_may_use_it(make: Make) -> None:
    on = make(bound=1, proxies=True)
    one, other = Guest(on), Guest(on)
    one.gate.clear()
    gone = one.ask("a")
    on.until(lambda: on.dials)
    other.ask("b")
    on.pool.forget(gone, cast("Holder", one))
    one.leave()
    other.has("b")
    assert len(on.far) == 1
    other.back("b")


# --- routes that change -----------------------------------------------------------------------------------------------


def test_a_route_that_changes_gets_another_pool(make: Make) -> None:
    on = make(bound=1)
    pools = Pools()
    pool = on.pool = pools.of(on.shared, LISTENER, on.route)
    assert pools.of(on.shared, LISTENER, replace(on.route)) is pool
    guest = Guest(on)
    for name in ("a", "b"):
        guest.ask(name)
    guest.has("a")
    changed = pools.of(on.shared, LISTENER, replace(on.route, max_backend_connections=5))
    assert changed is not pool
    guest.back("a")
    guest.has("a", "b")  # who asked before is still served
    guest.back("b")
    on.until(lambda: on.is_closed(0))
    assert pools.of(on.shared, LISTENER, changed.route) is changed


def test_what_is_idle_goes_when_its_route_is_changed(make: Make) -> None:
    on = make()
    pools = Pools()
    on.pool = pools.of(on.shared, LISTENER, on.route)
    guest = Guest(on)
    guest.ask("a")
    guest.has("a")
    guest.back("a")
    pools.of(on.shared, LISTENER, replace(on.route, max_backend_connections=5))
    assert on.is_closed(0)


@pytest.mark.parametrize("left", [[], [replace(route(), backend_tls=True)]])
def test_what_is_idle_goes_soon_after_its_route(left: list[object], make: Make) -> None:
    """Also where nobody comes who would find the other route."""
    on = make()
    guest = Guest(on)
    guest.ask("a")
    guest.has("a")
    guest.back("a")
    on.wind(1.5)
    assert not on.is_closed(0)
    on.live.table = Table.build([(Listener(LISTENER), left)])  # type: ignore[list-item]
    on.wind(1.5)
    assert on.is_closed(0)


def test_a_pool_that_nobody_uses_is_dropped(make: Make) -> None:
    on = make()
    pools = Pools()
    on.pool = pools.of(on.shared, LISTENER, on.route)
    guest = Guest(on)
    guest.ask("a")
    guest.has("a")
    guest.back("a")
    guest.got.clear()
    del on.pool
    gc.collect()
    assert repr(pools) == "<Pools 1>", "a connection is idle there"
    on.wind(TIMEOUTS.backend_idle + 1)
    gc.collect()
    assert (repr(pools), on.is_closed(0)) == ("<Pools 0>", True)
    on.pool = pools.of(on.shared, LISTENER, on.route)


def test_what_a_pool_looks_like(make: Make) -> None:
    on = make()
    guest = Guest(on)
    guest.gate.clear()
    gone = guest.ask("a")
    assert repr(on.pool) == "<Pool a.test count=1 <Idle 0> queued=0>"
    on.pool.forget(gone, cast("Holder", guest))
    guest.gate.set()
    on.until(lambda: on.tally.idle)
    assert repr(on.pool) == "<Pool a.test count=1 <Idle 1> queued=0>"
