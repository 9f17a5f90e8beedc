import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import listener_key, route_key, rule_key
from mcproxy.cli import output, plan
from mcproxy.cli.plan import Shown

OLD = {"hostname": "a.b", "backend": "127.0.0.1:1", "mode": "l4", "tls_cert": "", "send_proxy_protocol": False}


def test_each_kind_of_change_has_its_line() -> None:
    key = route_key(":443", "a.b")
    new = {**OLD, "mode": "l7", "tls_cert": "/etc/my certs/a.pem", "send_proxy_protocol": True}
    assert str(Shown(key, None, OLD)) == "+ route a.b on :443: backend=127.0.0.1:1, mode=l4"
    assert str(Shown(key, OLD, None)) == "- route a.b on :443"
    changed = 'mode l4 -> l7, tls_cert "" -> "/etc/my certs/a.pem", send_proxy_protocol false -> true'
    assert str(Shown(key, OLD, new)) == f"~ route a.b on :443: {changed}"


def test_a_value_that_is_all_in_its_key_needs_no_more() -> None:
    new = {"addr": ":443", "proxy_protocol": False, "trusted_proxies": "", "max_connections": 0}
    assert str(Shown(listener_key(":443"), None, new)) == "+ listener :443"


def test_what_was_recorded_before_a_field_was_there_had_its_default() -> None:
    """Or every change of a route after an upgrade would show the new fields as changed."""
    before = {"hostname": "a.b", "backend": "127.0.0.1:1"}
    assert str(Shown(route_key(":443", "a.b"), before, {**OLD, "backend": "127.0.0.1:2"})) == (
        "~ route a.b on :443: backend 127.0.0.1:1 -> 127.0.0.1:2"
    )


def test_the_end_of_a_rule() -> None:
    old, new = ({"kind": "ip", "value": "192.0.2.1", "expires_at": end} for end in (1_000_000_000.0, None))
    line = str(Shown(rule_key("ip", "192.0.2.1"), old, new))
    assert line == "~ firewall rule ip 192.0.2.1: expires_at until 2001-09-09 01:46:40Z -> permanent"


def test_a_line_is_one_line() -> None:
    new = {**OLD, "backend": "unix:/tmp/a\n- listener :443\x1b[2J"}
    line = str(Shown(route_key(":443", "a.b"), None, new))
    assert "\n" not in line
    assert "\x1b" not in line


def test_keys_of_the_api() -> None:
    for key in (listener_key(":443"), route_key(":443", "a.b"), rule_key("ip", "192.0.2.1")):
        parts = [key.name] if key.what == "listener" else [key.scope, key.name]
        assert plan.key_of(str(key.what), parts) == key


def test_the_summary_counts_what_there_is() -> None:
    key = route_key(":443", "a.b")
    changes = [Shown(key, None, OLD), Shown(key, None, OLD), Shown(key, OLD, None)]
    assert plan.summary(changes) == "2 to add, 1 to remove"


@pytest.mark.parametrize("text", ["{", "[]", "5", "[" * 100_000])
def test_what_cannot_be_read_is_said_to_be_unreadable(text: str) -> None:
    """A row of the audit that somebody has written by hand: the history ended with a traceback."""
    revision = pb.Revision(what="route", key=[":443", "a.b"], old_json=text, new_json='{"backend":"127.0.0.1:1"}')
    assert str(plan.of_revision(revision)) == "~ route a.b on :443: unreadable in the database"
    assert output.plain(revision)["old_json"] in (text, [], 5)
