import json
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from mcproxy.admin import convert
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.certificates.routes import RouteRefused
from mcproxy.change import Change, rule_key, table_values
from mcproxy.messages import GeoipStatus, PlaneBusy, PlaneStopping
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store import history
from tests.kit.admin_calls import call, refused
from tests.kit.control_plane import Control

NEW = pb.Route(hostname="New.Example.org", backend="127.0.0.1:9")


def test_listeners(control: Control) -> None:
    assert call(control, "AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=":8443"))).generation == 2
    assert control.plane.accepting == {":443", ":8443"}
    changed = pb.Listener(addr=":8443", max_connections=5)
    assert call(control, "UpdateListener", pb.UpdateListenerRequest(listener=changed)).generation == 3
    assert control.writer.table.listeners[":8443"].listener.max_connections == 5
    call(control, "AddRoute", pb.AddRouteRequest(listener=":8443", route=NEW))
    gone = call(control, "RemoveListener", pb.RemoveListenerRequest(addr=":8443"))
    assert (gone.generation, gone.removed_routes) == (5, 1)
    assert control.plane.accepting == {":443"}


def test_no_listener_is_added_to_a_server_that_stops(control: Control) -> None:
    control.plane.fail["bind_listener"] = PlaneStopping("the server is stopping")
    request = pb.AddListenerRequest(listener=pb.Listener(addr=":8443"))
    assert refused(control, "AddListener", request) == (grpc.StatusCode.UNAVAILABLE, "the server is stopping")


def test_routes(control: Control) -> None:
    assert call(control, "AddRoute", pb.AddRouteRequest(route=NEW)).generation == 2
    other = pb.Route(hostname="new.example.org", backend="unix:/run/a.sock")
    assert call(control, "UpdateRoute", pb.UpdateRouteRequest(route=other)).generation == 3
    assert str(control.writer.table.listeners[":443"].routes["new.example.org"].backend) == "unix:/run/a.sock"
    removal = pb.RemoveRouteRequest(hostname="NEW.example.org.")
    assert call(control, "RemoveRoute", removal).generation == 4


def test_an_l4_route_is_judged_for_what_certificates_mean_to_its_name(control: Control) -> None:
    control.plane.warnings = ["/c.pem, the certificate of l7.example.org, also covers raw.example.org"]
    l4 = pb.Route(hostname="raw.example.org", backend="127.0.0.1:9")
    assert list(call(control, "AddRoute", pb.AddRouteRequest(route=l4)).warnings) == control.plane.warnings
    assert ("check_route", ":443", "raw.example.org") in control.plane.calls


def test_an_l7_route_is_judged_by_the_data_plane(control: Control) -> None:
    l7 = pb.Route(
        hostname="l7.example.org", backend="127.0.0.1:9", mode=pb.MODE_L7, tls_cert="/c.pem", tls_key="/k.pem"
    )
    answer = call(control, "AddRoute", pb.AddRouteRequest(route=l7))
    assert list(answer.warnings) == ["its certificate expires in 3 days"]
    control.plane.fail["check_route"] = RouteRefused("tls_cert", "c.pem: is for another name")
    code, words = refused(control, "UpdateRoute", pb.UpdateRouteRequest(route=l7))
    assert (code, words) == (grpc.StatusCode.INVALID_ARGUMENT, "route.tls_cert: c.pem: is for another name")
    control.plane.fail["check_route"] = ValueError("nobody foresaw this: it names no field")
    code, words = refused(control, "AddRoute", pb.AddRouteRequest(route=l7))
    assert (code, words) == (grpc.StatusCode.INTERNAL, "a bug in mcproxy: its log has the details")


def test_rules(control: Control) -> None:
    request = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="203.0.113.9", ttl_seconds=60, kill=True)
    before = control.writer.clock()
    answer = call(control, "AddFirewallRule", request)
    assert (answer.generation, answer.killed, answer.rule.value) == (2, 3, "203.0.113.9")
    assert before + 60 <= answer.rule.expires_at <= control.writer.clock() + 60
    request = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_COUNTRY, value="de")
    assert call(control, "AddFirewallRule", request).killed == 0
    removal = pb.RemoveFirewallRuleRequest(kind=pb.RULE_KIND_COUNTRY, value="DE")
    assert call(control, "RemoveFirewallRule", removal).generation == 4


def test_a_rule_that_exists_still_kills(control: Control) -> None:
    request = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.1", ttl_seconds=60, kill=True)
    answer = call(control, "AddFirewallRule", request)
    assert (answer.generation, answer.killed, answer.rule.value, answer.rule.expires_at) == (1, 3, "192.0.2.1", 0.0)


GIT = pb.Route(hostname="git.example.org", backend="127.0.0.1:3000")
L7 = pb.Route(
    hostname="l7.example.org", backend="127.0.0.1:9", mode=pb.MODE_L7, tls_cert="/c.pem", tls_key="/k.pem",
    backend_tls=True, backend_server_name="b.example.org", send_proxy_protocol=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("AddRoute", pb.AddRouteRequest(route=GIT)),
        ("UpdateRoute", pb.UpdateRouteRequest(route=GIT)),
        ("UpdateRoute", pb.UpdateRouteRequest(route=GIT, update_mask=FieldMask(paths=["backend"]))),
        ("AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=":443"))),
        ("UpdateListener", pb.UpdateListenerRequest(listener=pb.Listener(addr=":443"))),
        ("AddFirewallRule", pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.1")),
    ],
)
def test_what_is_so_already_is_no_new_generation(control: Control, method: str, request_: Any) -> None:
    answer = call(control, method, request_)
    assert answer.generation == 1
    assert answer.HasField("effect")
    assert not answer.effect.changes


def test_an_update_with_a_mask_changes_what_it_names(control: Control) -> None:
    call(control, "AddRoute", pb.AddRouteRequest(route=L7))
    wanted = pb.Route(hostname="L7.example.org", backend="127.0.0.1:10", tls_cert="ignored")
    mask = FieldMask(paths=["backend", "backend_server_name", "send_proxy_protocol"])
    answer = call(control, "UpdateRoute", pb.UpdateRouteRequest(route=wanted, update_mask=mask))
    assert answer.generation == 3
    route = convert.route_out(control.writer.table.listeners[":443"].routes["l7.example.org"])
    kept = convert.route_out(convert.route(L7))
    kept.backend, kept.backend_server_name, kept.send_proxy_protocol = "127.0.0.1:10", "", False
    assert route == kept
    assert control.plane.calls[-2:] == [("check_route", ":443", "l7.example.org"), ("publish", 3)]


def test_a_mask_without_the_mode_keeps_it_and_without_mask_it_is_l4(control: Control) -> None:
    """`routes add --replace` turned l7 routes into l4 while a backend was down."""
    call(control, "AddRoute", pb.AddRouteRequest(route=L7))
    bare = pb.Route(hostname="l7.example.org", backend="127.0.0.1:10")
    request = pb.UpdateRouteRequest(route=bare, update_mask=FieldMask(paths=["backend"]))
    call(control, "UpdateRoute", request)
    assert control.writer.table.listeners[":443"].routes["l7.example.org"].mode == "l7"
    answer = call(control, "UpdateRoute", pb.UpdateRouteRequest(route=bare, dry_run=True))
    assert list(answer.effect.risks) == ["the route l7.example.org on :443 changes from l7 to l4"]
    assert json.loads(answer.effect.changes[0].old_json)["mode"] == "l7"
    assert answer.generation == 3
    assert call(control, "UpdateRoute", pb.UpdateRouteRequest(route=bare)).generation == 4
    assert control.writer.table.listeners[":443"].routes["l7.example.org"].mode == "l4"


def test_a_mode_that_is_named_is_no_slip(control: Control) -> None:
    request = pb.UpdateRouteRequest(
        route=pb.Route(hostname="git.example.org", mode=pb.MODE_L7, tls_cert="/c.pem", tls_key="/k.pem"),
        update_mask=FieldMask(paths=["mode", "tls_cert", "tls_key"]),
        dry_run=True,
    )
    assert not call(control, "UpdateRoute", request).effect.risks


def test_a_listener_changes_by_a_mask_too(control: Control) -> None:
    listener = pb.Listener(addr=":443", proxy_protocol=True, trusted_proxies=["10.0.0.0/8"], max_connections=5)
    call(control, "UpdateListener", pb.UpdateListenerRequest(listener=listener))
    mask = FieldMask(paths=["max_connections"])
    call(control, "UpdateListener", pb.UpdateListenerRequest(listener=pb.Listener(addr=":443"), update_mask=mask))
    assert control.writer.table.listeners[":443"].listener == Listener(":443", True, ("10.0.0.0/8",), 0)


@pytest.mark.parametrize(
    ("method", "request_", "status", "words"),
    [
        (
            "UpdateRoute",
            pb.UpdateRouteRequest(route=GIT, update_mask=FieldMask(paths=["backend", "colour"])),
            "INVALID_ARGUMENT",
            'update_mask: "colour" is not a field that can be changed: those are backend, mode,',
        ),
        (
            "UpdateRoute",
            pb.UpdateRouteRequest(route=GIT, update_mask=FieldMask(paths=["hostname"])),
            "INVALID_ARGUMENT",
            "update_mask: hostname identifies the value",
        ),
        (
            "UpdateRoute",
            pb.UpdateRouteRequest(route=NEW, update_mask=FieldMask(paths=["backend"])),
            "NOT_FOUND",
            "there is no route new.example.org on :443",
        ),
        (
            "UpdateRoute",
            pb.UpdateRouteRequest(
                route=pb.Route(hostname="git.example.org", mode=pb.MODE_L7), update_mask=FieldMask(paths=["mode"])
            ),
            "INVALID_ARGUMENT",
            'route: mode = "l7" terminates TLS, so it needs tls_cert and tls_key, or tls = "acme"',
        ),
        (
            "UpdateRoute",
            pb.UpdateRouteRequest(route=pb.Route(hostname="git.example.org"), update_mask=FieldMask(paths=["backend"])),
            "INVALID_ARGUMENT",
            "route.backend: ",
        ),
        (
            "UpdateListener",
            pb.UpdateListenerRequest(listener=pb.Listener(addr=":443"), update_mask=FieldMask(paths=["routes"])),
            "INVALID_ARGUMENT",
            'update_mask: "routes" is not a field',
        ),
        (
            "UpdateListener",
            pb.UpdateListenerRequest(update_mask=FieldMask(paths=["max_connections"])),
            "INVALID_ARGUMENT",
            "listener.addr: is required",
        ),
        ("AddRoute", pb.AddRouteRequest(route=NEW, comment="x" * 501), "INVALID_ARGUMENT", "comment: has 501"),
        (
            "AddFirewallRule",
            pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="1.1.1.1", own_ip="here", dry_run=True),
            "INVALID_ARGUMENT",
            "own_ip: ",
        ),
    ],
)
def test_what_a_mutation_says_is_checked(control: Control, method: str, request_: Any, status: str, words: str) -> None:
    code, told = refused(control, method, request_)
    assert (code, told[: len(words)]) == (grpc.StatusCode[status], words)


@pytest.mark.parametrize(
    ("method", "request_", "changed", "risk"),
    [
        ("AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=":8443")), 1, ""),
        ("UpdateListener", pb.UpdateListenerRequest(listener=pb.Listener(addr=":443", max_connections=5)), 1, ""),
        ("RemoveListener", pb.RemoveListenerRequest(addr=":443"), 3, "removing :443 removes 2 routes: git"),
        ("AddRoute", pb.AddRouteRequest(route=NEW), 1, ""),
        ("UpdateRoute", pb.UpdateRouteRequest(route=pb.Route(hostname="git.example.org", backend="a:1")), 1, ""),
        ("RemoveRoute", pb.RemoveRouteRequest(hostname="git.example.org"), 1, ""),
        (
            "AddFirewallRule",
            pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_CIDR, value="0.0.0.0/0", own_ip="192.0.2.200", kill=True),
            1,
            "it blocks 192.0.2.200, your own address",
        ),
        ("RemoveFirewallRule", pb.RemoveFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.1"), 1, ""),
        ("Rollback", pb.RollbackRequest(generation=0), 5, "it changes 5 values"),
    ],
)
def test_a_dry_run_says_what_would_change_and_changes_nothing(
    control: Control, method: str, request_: Any, changed: int, risk: str
) -> None:
    before = control.writer.table
    asked = type(request_)()
    asked.CopyFrom(request_)
    asked.dry_run = True
    answer = call(control, method, asked)
    assert (answer.generation, len(answer.effect.changes)) == (1, changed)
    assert "".join(answer.effect.risks[:1]).startswith(risk)
    assert bool(answer.effect.risks) is bool(risk)
    assert control.writer.table is before
    assert {name for name, *_ in control.plane.calls} <= {"check_route", "status"}
    done = call(control, method, request_)
    assert (done.generation, list(done.effect.changes)) == (2, list(answer.effect.changes))
    assert not done.effect.risks, "there is nothing left to agree to"


def test_an_effect_is_shown_in_part_where_it_is_large(control: Control) -> None:
    kind = pb.RULE_KIND_IP
    rules = [FirewallRule(RuleKind.IP, f"10.0.{i // 250}.{i % 250}") for i in range(convert.MAX_CHANGES)]
    changes = [Change(rule_key("ip", rule.value), None, rule) for rule in rules]
    control.writer.mutate("test", "test", lambda _table, _now: changes)
    call(control, "AddFirewallRule", pb.AddFirewallRuleRequest(kind=kind, value="192.0.2.9"))
    answer = call(control, "Rollback", pb.RollbackRequest(generation=1, dry_run=True))
    assert (answer.changes, len(answer.effect.changes)) == (convert.MAX_CHANGES + 1, convert.MAX_CHANGES)
    assert answer.effect.truncated


def test_a_country_needs_a_database(control: Control) -> None:
    control.plane.geoip = GeoipStatus()
    request = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_COUNTRY, value="DE")
    code, words = refused(control, "AddFirewallRule", request)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "firewall.geoip_db" in words


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        (
            "AddRoute",
            pb.AddRouteRequest(route=pb.Route(hostname="git.example.org", backend="1.1.1.1:1")),
            "ALREADY_EXISTS",
        ),
        ("UpdateRoute", pb.UpdateRouteRequest(route=NEW), "NOT_FOUND"),
        ("RemoveRoute", pb.RemoveRouteRequest(hostname="new.example.org"), "NOT_FOUND"),
        ("AddRoute", pb.AddRouteRequest(listener=":1", route=NEW), "NOT_FOUND"),
        ("AddRoute", pb.AddRouteRequest(), "INVALID_ARGUMENT"),
        ("RemoveRoute", pb.RemoveRouteRequest(), "INVALID_ARGUMENT"),
        ("AddListener", pb.AddListenerRequest(), "INVALID_ARGUMENT"),
        ("AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=":443", max_connections=1)), "ALREADY_EXISTS"),
        ("RemoveListener", pb.RemoveListenerRequest(), "INVALID_ARGUMENT"),
        ("RemoveListener", pb.RemoveListenerRequest(addr=":1"), "NOT_FOUND"),
        (
            "AddFirewallRule",
            pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.1", ttl_seconds=60),
            "ALREADY_EXISTS",
        ),
        ("AddFirewallRule", pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="x"), "INVALID_ARGUMENT"),
        ("RemoveFirewallRule", pb.RemoveFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.9"), "NOT_FOUND"),
        ("Rollback", pb.RollbackRequest(generation=1), "INVALID_ARGUMENT"),
        ("CloseConnection", pb.CloseConnectionRequest(id=5), "NOT_FOUND"),
        ("SetLogLevel", pb.SetLogLevelRequest(level="loud"), "INVALID_ARGUMENT"),
    ],
)
def test_refusals(control: Control, method: str, request_: Any, code: str) -> None:
    assert refused(control, method, request_)[0] is grpc.StatusCode[code]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("AddRoute", pb.AddRouteRequest(route=NEW, expected_generation=7)),
        ("AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=":1"), expected_generation=7)),
        ("UpdateListener", pb.UpdateListenerRequest(listener=pb.Listener(addr=":443"), expected_generation=7)),
        ("RemoveListener", pb.RemoveListenerRequest(addr=":443", expected_generation=7)),
        ("UpdateRoute", pb.UpdateRouteRequest(route=NEW, expected_generation=7)),
        ("RemoveRoute", pb.RemoveRouteRequest(hostname="git.example.org", expected_generation=7)),
        ("AddFirewallRule", pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="10.1.1.1", expected_generation=7)),
        (
            "RemoveFirewallRule",
            pb.RemoveFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.1", expected_generation=7),
        ),
        ("Rollback", pb.RollbackRequest(generation=0, expected_generation=7)),
    ],
)
def test_every_mutation_can_expect_a_generation(control: Control, method: str, request_: Any) -> None:
    code, words = refused(control, method, request_)
    assert code is grpc.StatusCode.ABORTED
    assert "the generation is 1, not 7" in words


def test_an_address_in_use(control: Control) -> None:
    control.plane.fail["bind_listener"] = OSError(98, "Address already in use")
    code, words = refused(control, "AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=":1")))
    assert (code, words) == (grpc.StatusCode.FAILED_PRECONDITION, "can't listen on :1: another program listens there")


def test_a_hub_that_does_not_answer(control: Control) -> None:
    control.plane.fail["bind_listener"] = PlaneBusy("the data plane didn't answer in 5 s")
    request = pb.AddListenerRequest(listener=pb.Listener(addr=":1"))
    assert refused(control, "AddListener", request)[0] is grpc.StatusCode.UNAVAILABLE


def test_back_and_back_again(control: Control) -> None:
    before = table_values(control.writer.table)
    call(control, "AddRoute", pb.AddRouteRequest(route=NEW))
    call(control, "AddListener", pb.AddListenerRequest(listener=pb.Listener(addr=":8443")))
    after = table_values(control.writer.table)
    back = call(control, "Rollback", pb.RollbackRequest(generation=1))
    assert (back.generation, back.changes) == (4, 2)
    assert table_values(control.writer.table) == before
    assert control.plane.accepting == {":443"}
    call(control, "Rollback", pb.RollbackRequest(generation=3))
    assert table_values(control.writer.table) == after
    assert control.plane.accepting == {":443", ":8443"}
    assert {r.action for r in history.revisions(control.writer.store, 4)} == {"rollback 1", "rollback 3"}
