"""The firewall against a list of rules that is searched from front to back."""

import pickle
import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.model import FirewallRule, Reason, RuleKind
from mcproxy.policy.firewall import REASONS, Firewall, rule
from mcproxy.policy.networks import pack, unpack

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "192.0.2.7", "2001:db8::1", "2001:db8:1::1", "fe80::1"]
NETWORKS = ["10.0.0.0/8", "10.0.0.0/30", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "2001:db8:1::/48", "::/0"]
COUNTRIES = {pack("10.0.0.2"): "DE", pack("192.0.2.7"): "FR", pack("2001:db8:1::1"): "DE"}

values = st.one_of(
    st.tuples(st.just(RuleKind.IP), st.sampled_from(ADDRESSES)),
    st.tuples(st.just(RuleKind.CIDR), st.sampled_from(NETWORKS)),
    st.tuples(st.just(RuleKind.COUNTRY), st.sampled_from(["DE", "FR", "NL"])),
)
rules = st.builds(lambda value, expires: rule(value[0], value[1], expires), values, st.none() | st.floats(0, 1e9))


def expected(present: list[FirewallRule], packed: bytes) -> FirewallRule | None:
    """The first rule that holds, outer networks before inner ones."""
    address = ip_address(packed)
    for each in present:
        if each.kind is RuleKind.IP and ip_address(each.value) == address:
            return each
    networks = [each for each in present if each.kind is RuleKind.CIDR]
    for each in sorted(networks, key=lambda each: ip_network(each.value).prefixlen):
        if address in ip_network(each.value):
            return each
    for each in present:
        if each.kind is RuleKind.COUNTRY and COUNTRIES.get(packed) == each.value:
            return each
    return None


def never(_packed: bytes) -> str | None:
    raise AssertionError("the country was looked up")


@given(st.lists(rules, max_size=20))
def test_match_is_what_the_list_says(given_rules: list[FirewallRule]) -> None:
    present = list({(each.kind, each.value): each for each in given_rules}.values())  # the last of equal ones
    firewall = Firewall.compile(given_rules)
    for packed in map(pack, ADDRESSES):
        assert firewall.match(packed, COUNTRIES.get) == expected(present, packed)
    assert sorted(firewall.rules(), key=str) == sorted(present, key=str)
    assert len(firewall) == len(present)


@given(st.lists(rules, max_size=20), st.sampled_from(ADDRESSES))
def test_explain_agrees_with_match(given_rules: list[FirewallRule], address: str) -> None:
    firewall = Firewall.compile(given_rules)
    steps = list(firewall.explain(pack(address), COUNTRIES.get))
    assert [step.kind for step in steps] == list(RuleKind)[: len(steps)]
    assert steps[-1].matched == firewall.match(pack(address), COUNTRIES.get)
    assert [step for step in steps[:-1] if step.matched] == []
    assert steps[-1].matched or len(steps) == len(RuleKind)


@given(st.lists(st.tuples(st.booleans(), rules), max_size=30))
def test_adding_and_removing_equal_compiling(changes: list[tuple[bool, FirewallRule]]) -> None:
    firewall, present = Firewall(), dict[tuple[RuleKind, str], FirewallRule]()
    for removing, each in changes:
        key = (each.kind, each.value)
        if removing and key in present:
            del present[key]
            firewall = firewall.without_rule(*key)
        elif removing:
            with pytest.raises(KeyError):
                firewall.without_rule(*key)
        else:
            present[key] = each
            firewall = firewall.with_rule(each)
        assert firewall == Firewall.compile(present.values())


def test_kinds_are_tried_in_order() -> None:
    firewall = Firewall.compile(
        [rule(RuleKind.COUNTRY, "DE"), rule(RuleKind.CIDR, "10.0.0.0/8"), rule(RuleKind.IP, "10.0.0.2")]
    )
    matched = []
    while found := firewall.match(pack("10.0.0.2"), COUNTRIES.get):
        matched.append(found.kind)
        firewall = firewall.without_rule(found.kind, found.value)
    assert matched == list(RuleKind)


def test_country_is_looked_up_only_for_country_rules_and_only_last() -> None:
    assert Firewall().match(pack("10.0.0.2"), never) is None
    firewall = Firewall.compile([rule(RuleKind.CIDR, "10.0.0.0/8")])
    assert firewall.match(pack("192.0.2.7"), never) is None
    with_country = firewall.with_rule(rule(RuleKind.COUNTRY, "FR"))
    assert with_country.match(pack("10.0.0.2"), never) == rule(RuleKind.CIDR, "10.0.0.0/8")
    with pytest.raises(AssertionError, match="looked up"):
        with_country.match(pack("192.0.2.7"), never)


def test_explain_shows_what_was_looked_for() -> None:
    firewall = Firewall.compile([rule(RuleKind.COUNTRY, "DE"), rule(RuleKind.COUNTRY, "NL")])
    steps = list(firewall.explain(pack("192.0.2.7"), COUNTRIES.get))
    assert [(step.rules, step.subject) for step in steps] == [(0, "192.0.2.7"), (0, "192.0.2.7"), (2, "FR")]
    assert [step.subject for step in firewall.explain(pack("fe80::1"), COUNTRIES.get)][-1] == ""
    assert [step.subject for step in Firewall().explain(pack("192.0.2.7"), never)][-1] == ""


def test_a_mapped_client_is_the_ipv4_client() -> None:
    firewall = Firewall.compile([rule(RuleKind.IP, "::ffff:192.0.2.7")])
    assert firewall.match(pack("192.0.2.7"), never) == rule(RuleKind.IP, "192.0.2.7")
    assert firewall.match(pack("::ffff:192.0.2.7"), never) is not None


@pytest.mark.parametrize("client", ["64:ff9b::192.0.2.7", "2002:c000:207::1", "::192.0.2.7", "::ffff:0:192.0.2.7"])
def test_an_address_that_only_embeds_another_is_its_own(client: str) -> None:
    """NAT64, 6to4 and the like: who may use them for whom is not known here."""
    assert Firewall.compile([rule(RuleKind.IP, "192.0.2.7")]).match(pack(client), never) is None


def test_a_client_whose_country_is_unknown_is_not_refused_for_it() -> None:
    assert Firewall.compile([rule(RuleKind.COUNTRY, "DE")]).match(pack("192.0.2.7"), lambda _packed: None) is None


def test_the_last_of_two_equal_rules_holds() -> None:
    twice = [rule(RuleKind.IP, "192.0.2.7", 5.0), rule(RuleKind.IP, "192.0.2.7", 9.0)]
    assert list(Firewall.compile(twice).rules()) == twice[1:]
    assert list(Firewall.compile(twice[:1]).with_rule(twice[1]).rules()) == twice[1:]


def test_a_changed_firewall_shares_the_rest_and_leaves_the_old_one_alone() -> None:
    before = Firewall.compile(rule(*each) for each in zip(RuleKind, ["192.0.2.7", "10.0.0.0/8", "DE"], strict=True))
    shared: list[tuple[Callable[[Firewall], object], RuleKind, str]] = [
        (lambda firewall: firewall.ips, RuleKind.IP, "192.0.2.8"),
        (lambda firewall: firewall.networks, RuleKind.CIDR, "11.0.0.0/8"),
        (lambda firewall: firewall.countries, RuleKind.COUNTRY, "FR"),
    ]
    for _, kind, value in shared:
        after = before.with_rule(rule(kind, value))
        assert after.without_rule(kind, value) == before
        assert [part(after) is part(before) for part, _, _ in shared] == [other is not kind for _, other, _ in shared]
    assert len(before) == 3


def test_survives_pickling_and_prints_its_size() -> None:
    firewall = Firewall.compile([rule(RuleKind.IP, "192.0.2.7", 5.0), rule(RuleKind.CIDR, "::/0")])
    assert pickle.loads(pickle.dumps(firewall)) == firewall
    assert repr(firewall) == "<Firewall ip=1 cidr=1 country=0>"


def test_every_kind_has_its_reason() -> None:
    assert dict(REASONS) == {
        RuleKind.IP: Reason.BLOCKED_IP, RuleKind.CIDR: Reason.BLOCKED_CIDR, RuleKind.COUNTRY: Reason.BLOCKED_COUNTRY,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "canonical"),
    [
        (RuleKind.IP, "2001:DB8:0::1", "2001:db8::1"),
        (RuleKind.CIDR, "::ffff:10.0.0.0/104", "10.0.0.0/8"),
        (RuleKind.COUNTRY, "de", "DE"),
    ],
)
def test_a_rule_is_canonical_wherever_it_enters(kind: RuleKind, value: str, canonical: str) -> None:
    assert rule(kind, value, 7.0) == FirewallRule(kind, canonical, 7.0)
    as_written = FirewallRule(kind, value, 7.0)
    for firewall in (Firewall.compile([as_written]), Firewall().with_rule(as_written)):
        assert list(firewall.rules()) == [rule(kind, value, 7.0)]
        assert len(firewall.without_rule(kind, value)) == 0


@pytest.mark.parametrize(
    ("kind", "value", "remedy"),
    [
        (RuleKind.IP, "10.0.0.0/8", "is not an IP address"),
        (RuleKind.CIDR, "10.0.0.1/8", 'did you mean "10.0.0.0/8"?'),
        (RuleKind.COUNTRY, "Germany", "two letters"),
        (RuleKind.COUNTRY, "D1", "two letters"),
        (RuleKind.COUNTRY, "ÄÖ", "two letters"),
        (RuleKind.COUNTRY, "", "two letters"),
        (RuleKind.COUNTRY, "uk", 'did you mean "GB"?'),
    ],
)
def test_a_bad_rule_is_told_its_remedy(kind: RuleKind, value: str, remedy: str) -> None:
    good = rule(RuleKind.IP, "192.0.2.7")
    bad = FirewallRule(kind, value)
    with pytest.raises(ValueError, match=re.escape(remedy)):
        rule(kind, value)
    with pytest.raises(ValueError, match=re.escape(remedy)):
        Firewall().without_rule(kind, value)
    named = re.escape(f"firewall rule {kind}: ") + ".*" + re.escape(remedy)
    with pytest.raises(ValueError, match=named):
        Firewall.compile([good, bad])
    with pytest.raises(ValueError, match=named):
        Firewall().with_rule(bad)


def test_oracle_addresses_are_canonical() -> None:
    assert [unpack(pack(address)) for address in ADDRESSES] == ADDRESSES
