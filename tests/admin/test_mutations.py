from dataclasses import replace

import pytest

from mcproxy.admin import mutations
from mcproxy.admin.errors import AlreadyThere, InvalidField, InvalidFields, NotThere, Refusal, TooMany
from mcproxy.admin.mutations import Decision
from mcproxy.change import Change, next_table, rule_key, table_values, values
from mcproxy.model import Backend, FirewallRule, Listener, Route, RuleKind
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED, route

TABLE = Table.build(SEED, RULES, 1)
NEW = Listener(":8443")
IP = RuleKind.IP


def after(decide: Decision, table: Table = TABLE, now: float = 100.0) -> Table:
    return next_table(table, decide(table, now), table.generation + 1)


def test_a_listener_comes_changes_and_goes_with_its_routes() -> None:
    there = after(mutations.put_listener(NEW, exists=False))
    assert list(there.listeners) == [":443", ":8443"]
    changed = after(mutations.put_listener(Listener(":8443", max_connections=4), exists=True), there)
    assert changed.listeners[":8443"].listener.max_connections == 4
    routed = after(mutations.put_route(":8443", route("a.example.org"), exists=False), changed)
    gone = mutations.remove_listener(":8443")(routed, 0.0)
    assert [str(change.key) for change in gone] == ["route a.example.org on :8443", "listener :8443"]
    assert table_values(next_table(routed, gone, 9)) == table_values(TABLE)


def test_a_route_comes_changes_and_goes() -> None:
    there = after(mutations.put_route("", route("a.example.org"), exists=False))
    assert "a.example.org" in there.listeners[":443"].routes
    changed = after(mutations.put_route(":443", route("a.example.org", "127.0.0.1:9"), exists=True), there)
    assert str(changed.listeners[":443"].routes["a.example.org"].backend) == "127.0.0.1:9"
    assert table_values(after(mutations.remove_route("", "a.example.org"), changed)) == table_values(TABLE)


def test_a_route_can_not_lead_to_a_listener_of_ours() -> None:
    for backend in ("127.0.0.1:443", "localhost:443"):
        host, _, port = backend.rpartition(":")
        for hostname, exists in (("a.example.org", False), ("git.example.org", True)):
            decide = mutations.put_route("", Route(hostname, Backend(host, int(port))), exists=exists)
            with pytest.raises(InvalidField, match=rf"^route\.backend: {backend} is mcproxy's own listener :443"):
                decide(TABLE, 0.0)


def test_a_listener_can_not_come_where_a_route_leads() -> None:
    with pytest.raises(InvalidField, match=r"^listener\.addr: the route git\.example\.org on :443 leads there"):
        mutations.put_listener(Listener("127.0.0.1:3000"), exists=False)(TABLE, 0.0)
    after(mutations.put_listener(Listener("127.0.0.2:3000"), exists=False))


def test_what_is_applied_can_not_lead_back() -> None:
    """Counted with the listeners that come and without those that go."""
    there, back = Listener(":8443"), route("a.example.org", "127.0.0.1:8443")
    wanted = values([(TABLE.listeners[":443"].listener, [back]), (there, [])], ())
    places = {key: f"place {key.name}" for key in wanted}
    with pytest.raises(InvalidFields, match=r"^place a\.example\.org\.backend: 127\.0\.0\.1:8443 is mcproxy's own"):
        mutations.apply(wanted, places, prune=False)(TABLE, 0.0)
    both = Table.build([(TABLE.listeners[":443"].listener, []), (there, [])], (), 1)
    alone = values([(TABLE.listeners[":443"].listener, [back])], ())
    assert mutations.apply(alone, places, prune=True)(both, 0.0), "that listener goes"
    taken = values([(Listener("127.0.0.1:3000"), [])], ())
    with pytest.raises(InvalidFields, match="leads there"):
        mutations.apply(taken, dict.fromkeys(taken, "place"), prune=False)(TABLE, 0.0)


def test_listeners_of_different_nodes_stand_in_nobodys_way() -> None:
    first, second = Listener("127.0.0.1:443", nodes=("edge1",)), Listener("127.0.0.1:443", nodes=("edge2",))
    table = Table.build([(Listener(":443", nodes=("edge2",)), [route("a.test", "127.0.0.1:8443")])])
    assert mutations.put_listener(first, exists=False)(table, 0.0)
    with pytest.raises(InvalidField, match=r"can't both be listened on; remove :443 first"):
        mutations.put_listener(second, exists=False)(table, 0.0)
    both = Table.build([(Listener(":443", nodes=("edge2",)), []), (first, [])])
    with pytest.raises(InvalidField, match=r"^listener\.addr: 127\.0\.0\.1:443 and :443 can't both be listened on"):
        mutations.put_listener(second, exists=True)(both, 0.0)


def test_a_route_loops_only_on_a_node_that_has_both_listeners() -> None:
    to = route("a.test", "127.0.0.1:8443")
    here, there = Listener(":443", nodes=("edge1",)), Listener("127.0.0.1:8443", nodes=("edge2",))
    assert mutations.put_route(":443", to, exists=False)(Table.build([(here, []), (there, [])]), 0.0)
    apart = Table.build([(here, [to]), (there, [])])
    with pytest.raises(InvalidField, match=r"^listener\.addr: the route a\.test on :443 leads there"):
        mutations.put_listener(replace(there, nodes=()), exists=True)(apart, 0.0)
    with pytest.raises(InvalidField, match=r"^listener\.nodes: the route a\.test on :443 leads to another listener"):
        mutations.put_listener(replace(here, nodes=()), exists=True)(apart, 0.0)
    everywhere = Table.build([(here, []), (replace(there, nodes=()), [])])
    with pytest.raises(InvalidField, match=r"^route\.backend: 127\.0\.0\.1:8443 is mcproxy's own"):
        mutations.put_route(":443", to, exists=False)(everywhere, 0.0)


def test_a_temporary_rule_takes_a_new_end_and_may_become_permanent() -> None:
    rule = FirewallRule(IP, "192.0.2.9")
    there = after(mutations.add_rule(rule, 60.0))
    assert FirewallRule(IP, "192.0.2.9", 160.0) in set(there.firewall.rules())
    longer = after(mutations.add_rule(rule, 90.0), there)
    assert FirewallRule(IP, "192.0.2.9", 190.0) in set(longer.firewall.rules())
    assert rule in set(after(mutations.add_rule(rule, 0.0, may_replace=True), longer).firewall.rules())


def test_a_permanent_rule_becomes_temporary_only_where_that_is_said() -> None:
    with pytest.raises(AlreadyThere, match=r"firewall rule ip 192\.0\.2\.1 is permanent and would become temporary"):
        mutations.add_rule(RULES[0], 60.0)(TABLE, 0.0)
    (change,) = mutations.add_rule(RULES[0], 60.0, may_replace=True)(TABLE, 0.0)
    assert (change.old, change.new) == (RULES[0], replace(RULES[0], expires_at=60.0))


def test_a_temporary_rule_becomes_permanent_only_where_that_is_said() -> None:
    temporary = FirewallRule(IP, "192.0.2.9", 160.0)
    table = Table.build([], [temporary])
    for_good = replace(temporary, expires_at=None)
    with pytest.raises(AlreadyThere, match=r"is temporary, until 1970-01-01 00:02:40Z, and would become permanent"):
        mutations.add_rule(for_good, 0.0, may_stay=True)(table, 100.0)
    change = Change(rule_key(IP, "192.0.2.9"), temporary, for_good)
    assert mutations.add_rule(for_good, 0.0, may_replace=True)(table, 100.0) == [change]
    assert mutations.add_rule(for_good, 0.0)(table, 160.0) == [change], "one that has ended is only not removed yet"


def test_a_permanent_rule_may_stay_where_its_kill_is_what_counts() -> None:
    assert mutations.add_rule(RULES[0], 60.0, may_stay=True)(TABLE, 0.0) == []


def test_what_is_as_it_should_be_is_no_change() -> None:
    assert mutations.put_route("", SEED[0][1][0], exists=True)(TABLE, 0.0) == []
    assert mutations.put_listener(Listener(":443"), exists=True)(TABLE, 0.0) == []
    assert mutations.put_route("", SEED[0][1][0], exists=False)(TABLE, 0.0) == []
    assert mutations.put_listener(Listener(":443"), exists=False)(TABLE, 0.0) == []
    assert mutations.add_rule(RULES[0], 0.0)(TABLE, 0.0) == []


def test_some_settings_are_changed_of_what_is_there_at_the_turn() -> None:
    """What was read before was compared, so of changes that raced all but one could be refused."""
    decide = mutations.change_route("", "git.example.org", lambda was: replace(was, send_proxy_protocol=True))
    other = after(mutations.put_route("", route("git.example.org", "127.0.0.1:1"), exists=True))
    (change,) = decide(other, 0.0)
    assert change.new == replace(route("git.example.org", "127.0.0.1:1"), send_proxy_protocol=True)
    with pytest.raises(NotThere):
        mutations.change_route("", "no.example.org", lambda was: was)(TABLE, 0.0)
    (change,) = mutations.change_listener(":443", lambda was: replace(was, max_connections=7))(TABLE, 0.0)
    assert change.new == Listener(":443", max_connections=7)


def test_only_ended_rules_that_are_still_the_same_end() -> None:
    ended, renewed, later = (FirewallRule(IP, f"192.0.2.{i}", 99.0 + i) for i in (10, 11, 12))
    table = Table.build(SEED, [ended, FirewallRule(IP, "192.0.2.11", 500.0), later], 1)
    decide = mutations.end_rules([ended, renewed, later])
    assert [change.old for change in decide(table, 110.5)] == [ended]
    assert decide(Table.build(SEED, [], 1), 1000.0) == []


@pytest.mark.parametrize(
    ("decide", "refusal", "words"),
    [
        (
            mutations.put_listener(Listener(":443", True, ("::/0",), 5), exists=False),
            AlreadyThere,
            "the listener :443 exists, with proxy_protocol off, trusted_proxies empty, max_connections 0",
        ),
        (mutations.put_listener(NEW, exists=True), NotThere, "there is no listener :8443"),
        (mutations.remove_listener(":1"), NotThere, "there is no listener :1"),
        (
            mutations.put_route("", route("git.example.org", "127.0.0.1:1"), exists=False),
            AlreadyThere,
            "the route git.example.org on :443 exists, with backend 127.0.0.1:3000",
        ),
        (mutations.put_route("", route("a.b"), exists=True), NotThere, "there is no route a.b on :443"),
        (mutations.put_route(":1", route("a.b"), exists=False), NotThere, "no listener :1; the listeners are :443"),
        (mutations.remove_route(":443", "a.b"), NotThere, "there is no route a.b on :443"),
        (mutations.remove_rule(IP, "192.0.2.9"), NotThere, "there is no firewall rule ip 192.0.2.9"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(decide: Decision, refusal: type[Refusal], words: str) -> None:
    with pytest.raises(refusal, match=words.replace(".", r"\.")):
        decide(TABLE, 0.0)


def test_the_listener_must_be_named_where_there_are_several_or_none() -> None:
    many = Table.build([(Listener(f":{port}"), []) for port in range(1, 9)])
    with pytest.raises(InvalidField, match=r"listener: name one; the listeners are :1, :2, :3, :4, :5 and 3 more"):
        mutations.only_listener(many, "")
    with pytest.raises(InvalidField, match="there are no listeners"):
        mutations.only_listener(Table(), "")
    assert mutations.only_listener(many, ":7") == ":7"


class Full(dict[str, object]):
    """As many entries as `count` says."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def test_an_address_that_another_listener_has_already_is_told_which() -> None:
    """The kernel would say that somebody listens there, which an operator takes for another program."""
    with pytest.raises(InvalidField, match=r"127.0.0.1:443 and :443 can't both be listened on; remove :443 first"):
        mutations.put_listener(Listener("127.0.0.1:443"), exists=False)(TABLE, 0.0)


def test_listeners_have_a_bound() -> None:
    table = Table(1, Full(mutations.MAX_LISTENERS))  # type: ignore[arg-type]
    with pytest.raises(TooMany, match="1000 listeners, which is the limit"):
        mutations.put_listener(NEW, exists=False)(table, 0.0)


def test_rules_have_a_bound() -> None:
    table = Table(1, {}, type(TABLE.firewall)(ips=Full(mutations.MAX_RULES)))  # type: ignore[arg-type]
    with pytest.raises(TooMany, match="1000000 firewall rules, which is the limit"):
        mutations.add_rule(RULES[0], 0.0)(table, 0.0)


def test_routes_have_a_bound() -> None:
    listener = type(TABLE.listeners[":443"])(SEED[0][0], TABLE.listeners[":443"].trusted, Full(mutations.MAX_ROUTES))  # type: ignore[arg-type]
    with pytest.raises(TooMany, match=":443 has 1000000 routes, which is the limit"):
        mutations.put_route("", route("a.b"), exists=False)(Table(1, {":443": listener}), 0.0)
