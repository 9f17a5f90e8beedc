"""A table's parts; it never changes, and assigning publishes it. How the next one is made: test_change.py."""

from dataclasses import FrozenInstanceError

import pytest

from mcproxy.change import route_key
from mcproxy.model import Backend, FirewallRule, Listener, Route, RuleKind
from mcproxy.policy.networks import pack
from mcproxy.table import ListenerTable, Live, Table
from tests.kit.tables import without

PUBLIC = Listener(":443", max_connections=5)
BEHIND = Listener("[::1]:8443", proxy_protocol=True, trusted_proxies=("10.0.0.0/8", "192.0.2.1"))


def route(hostname: str, port: int = 3000) -> Route:
    return Route(hostname, Backend("127.0.0.1", port))


A, B, C = route("a.example"), route("b.example"), route("c.example")
IP = FirewallRule(RuleKind.IP, "192.0.2.66")
CIDR = FirewallRule(RuleKind.CIDR, "198.51.100.0/24", 99.5)
COUNTRY = FirewallRule(RuleKind.COUNTRY, "DE")


def build() -> Table:
    return Table.build([(PUBLIC, [A, B]), (BEHIND, [C])], [IP, CIDR, COUNTRY], generation=7)


def test_an_empty_table() -> None:
    table = Table()
    assert (table.generation, dict(table.listeners), list(table.firewall.rules())) == (0, {}, [])
    assert Table.build([]) == table


def test_it_knows_its_routes() -> None:
    table = build()
    assert table.has_route((":443", "a.example"))
    assert not table.has_route((":443", "c.example")), "another listener has it"
    assert not table.has_route((":80", "a.example"))


def test_build() -> None:
    table = build()
    assert table.generation == 7
    assert list(table.listeners) == [":443", "[::1]:8443"]
    assert table.listeners[":443"].routes == {"a.example": A, "b.example": B}
    assert table.listeners[":443"].listener is PUBLIC
    assert table.listeners["[::1]:8443"].trusted.find(pack("10.9.9.9")) == "10.0.0.0/8"
    assert list(table.firewall.rules()) == [IP, CIDR, COUNTRY]


def test_bad_values_are_refused() -> None:
    bad = Listener(":1", trusted_proxies=("10.0.0.1/8",))
    with pytest.raises(ValueError, match=r'listener :1: "10\.0\.0\.1/8" has host bits set'):
        Table.build([(bad, [])])
    with pytest.raises(ValueError, match='firewall rule ip: "x"'):
        Table.build([], [FirewallRule(RuleKind.IP, "x")])


def test_nothing_can_be_assigned() -> None:
    table = build()
    with pytest.raises(FrozenInstanceError):
        table.generation = 8  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        table.listeners[":443"].routes = {}  # type: ignore[misc]


def test_live_publishes_by_assignment() -> None:
    live = Live(build())
    taken = live.table
    live.table = without(live.table, route_key(":443", "a.example"))
    assert (taken.generation, live.table.generation) == (7, 8)
    assert "a.example" in taken.listeners[":443"].routes
    assert "a.example" not in live.table.listeners[":443"].routes
    assert repr(live) == "<Live <Table generation=8 listeners=2 routes=2 rules=3>>"


def test_prints_its_size_not_its_content() -> None:
    assert repr(build()) == "<Table generation=7 listeners=2 routes=3 rules=3>"
    assert repr(ListenerTable.build(BEHIND, [A])) == "<ListenerTable [::1]:8443 routes=1 trusted=2>"
