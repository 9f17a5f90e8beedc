"""Counting: what is open, what has ended and how; what is gone is forgotten."""

import math

from mcproxy.model import Connection, End, Reason
from mcproxy.stats import DIALS, DURATIONS, LAGS, Account, BackendCounters, Counters, Histogram, Stats
from tests.test_lines import answered, ended


def test_a_tally_counts_the_life_of_connections() -> None:
    tally = Stats().listener(":443")
    for _ in range(3):
        tally.begin()
    tally.end(ended(received=10, sent=20))
    tally.end(ended(reason=Reason.SNI_MISSING, end=End.REFUSED, received=0, sent=0))
    assert (tally.total, tally.open) == (3, 1)
    assert (tally.received, tally.sent) == (10, 20)
    assert tally.refused == {Reason.SNI_MISSING: 1}
    assert tally.ends == {End.CLOSED: 1, End.REFUSED: 1}
    assert repr(tally) == "<Tally total=3 open=1 refused=1>"


def test_what_was_counted_adds_up_and_stays_as_it_was() -> None:
    """Counters of several workers, or of the routes that have no series of their own, are shown as one."""
    stats = Stats()
    first, second = stats.listener(":443"), stats.listener(":444")
    for tally in (first, second, second):
        tally.begin()
    first.end(ended(duration=0.7, received=10, sent=20))
    second.end(ended(duration=0.001, reason=Reason.SNI_MISSING, end=End.REFUSED, received=1, sent=2))
    second.dials.observe(0.01)
    stats.requests(":443", "a.test")([answered(status=200), answered(status=0, end="client reset")])
    before = first.read()
    both = sum((each.read() for each in (first, second)), Counters())
    assert (both.connections, both.accepted, both.received, both.sent) == (1, 3, 11, 22)
    assert both.refused == {Reason.SNI_MISSING: 1}
    assert both.ended == {End.CLOSED: 1, End.REFUSED: 1}
    assert both.requests == {"2xx": 1, "none": 1}
    assert both.request_ends == {"done": 1, "client reset": 1}
    assert (sum(both.durations.counts), round(both.durations.total, 6)) == (2, 0.701)
    assert sum(both.dials.counts) == 1
    first.begin()
    assert before.accepted == 1
    assert first.read().accepted == 2


def test_the_same_key_has_the_same_tally() -> None:
    stats = Stats()
    assert stats.listener(":443") is stats.listener(":443")
    assert stats.route((":443", "a.test")) is stats.route((":443", "a.test"))
    assert stats.route((":443", "a.test")) is not stats.route((":444", "a.test"))


def test_a_route_that_is_gone_is_forgotten_when_its_last_connection_ends() -> None:
    stats = Stats()
    kept, busy, idle = (":443", "kept.test"), (":443", "busy.test"), (":443", "idle.test")
    for key in (kept, busy, idle):
        stats.route(key)
    stats.route(busy).begin()
    stats.forget_routes(lambda key: key == kept)
    assert set(stats.routes) == {kept, busy}
    stats.route(busy).end(ended())
    stats.forget_routes(lambda key: key == kept)
    assert set(stats.routes) == {kept}


def test_the_counters_of_backend_connections_add_up() -> None:
    stats = Stats()
    first, second = stats.route((":443", "a.test")), stats.route((":443", "b.test"))
    first.backend.made["h2"], second.backend.made["http/1.1"] = 1, 2
    numbers = [name for name in BackendCounters.__dataclass_fields__ if name != "made"]
    for number, name in enumerate(numbers, start=1):
        assert getattr(first.backend, name) == 0
        setattr(first.backend, name, number)
        setattr(second.backend, name, 10 * number)
    assert first.read().backend == BackendCounters({"h2": 1}, 1, 2, 3, 4, 5, 6, 7)
    both = first.read() + second.read()
    assert both.backend == BackendCounters({"h2": 1, "http/1.1": 2}, 11, 22, 33, 44, 55, 66, 77)


def test_connection_says_its_verdict_in_a_word() -> None:
    assert isinstance(ended(), Connection)
    assert ended().verdict == "routed"
    assert ended(reason=Reason.BACKEND_REFUSED).verdict == "refused"


def test_requests_are_counted_by_the_first_digit_of_their_status_for_the_listener_and_the_route() -> None:
    stats = Stats()
    count = stats.requests(":443", "a.test")
    count([answered(status=status) for status in (200, 204, 304)])
    count([answered(status=status) for status in (502, 0)])
    stats.requests(":443", "b.test")([answered(status=200)])
    assert stats.route((":443", "a.test")).read().requests == {"none": 1, "2xx": 2, "3xx": 1, "5xx": 1}
    assert stats.route((":443", "b.test")).read().requests == {"2xx": 1}
    assert stats.listener(":443").read().requests == {"none": 1, "2xx": 3, "3xx": 1, "5xx": 1}


def test_requests_that_backends_got_are_counted_by_protocol_and_time_to_the_first_byte() -> None:
    stats = Stats()
    for name in ("a.test", "b.test"):
        count = stats.requests(":443", name)
        count([answered(head_at=100.25), answered(backend_protocol="h2", head_at=100.5)])
        count([answered(status=0, head_at=0.0), answered(status=502, backend_protocol="", head_at=101.0)])
    found, both = stats.route((":443", "a.test")).read(), stats.listener(":443").read()
    assert found.passed == {"http/1.1": 2, "h2": 1}
    assert (found.heads, found.waited) == (2, 0.75)
    assert found + stats.route((":443", "b.test")).read() == both
    assert (both.passed, both.heads, both.waited) == ({"http/1.1": 4, "h2": 2}, 4, 1.5)


def test_requests_are_counted_by_how_they_ended() -> None:
    """Only status classes were counted: a cancelled request and a fault of the client's were both "none"."""
    stats = Stats()
    count = stats.requests(":443", "a.test")
    count([answered(end=end) for end in ("done", "backend fault", "done", "client fault", "client fault")])
    expected = {"done": 2, "backend fault": 1, "client fault": 2}
    assert stats.route((":443", "a.test")).read().request_ends == expected
    assert stats.listener(":443").read().request_ends == expected
    stats.requests(":443", "b.test")([answered(end="refused")])
    assert stats.route((":443", "b.test")).read().request_ends == {"refused": 1}


def test_a_histogram_counts_by_bucket() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.11, 1.0, 1.5, 99.0):
        histogram.observe(value)
    found = histogram.read()
    assert found.bounds == (0.1, 1.0)
    assert found.counts == (2, 2, 2)
    assert round(found.total, 6) == 101.71
    assert repr(histogram) == "<Histogram count=6 total=101.71>"


def test_a_share_of_the_values_has_a_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    assert histogram.read().quantile(0.5) == 0.0, "there is no value"
    for value in (*[0.05] * 98, 0.5, 2.0):
        histogram.observe(value)
    assert [histogram.read().quantile(share) for share in (0.5, 0.98, 0.99, 1.0)] == [0.1, 0.1, 1.0, math.inf]


def test_buckets_rise() -> None:
    for bounds in (DURATIONS, DIALS, LAGS):
        assert list(bounds) == sorted(set(bounds))


def test_a_tally_knows_how_long_its_connections_lasted() -> None:
    tally = Stats().listener(":443")
    tally.begin()
    tally.end(ended(duration=0.7))
    assert tally.durations.read().counts[DURATIONS.index(1.0)] == 1
    assert not sum(tally.dials.read().counts)


def test_bytes_of_a_connection_that_lives_count_once() -> None:
    tally = Stats().listener(":443")
    tally.begin()
    tally.move(7, 11)
    tally.move(1, 0)
    assert (tally.received, tally.sent) == (8, 11)
    tally.end(ended(received=10, sent=20), (8, 11))
    assert (tally.received, tally.sent) == (10, 20)


def test_an_account_counts_in_the_listener_and_from_then_on_in_the_route() -> None:
    stats = Stats()
    listener, route = stats.listener(":443"), stats.route((":443", "a.test"))
    listener.begin()
    account = Account(listener)
    account.enter(route)
    account.dialled(0.001)
    account.moved(7, 11)
    account.moved(7, 11)
    account.end(ended(received=10, sent=20))
    for tally in (listener, route):
        assert (tally.total, tally.open, tally.received, tally.sent) == (1, 0, 10, 20)
        assert sum(tally.dials.read().counts) == sum(tally.durations.read().counts) == 1
