from dataclasses import replace

import pytest

from mcproxy.admin.explain import explain, firewall_steps
from mcproxy.certificates.routes import Serving
from mcproxy.messages import Step
from mcproxy.model import Backend, BackendProtocol, FirewallRule, Listener, Mode, Reason, Route, RuleKind
from mcproxy.policy.networks import pack
from mcproxy.stats import Spoken
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED, FakePlane

L7 = Route("l7.example.org", Backend(path="/run/a.sock"), Mode.L7, "/c.pem", "/k.pem", True, send_proxy_protocol=True)
TABLE = Table.build(
    [(SEED[0][0], [*SEED[0][1], L7]), (Listener(":8443", True, ("10.0.0.0/8",)), [])],
    [*RULES, FirewallRule(RuleKind.COUNTRY, "DE", 5000.0)],
    3,
)
NAMES = ["listener", "connection limits", "firewall ip", "firewall cidr", "firewall country", "address limits", "name",
         "route", "backend", "mode"]  # fmt: skip


def asked(
    sni: str = "git.example.org", ip: str = "203.0.113.1", listener: str = ":443", **plane: object
) -> tuple[Reason, list[str]]:
    fake = FakePlane(countries={"203.0.113.9": "DE"}, **plane)  # type: ignore[arg-type]
    found = explain(TABLE, fake, listener, sni, pack(ip))
    assert [step.passed for step in found.steps[:-1]] == [True] * (len(found.steps) - 1)
    assert found.steps[-1].passed is (found.reason is Reason.OK and not fake.serving.failure)
    assert (found.route is not None) is (found.reason is Reason.OK)
    return found.reason, [f"{step.name}: {step.detail}" for step in found.steps]


def test_every_step_of_a_connection_that_is_routed() -> None:
    reason, steps = asked("GIT.example.org.")
    assert reason is Reason.OK
    assert [step.partition(":")[0] for step in steps] == NAMES
    assert steps[0] == "listener: :443, 3 routes, generation 3"
    assert "firewall country: unknown country matches none of 1 rule" in steps
    assert "name: GIT.example.org. is taken as git.example.org" in steps
    assert steps[-2:] == ["backend: 127.0.0.1:3000", "mode: l4: passed untouched"]


def test_an_l7_route_says_how_it_ends_tls() -> None:
    _, steps = asked("l7.example.org")
    assert steps[-5:] == [
        "backend: unix:/run/a.sock, over TLS, with a PROXY v2 header",
        "mode: l7: TLS ends here, with /c.pem",
        "certificate: /c.pem can be served",
        "backend CA: verified by the CAs of this system",
        "backend HTTP: not found out yet: the first request does, or --dial",
    ]


def test_what_a_backend_was_found_to_speak_is_told_without_a_dial() -> None:
    _, steps = asked("l7.example.org", found=Spoken("http/1.1", "answered 400 to HTTP/2's preface", 5.0))
    assert steps[-1] == "backend HTTP: HTTP/1.1 (answered 400 to HTTP/2's preface), found 1970-01-01 00:00:05Z"
    fixed = replace(L7, backend_protocol=BackendProtocol.H2)
    table = Table.build([(SEED[0][0], [fixed])], [], 3)
    found = explain(table, FakePlane(), ":443", "l7.example.org", pack("203.0.113.1"))
    assert found.steps[-1] == Step("backend HTTP", True, "HTTP/2, as backend_protocol says")


def test_an_l7_route_whose_certificate_can_not_be_served_is_refused() -> None:
    reason, steps = asked("l7.example.org", serving=Serving("/c.pem can't be read"))
    assert reason is Reason.CERTIFICATE_UNUSABLE
    assert steps[-1] == "certificate: /c.pem can't be read"


def test_what_lets_clients_in_and_serves_them_badly_is_told() -> None:
    reason, steps = asked("l7.example.org", serving=Serving("", ["changed", "reload"], (), "/ca.pem is empty"))
    assert reason is Reason.OK
    assert steps[-2:] == [
        "certificate: changed; reload",
        "backend CA: requests will be answered 502: /ca.pem is empty",
    ]


def test_a_certificate_that_clients_will_not_accept_does_not_pass() -> None:
    fake = FakePlane(serving=Serving("", ["changed"], ["/c.pem expired", "/c.pem is for a.test"]))
    found = explain(TABLE, fake, ":443", "l7.example.org", pack("203.0.113.1"))
    assert found.reason is Reason.OK
    (failed,) = [step for step in found.steps if not step.passed]
    assert failed.name == "certificate"
    assert failed.detail == (
        "changed; clients will refuse it: /c.pem expired; clients will refuse it: /c.pem is for a.test"
    )


@pytest.mark.parametrize(
    ("arguments", "reason", "last"),
    [
        ({"enter": Reason.LIMIT_TOTAL}, Reason.LIMIT_TOTAL, "connection limits: limit_total in all and on :443"),
        ({"ip": "192.0.2.1"}, Reason.BLOCKED_IP, "firewall ip: 192.0.2.1 is blocked by 192.0.2.1"),
        ({"ip": "::ffff:192.0.2.1"}, Reason.BLOCKED_IP, "firewall ip: 192.0.2.1 is blocked by 192.0.2.1"),
        ({"ip": "198.51.100.7"}, Reason.BLOCKED_CIDR, "firewall cidr: 198.51.100.7 is blocked by 198.51.100.0/24"),
        (
            {"ip": "203.0.113.9"},
            Reason.BLOCKED_COUNTRY,
            "firewall country: DE is blocked by DE until 1970-01-01 01:23:20Z",
        ),
        ({"admit": Reason.RATE_PER_IP}, Reason.RATE_PER_IP, "address limits: rate_per_ip for 203.0.113.1"),
        ({"sni": ""}, Reason.SNI_MISSING, "name: the client sends no server name"),
        ({"sni": "192.0.2.1"}, Reason.SNI_IP_LITERAL, "name: "),
        ({"sni": "a b"}, Reason.SNI_INVALID, "name: "),
        ({"sni": "no.example.org"}, Reason.ROUTE_UNKNOWN, "route: no route for no.example.org on this listener"),
        ({"listener": ":8443"}, Reason.ROUTE_UNKNOWN, "route: no route for git.example.org on this listener"),
    ],
)
def test_the_step_that_refuses_is_the_last(arguments: dict[str, object], reason: Reason, last: str) -> None:
    found, steps = asked(**arguments)  # type: ignore[arg-type]
    assert found is reason
    assert steps[-1].startswith(last)


def test_the_firewall_comes_before_any_look_at_names() -> None:
    _, steps = asked(sni="no such name", ip="192.0.2.1")
    assert not [step for step in steps if step.startswith(("name", "route"))]


def test_the_firewall_alone() -> None:
    steps, reason = firewall_steps(TABLE, lambda _packed: None, pack("203.0.113.1"))
    assert (len(steps), reason) == (3, Reason.OK)
    steps, reason = firewall_steps(TABLE, lambda _packed: None, pack("198.51.100.1"))
    assert (len(steps), reason) == (2, Reason.BLOCKED_CIDR)


def test_a_certificate_that_is_ordered_has_a_reason_of_its_own() -> None:
    pending = Serving("there is no certificate for it yet: its order is validating", reason=Reason.CERTIFICATE_PENDING)
    reason, steps = asked("l7.example.org", serving=pending)
    assert reason is Reason.CERTIFICATE_PENDING
    assert steps[-1].endswith("its order is validating")
