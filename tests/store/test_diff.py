from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store.diff import differences
from mcproxy.table import Table
from tests.control_plane import RULES, SEED, route


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
