"""Places and tokens, with the clock in the test's hand."""

import copy
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.model import Reason
from mcproxy.native import COMPILED
from mcproxy.policy import limits as module
from mcproxy.policy.limits import Limits
from mcproxy.policy.networks import pack

interpreted_only = pytest.mark.skipif(COMPILED, reason="a compiled class has no interpreted subclass")

A, B, C = pack("192.0.2.1"), pack("192.0.2.2"), pack("2001:db8::1")


def address(number: int) -> bytes:
    return number.to_bytes(4, "big")


def state(limits: Limits) -> object:
    """All that a decision could depend on."""
    clients = {key: (client.connections, client.full_at) for key, client in limits.clients._clients.items()}
    slots = copy.deepcopy(limits.clients._slots)
    return limits.connections, dict(limits.by_listener), clients, slots, limits.clients._next_due


# Places in the whole and in a listener.


def test_the_whole_is_limited() -> None:
    limits = Limits(2, 0, 0, 0)
    assert [limits.enter(listener, 0) for listener in "abc"] == [None, None, Reason.LIMIT_TOTAL]
    limits.leave("a")
    assert [limits.enter("c", 0), limits.enter("c", 0)] == [None, Reason.LIMIT_TOTAL]
    assert (limits.connections, limits.by_listener) == (2, {"b": 1, "c": 1})


def test_each_listener_is_limited_by_itself_and_its_limit_may_change() -> None:
    limits = Limits(0, 0, 0, 0)
    assert [limits.enter("a", 1), limits.enter("a", 1), limits.enter("b", 1)] == [None, Reason.LIMIT_LISTENER, None]
    assert [limits.enter("a", 2), limits.enter("a", 2)] == [None, Reason.LIMIT_LISTENER]
    assert limits.enter("a", 0) is None
    assert limits.by_listener == {"a": 3, "b": 1}


def test_the_whole_is_asked_before_the_listener() -> None:
    limits = Limits(1, 0, 0, 0)
    limits.enter("a", 1)
    assert limits.enter("a", 1) is Reason.LIMIT_TOTAL


def test_a_place_that_was_not_taken_cannot_be_given_back() -> None:
    limits = Limits(0, 1, 0, 0)
    with pytest.raises(KeyError):
        limits.leave("a")
    limits.enter("a", 0)
    limits.leave("a")
    with pytest.raises(KeyError):
        limits.leave("a")
    with pytest.raises(KeyError):
        limits.release(A)
    assert (limits.connections, limits.by_listener) == (0, {})


# Places for an address.


def test_each_address_has_its_own_places() -> None:
    limits = Limits(0, 2, 0, 0)
    assert [limits.admit(A, 0.0) for _ in range(3)] == [None, None, Reason.LIMIT_PER_IP]
    assert limits.admit(B, 0.0) is None
    limits.release(A)
    assert [limits.admit(A, 0.0) for _ in range(2)] == [None, Reason.LIMIT_PER_IP]
    for packed in (A, A, B):
        limits.release(packed)
    assert len(limits.clients) == 0


def test_ipv6_is_counted_by_its_64() -> None:
    limits = Limits(0, 1, 0, 0)
    assert limits.admit(pack("2001:db8:0:1::1"), 0.0) is None
    assert limits.admit(pack("2001:db8:0:1:ffff::2"), 0.0) is Reason.LIMIT_PER_IP
    assert limits.admit(pack("2001:db8:0:2::1"), 0.0) is None
    limits.release(pack("2001:db8:0:1::3"))
    assert limits.admit(pack("2001:db8:0:1::1"), 0.0) is None


# Tokens.


def test_a_burst_and_then_the_rate() -> None:
    limits = Limits(0, 0, rate=10, burst=3)
    assert [limits.admit(A, 5.0) for _ in range(4)] == [None, None, None, Reason.RATE_PER_IP]
    assert limits.admit(B, 5.0) is None
    assert limits.admit(A, 5.09) is Reason.RATE_PER_IP
    assert [limits.admit(A, 5.1), limits.admit(A, 5.1)] == [None, Reason.RATE_PER_IP]
    assert [limits.admit(A, 9.0) for _ in range(4)] == [None, None, None, Reason.RATE_PER_IP]


@pytest.mark.parametrize(
    ("rate", "burst", "at_once"), [(4, 0, 4), (0.25, 0, 1), (0.5, 3, 3), (4, 0.5, 1), (4, 2.5, 2), (4, 1, 1)]
)
def test_burst_is_the_rate_where_not_given_and_at_least_one(rate: float, burst: float, at_once: int) -> None:
    limits = Limits(0, 0, rate, burst)
    assert [limits.admit(A, 0.0) for _ in range(at_once + 1)] == [None] * at_once + [Reason.RATE_PER_IP]


@pytest.mark.parametrize("start", [0.0, 1e6, 1.7e9])
@pytest.mark.parametrize("rate", [0.3, 7, 1000])
def test_rounding_never_refuses_what_is_due(start: float, rate: float) -> None:
    limits = Limits(0, 0, rate, burst=7)
    assert [limits.admit(A, start) for _ in range(7)] == [None] * 7
    assert [limits.admit(A, start + tick / rate) for tick in range(1, 2000)] == [None] * 1999
    assert limits.admit(A, start + 1999 / rate) is Reason.RATE_PER_IP


@dataclass
class Bucket:
    """A token bucket as the textbook has it."""

    rate: float
    burst: float
    tokens: dict[bytes, float] = field(default_factory=dict)
    then: float = 0.0

    def take(self, packed: bytes, now: float) -> bool:
        self.tokens = {key: min(self.burst, n + (now - self.then) * self.rate) for key, n in self.tokens.items()}
        self.then = now
        left = self.tokens.get(packed, self.burst) - 1
        if left >= 0:
            self.tokens[packed] = left
        return left >= 0


@given(
    st.sampled_from([0.25, 1, 2, 16]),
    st.sampled_from([1, 2, 5, 64]),
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 40)), max_size=80),
)
def test_tokens_are_those_of_a_bucket(rate: float, burst: int, arrivals: list[tuple[bytes, int]]) -> None:
    limits, bucket, now = Limits(0, 0, rate, burst), Bucket(rate, burst), 0.0
    for packed, eighths in arrivals:
        now += eighths / 8  # exact in binary, so that both round alike: not at all
        assert (limits.admit(packed, now) is None) == bucket.take(packed, now)
        full = {key for key, tokens in bucket.tokens.items() if tokens == burst}
        assert {key[:8] for key in bucket.tokens.keys() - full} <= limits.clients._clients.keys()


def test_a_refusal_takes_neither_place_nor_token() -> None:
    limits = Limits(0, 1, rate=1, burst=2)
    assert limits.admit(A, 0.0) is None
    assert [limits.admit(A, 0.0) for _ in range(9)] == [Reason.LIMIT_PER_IP] * 9
    limits.release(A)
    assert limits.admit(A, 0.0) is None  # its second token is still there
    limits.release(A)
    assert [limits.admit(A, 0.0) for _ in range(9)] == [Reason.RATE_PER_IP] * 9
    assert limits.admit(A, 1.0) is None


# Zero means off.


def test_nothing_is_kept_where_nothing_is_limited() -> None:
    limits = Limits(0, 0, 0, 0)
    before = state(limits)
    for number in range(100):
        assert limits.admit(address(number), 0.0) is None
        assert limits.would_admit(address(number), 0.0) is None
    limits.release(A)
    assert state(limits) == before


def test_connections_are_no_burden_where_only_the_rate_is_limited() -> None:
    limits = Limits(0, 0, rate=1, burst=1)
    limits.admit(A, 0.0)
    limits.admit(B, 10.0)  # A's bucket is full again; that its connection lives on does not matter
    assert list(limits.clients._clients) == [B]


# Bounded memory.


def test_a_full_table_fails_closed_and_serves_whom_it_knows() -> None:
    limits = Limits(0, 0, rate=1, burst=2, max_tracked=3)
    for number in range(3):
        assert limits.admit(address(number), 0.0) is None
    assert limits.admit(A, 0.0) is limits.would_admit(A, 0.0) is Reason.LIMIT_TABLE_FULL
    assert limits.admit(address(1), 0.0) is None
    assert limits.admit(address(1), 0.0) is Reason.RATE_PER_IP
    assert len(limits.clients) == 3
    just_finished = 1.0 + 2.0 / module.SLOTS  # two of the three; one slot late at most
    assert limits.would_admit(A, just_finished) is None
    assert limits.admit(A, just_finished) is limits.admit(B, just_finished) is None
    assert limits.admit(C, just_finished) is Reason.LIMIT_TABLE_FULL


def test_a_connection_keeps_its_address_in_the_table() -> None:
    limits = Limits(0, 5, rate=1, burst=1, max_tracked=1)
    assert limits.admit(A, 0.0) is None
    assert limits.admit(B, 100.0) is limits.would_admit(B, 100.0) is Reason.LIMIT_TABLE_FULL
    limits.release(A)
    assert limits.admit(B, 100.0) is None
    assert list(limits.clients._clients) == [B]


def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    limits = Limits(0, 0, rate=10, burst=5)
    for number in range(50):
        limits.admit(address(number), 0.0)
    limits.admit(A, 0.05)
    assert len(limits.clients) == 51
    limits.admit(A, 0.2)
    assert len(limits.clients) == 1


class Counting(module.Clients):
    """Counts the steps that keep the slots."""

    steps = 0

    def _enslot(self, key: bytes, client: module._Client) -> None:
        self.steps += 1
        super()._enslot(key, client)


@interpreted_only
def test_churn_of_ten_times_the_table() -> None:
    """A thousand new addresses a second, each coming twice; a bucket of two tokens is full again after 0.1 s."""
    limits = Counting(2, rate=20, burst=4, max_tracked=200)
    refused, most = 0, 0
    for number in range(2000):
        now = number / 1000
        for _ in range(2):
            refused += limits.admit(address(number), now) is not None
        limits.release(address(number))
        limits.release(address(number))
        most = max(most, len(limits), len(limits._slots))
    assert refused == 0
    assert 100 <= most <= 110
    assert limits.steps <= 4000  # one for each token at most


@interpreted_only
def test_churn_that_outruns_the_table_stays_within_bounds() -> None:
    limits = Counting(0, rate=1, burst=10, max_tracked=200)
    answers = []
    for number in range(2000):
        answers.append(limits.admit(address(number), number / 1000))
        assert len(limits) <= 200
        assert len(limits._slots) <= module.SLOTS + 2
    assert answers[:200] == [None] * 200
    assert set(answers[200:1000]) == {Reason.LIMIT_TABLE_FULL}
    assert 150 < answers[1000:].count(None) <= 200  # those after the first second, as the first ones finish
    assert limits.steps == answers.count(None)


def test_a_clock_that_leaps_costs_no_more_than_the_table() -> None:
    limits = Limits(0, 0, rate=1000, burst=1)
    for number in range(100):
        limits.admit(address(number), number / 10_000)
    limits.admit(A, 1e9)
    assert (len(limits.clients), len(limits.clients._slots)) == (1, 1)


def test_the_table_outsizes_one_ipv6_network() -> None:
    assert module.MAX_TRACKED > 2 ** (64 - 48)


# Limits that change while connections are open.


def test_other_limits_keep_the_places_that_are_taken() -> None:
    limits = Limits(1, 0, 0, 0)
    assert limits.enter("a", 0) is None
    assert limits.admit(A, 0.0) is None
    limits.change(2, 1, 0, 0, [A])
    assert limits.enter("a", 0) is None
    assert limits.admit(A, 0.0) is Reason.LIMIT_PER_IP, "the one that was there before the limit counts"
    limits.release(A)
    assert limits.admit(A, 0.0) is None
    limits.change(1, 1, 0, 0, ())
    assert limits.enter("a", 0) is Reason.LIMIT_TOTAL
    assert limits.admit(A, 0.0) is Reason.LIMIT_PER_IP, "nothing is counted again where that limit stays"
    limits.change(1, 0, 0, 0, [A])
    limits.release(A)
    assert len(limits.clients) == 0


def test_another_rate_begins_with_full_buckets() -> None:
    limits = Limits(0, 0, rate=1, burst=1)
    assert [limits.admit(A, 0.0), limits.admit(A, 0.0)] == [None, Reason.RATE_PER_IP]
    limits.change(0, 0, 1, 1, ())
    assert limits.admit(A, 0.0) is Reason.RATE_PER_IP, "which this is not"
    limits.change(0, 0, 2, 2, ())
    assert [limits.admit(A, 0.0) for _ in range(3)] == [None, None, Reason.RATE_PER_IP]
    assert limits.admit(A, 0.5) is None


@given(st.lists(st.tuples(st.sampled_from("earlc"), st.integers(0, 5), st.integers(0, 3)), max_size=120))
def test_whatever_changes_what_is_held_is_counted(calls: list[tuple[str, int, int]]) -> None:
    """A session that gives back what was never counted would be a KeyError in the middle of its end."""
    limits, now, held = Limits(0, 0, 0, 0), 0.0, list[bytes]()
    for call, number, quarters in calls:
        now += quarters / 4
        packed = address(number)
        if call == "a" and limits.admit(packed, now) is None:
            held.append(packed)
        elif call == "r" and held:
            limits.release(held.pop())
        elif call == "c":
            limits.change(0, number % 3, quarters % 2, 0, held)
        counted = {key: client.connections for key, client in limits.clients._clients.items() if client.connections}
        assert counted == ({key: held.count(key) for key in held} if limits.clients.max_per_ip else {})


# What explain asks is what the data path does.


@given(st.lists(st.tuples(st.sampled_from("earl"), st.integers(0, 5), st.integers(0, 3)), max_size=120))
def test_asking_first_tells_the_answer_and_changes_nothing(calls: list[tuple[str, int, int]]) -> None:
    limits, now, held = Limits(4, 2, rate=2, burst=3, max_tracked=3), 0.0, list[bytes]()
    for call, number, quarters in calls:
        now += quarters / 4
        packed, listener, before = address(number), "ab"[number % 2], state(limits)
        if call == "e":
            told = limits.would_enter(listener, 3)
            assert state(limits) == before
            assert limits.enter(listener, 3) is told
        elif call == "a":
            told = limits.would_admit(packed, now)
            assert state(limits) == before
            assert limits.admit(packed, now) is told
            held += [packed] if told is None else []
        elif call == "r" and held:
            limits.release(held.pop())
        elif call == "l" and limits.by_listener:
            limits.leave(next(iter(limits.by_listener)))
        assert limits.connections == sum(limits.by_listener.values()) <= 4
        assert len(limits.clients) <= 3
        assert {key: client.connections for key, client in limits.clients._clients.items() if client.connections} == {
            key: held.count(key) for key in held
        }


def test_prints_its_state() -> None:
    limits = Limits(9, 0, 2.5, 0)
    limits.enter("a", 0)
    limits.admit(A, 0.0)
    assert repr(limits) == "<Limits connections=1/9 <Clients per_ip=- rate=2.5/s burst=2.5 tracked=1/131072>>"
    assert repr(Limits(0, 3, 0, 0)) == "<Limits connections=0/- <Clients per_ip=3 rate=- tracked=0/131072>>"
