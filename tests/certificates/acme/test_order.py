from dataclasses import replace

import pytest

from mcproxy.certificates.acme.order import (
    CA_LAST_RETRY,
    LAST_RETRY,
    CaAccount,
    Kept,
    Order,
    State,
    earliest_renewal,
    failed,
    issued,
    kept_out,
    of_another_ca,
    paused,
    renewed_at,
    renewed_within,
)
from mcproxy.certificates.pem import Certificate
from mcproxy.model import FirewallRule, RuleKind
from mcproxy.policy.firewall import Firewall

DAY = 86_400.0
ORDER = Order("a.test", State.ISSUING, "https://ca.test", "https://ca.test/1", "key", began=5.0)


def certificate(days: float) -> Certificate:
    return Certificate("", ("a.test",), 1000 * DAY, (1000 + days) * DAY, "")


def test_a_failure_ends_the_order_and_the_next_try_is_later_each_time() -> None:
    order, pauses = ORDER, []
    for _ in range(10):
        order = failed(order, "no", 100.0, 0.0)
        pauses.append(order.next_at - 100.0)
    assert pauses[:4] == [600.0, 1200.0, 2400.0, 4800.0]
    assert pauses[-1] == LAST_RETRY
    assert (order.state, order.url, order.key, order.failures, order.failed_at) == (State.WAITING, "", "", 10, 100.0)
    assert failed(ORDER, "x" * 900, 0.0, 1.0).next_at == pytest.approx(660.0)
    assert len(failed(ORDER, "x" * 900, 0.0, 1.0).failure) == 500
    assert failed(replace(ORDER, failures=10_000), "no", 0.0, 0.0).next_at == LAST_RETRY, "and no overflow"
    assert failed(ORDER, "no", 100.0, 0.0, retry_after=7200.0).next_at == 7300.0


def test_a_ca_is_left_alone_longer_each_time() -> None:
    account, pauses = CaAccount("https://ca.test", "key"), []
    for _ in range(10):
        account = paused(account, "away", 100.0, 0.0)
        pauses.append(account.paused_until - 100.0)
    assert pauses[:3] == [15.0, 30.0, 60.0]
    assert pauses[-1] == CA_LAST_RETRY
    assert paused(account, "away", 0.0, 0.0, retry_after=9000.0).paused_until == 9000.0


@pytest.mark.parametrize(("days", "chance", "after"), [(90, 0, 60), (90, 1, 57.3), (45, 0, 30), (160 / 24, 0, 80 / 24)])
def test_a_certificate_is_renewed_at_a_share_of_its_lifetime(days: float, chance: float, after: float) -> None:
    assert renewed_at(certificate(days), chance) == pytest.approx((1000 + after) * DAY)


def test_no_certificate_is_renewed_just_after_it_was_issued() -> None:
    assert earliest_renewal(certificate(90), 0.0) == 1001 * DAY
    assert earliest_renewal(certificate(5), 0.0) == 1000.5 * DAY


def test_a_clock_that_is_fast_causes_no_loop_of_orders() -> None:
    """One of a week, issued by the CA's clock on day 1000, was due again at once where this machine's said 1004."""
    assert renewed_at(certificate(7), 0.0, 1004 * DAY) == pytest.approx(1004.7 * DAY)
    assert renewed_within(certificate(7), 1003 * DAY, 1004 * DAY, 0.5, 1004 * DAY) == pytest.approx(1004.7 * DAY)


@pytest.mark.parametrize(("begin", "end", "at"), [(50, 52, 51), (-3, -1, 1), (80, 84, 76), (4000, 8000, 76)], ids=str)
def test_a_window_is_kept_to_within_a_certificates_time(begin: float, end: float, at: float) -> None:
    """One that a CA puts after its end would let it expire; 14 days before that its end is warned of."""
    window = ((1000 + begin) * DAY, (1000 + end) * DAY)
    assert renewed_within(certificate(90), *window, 0.5, 0.0) == pytest.approx((1000 + at) * DAY)


def test_an_issued_order_waits_with_nothing_of_the_old_one_but_its_ca_and_when_it_began() -> None:
    waiting = Order("a.test", directory="https://ca.test", next_at=9.0, began=5.0)
    assert issued(replace(ORDER, failures=3, failure="no"), 9.0) == waiting
    assert of_another_ca(waiting, "https://other.test")
    others = [
        replace(waiting, **change) for change in ({"failures": 1}, {"directory": ""}, {"url": "https://ca.test/1"})
    ]
    assert not any(of_another_ca(each, "https://other.test") for each in others)
    assert not of_another_ca(waiting, "https://ca.test")


def test_what_may_keep_a_ca_out_is_countries_and_wide_networks() -> None:
    networks = ["192.0.2.0/24", "32.0.0.0/8", "2000::/3", "2001:db8::/32"]
    narrow = Firewall.compile([FirewallRule(RuleKind.CIDR, each) for each in (networks[0], networks[3])])
    assert kept_out(narrow) == ""
    rules = [FirewallRule(RuleKind.COUNTRY, "DE"), *(FirewallRule(RuleKind.CIDR, each) for each in networks)]
    words = "and a CA validates from several countries and networks"
    assert kept_out(Firewall.compile(rules)) == f"the firewall blocks DE, 32.0.0.0/8, 2000::/3, {words}"
    countries = [FirewallRule(RuleKind.COUNTRY, each) for each in ("AQ", "BR", "CN", "DE", "FR", "US")]
    assert kept_out(Firewall.compile(countries)) == f"the firewall blocks AQ, BR, CN, DE, FR and 1 more, {words}"


def test_what_may_keep_a_ca_out_is_many_networks_too() -> None:
    """As of a provider that a CA looks from: each is narrow, but they are its whole address space."""
    halves = [f"{first}.{second}.0.0/9" for first in (3, 52) for second in (0, 128)]  # of two /8
    within = [f"3.{each}.0.0/16" for each in range(4)]  # which count once
    rules = [FirewallRule(RuleKind.CIDR, each) for each in (*halves, *within)]
    words = "the firewall blocks 4 networks of IPv4 that together are as large as a /7, and a CA validates from"
    assert kept_out(Firewall.compile(rules)).startswith(words)
    assert kept_out(Firewall.compile(rules[1:])) == ""
    assert "2 networks of IPv6" in kept_out(
        Firewall.compile([FirewallRule(RuleKind.CIDR, f"26{each}0::/20") for each in "01"])
    )


def test_keys_are_not_shown() -> None:
    assert repr(ORDER) == "<Order a.test issuing failures=0>"
    assert repr(CaAccount("https://ca.test", "secret")) == "<CaAccount https://ca.test failures=0>"


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (Kept(ORDER), "its order is issuing"),
        (Kept(Order("a.test")), "its order is due at 1970-01-01 00:00:00Z"),
        (Kept(Order("a.test"), obstacle="the CA is away"), "the CA is away"),
        (
            Kept(failed(ORDER, "no route", 0.0, 0.0)),
            "its order failed, try 1, next one at 1970-01-01 00:10:00Z: no route",
        ),
    ],
)
def test_why_there_is_no_certificate(kept: Kept, words: str) -> None:
    assert kept.words == words
