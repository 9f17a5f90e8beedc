import pytest

from mcproxy.change import Key, Value, What, listener_key, route_key, rule_key
from mcproxy.model import Backend, FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.store.records import RECORDS, from_json, to_json

FULL = Route(
    "a.example.org", Backend(path="/run/a.sock"), Mode.L7, "/c.pem", "/k.pem", True, "/ca.pem", "b.example.org", True
)
VALUES: list[tuple[Key, Value]] = [
    (listener_key(":443"), Listener(":443")),
    (listener_key("[::1]:443"), Listener("[::1]:443", True, ("10.0.0.0/8", "fd00::/8"), 7)),
    (route_key(":443", "b.example.org"), Route("b.example.org", Backend("::1", 80))),
    (route_key(":443", "a.example.org"), FULL),
    (rule_key("ip", "192.0.2.1"), FirewallRule(RuleKind.IP, "192.0.2.1")),
    (rule_key("country", "DE"), FirewallRule(RuleKind.COUNTRY, "DE", 1234.5)),
]


@pytest.mark.parametrize(("key", "value"), VALUES, ids=str)
def test_a_row_and_its_json_give_the_value_back(key: Key, value: Value) -> None:
    record = RECORDS[key.what]
    row = record.row(key, value)
    assert set(row) == {column.name for column in record.table.columns}
    assert record.value(row) == value
    assert from_json(key.what, to_json(key.what, value)) == value


@pytest.mark.parametrize("what", What)
def test_nothing_is_nothing(what: What) -> None:
    assert to_json(what, None) is None
    assert from_json(what, None) is None


def test_the_audit_of_a_version_with_fewer_fields_has_the_defaults() -> None:
    """Or a rollback past an upgrade that brought a field would fail."""
    old = '{"hostname":"b.example.org","backend":"[::1]:80","mode":"l4"}'
    assert from_json(What.ROUTE, old) == Route("b.example.org", Backend("::1", 80))
