from itertools import product

import pytest

from mcproxy.change import Key, What, listener_key, route_key, rule_key
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store.diff import FileSeed, differences
from mcproxy.store.store import ListenerRoutes
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED, route


def test_the_same_is_no_difference() -> None:
    assert differences((SEED, RULES), Table.build(SEED, RULES, 7)) == []


def test_each_way_of_differing() -> None:
    present = Table.build(
        [(Listener(":443", max_connections=1), [route("git.example.org", "127.0.0.1:9"), route("new.example.org")])],
        [RULES[0], FirewallRule(RuleKind.COUNTRY, "DE"), FirewallRule(RuleKind.IP, "192.0.2.9", 5.0)],
    )
    found = {
        str(each.key): (each.new is not None, each.old is not None) for each in differences((SEED, RULES), present)
    }
    assert found == {
        "listener :443": (True, True),
        "route git.example.org on :443": (True, True),
        "route new.example.org on :443": (False, True),
        "route www.example.org on :443": (True, False),
        "firewall rule cidr 198.51.100.0/24": (True, False),
        "firewall rule country DE": (False, True),
    }


LISTENERS: list[list[ListenerRoutes]] = [
    [],
    SEED,
    [(Listener(":443", max_connections=1), [route("git.example.org", "127.0.0.1:9"), route("new.example.org")])],
    [(Listener(":443"), []), (Listener(":8443"), [route("git.example.org")])],
]
RULE_SETS = [[], RULES, [RULES[0], FirewallRule(RuleKind.COUNTRY, "DE")]]
TEMPORARY = [FirewallRule(RuleKind.IP, "192.0.2.1", 5.0), FirewallRule(RuleKind.IP, "192.0.2.9", 5.0)]


@pytest.mark.parametrize("listeners", LISTENERS)
@pytest.mark.parametrize("rules", RULE_SETS)
def test_as_many_are_counted_as_there_are_differences(
    listeners: list[ListenerRoutes], rules: list[FirewallRule]
) -> None:
    file = FileSeed((listeners, rules))
    for others, other_rules in product(LISTENERS, [*RULE_SETS, TEMPORARY]):
        table = Table.build(others, other_rules, 7)
        expected = len(differences((listeners, rules), table)) if file else 0
        assert [file.differing(table), file.differing(table)] == [expected, expected]


def test_what_the_file_says_is_read_again() -> None:
    table, file = Table.build(SEED, RULES, 7), FileSeed((SEED, []))
    assert file.differing(table) == 2
    file.read((SEED, RULES))
    assert file.differing(table) == 0
    assert differences(file.seed(), table) == []


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (listener_key(":443"), True), (listener_key(":1"), False),
        (route_key(":443", "git.example.org"), True), (route_key(":443", "no.example.org"), False),
        (route_key(":1", "git.example.org"), False),
        (rule_key("ip", "192.0.2.1"), True), (Key(What.RULE, "ip", "198.51.100.0/24"), False),
    ],
)  # fmt: skip
def test_the_file_names_a_key(key: Key, named: bool) -> None:
    file = FileSeed((SEED, RULES))
    assert file.names(key) is named
    assert file.hint(key) == (
        "; the configuration file has it, but the database is in force: mcproxy diff, mcproxy apply" if named else ""
    )
