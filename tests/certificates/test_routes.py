"""The judgement of routes' files: when one is added, when many are, and in the status."""

from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from mcproxy.certificates.acme.order import Kept, Order, State
from mcproxy.certificates.judge import known
from mcproxy.certificates.pem import Certificate, read_pair
from mcproxy.certificates.routes import (
    RouteRefused,
    check_route,
    check_routes,
    listed,
    listed_order,
    order_problem,
    order_problems,
    serving_order,
    state_of_files,
)
from mcproxy.model import Backend, FirewallRule, Listener, Mode, Reason, Route, RuleKind, Tls
from mcproxy.policy.firewall import Firewall
from mcproxy.table import Table
from tests.kit.peers import Authority


def test_the_files_of_a_route_are_judged(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("nothing of use")
    route = Route("a.b", Backend("127.0.0.1", 1), Mode.L7, str(tmp_path / "c.pem"), str(tmp_path / "c.pem"))
    with pytest.raises(RouteRefused, match=r"c\.pem holds no certificate chain") as caught:
        check_route(Table.build([(Listener(":443"), [])]), ":443", route)
    assert caught.value.key == "tls_cert"
    assert caught.value.message.startswith(str(tmp_path / "c.pem"))


def test_a_route_is_told_of_certificates_that_cover_it_and_of_what_its_own_covers(
    tmp_path: Path,
) -> None:
    pair = str(tmp_path / "ab.pem")
    trustme.CA().issue_cert("a.test", "b.test").private_key_and_cert_chain_pem.write_to_path(pair)
    table = Table.build([(Listener(":443"), [Route("a.test", Backend("127.0.0.1", 1), Mode.L7, pair, pair)])])
    (told,) = check_route(table, ":443", Route("b.test", Backend("127.0.0.1", 1)))
    assert f"{pair}, the certificate of a.test, also covers b.test:" in told
    both = check_route(table, ":443", Route("b.test", Backend("127.0.0.1", 1), Mode.L7, pair, pair))
    assert sorted(each.partition(":")[0] for each in both) == [
        f"{pair}, the certificate of a.test, also covers b.test",
        f"{pair}, the certificate of b.test, also covers a.test",
    ]
    assert not check_route(table, ":443", Route("c.test", Backend("127.0.0.1", 1)))


def test_of_many_routes_only_what_is_new_is_told(tmp_path: Path) -> None:
    pair, broken = str(tmp_path / "ab.pem"), str(tmp_path / "broken.pem")
    trustme.CA().issue_cert("a.test", "b.test").private_key_and_cert_chain_pem.write_to_path(pair)
    (tmp_path / "broken.pem").write_text("nothing of use")

    def l7(hostname: str, path: str = pair) -> Route:
        return Route(hostname, Backend("127.0.0.1", 1), Mode.L7, path, path)

    old = [l7("a.test"), l7("old.test", broken)]
    before = Table.build([(Listener(":443"), old)])
    after = Table.build([(Listener(":443"), [*old, l7("b.test")]), (Listener(":444"), [l7("x.test", broken)])])
    problems, warnings = check_routes(before, after, [(":443", "b.test"), (":444", "x.test")])
    assert [(each.listener, each.hostname, each.key) for each in problems] == [(":444", "x.test", "tls_cert")]
    assert sorted(each.partition(":")[0] for each in warnings) == [
        f"{pair}, the certificate of a.test, also covers b.test",
        f"{pair}, the certificate of b.test, also covers a.test",
    ]
    assert check_routes(after, after, [(":443", "b.test")]) == ([], [])


def test_what_is_wrong_with_the_files_of_routes(authority: Authority, tmp_path: Path) -> None:
    certificate, key = map(str, authority.pair("a.test"))
    backend, absent = Backend("127.0.0.1", 1), str(tmp_path / "absent")
    routes = [
        Route("a.test", backend, Mode.L7, certificate, key),
        Route("b.test", backend, Mode.L7, certificate, key),
        Route("a.b.test", backend, Mode.L7, certificate, absent, backend_tls=True, backend_ca=absent),
    ]
    table = Table.build([(Listener(":443"), routes)])
    certificates, found = state_of_files(table)
    assert [each.not_after > 0 for each in certificates] == [True, True, False]
    assert [(each.hostname, each.key) for each in found] == [
        ("b.test", "tls_cert"), ("a.b.test", "tls_key"), ("a.b.test", "backend_ca"),
    ]  # fmt: skip
    assert "absent can't be read: No such file or directory; check its path" in found[2].message
    route = Route(
        "a.test", Backend("127.0.0.1", 1), Mode.L7, certificate, key, backend_tls=True, backend_ca=str(tmp_path / "no")
    )
    with pytest.raises(
        RouteRefused, match=r"^backend_ca: .*no can't be read: No such file or directory; check its path"
    ):
        check_route(table, ":443", route)


def test_a_certificate_is_listed_as_it_is_in_use(authority: Authority, tmp_path: Path) -> None:
    certificate, key = map(str, authority.pair("a.test"))
    route = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, certificate, key)
    found = listed(route, None)
    assert (found.source, found.path, found.names, found.problem) == ("files", certificate, ("a.test",), "")
    assert found.issuer.startswith("trustme"), "the issuer's organisation"
    assert found.not_before < found.not_after
    gone = replace(route, tls_cert=str(tmp_path / "absent.pem"))
    assert listed(gone, None).problem.startswith(f"{tmp_path}/absent.pem can't be read")
    held = known(route)
    assert isinstance(held, Certificate)
    pair = read_pair(certificate, key)
    for kept in (listed(gone, held), listed(gone, None, pair)):
        assert replace(kept, problem="") == found, "what is loaded stays in use, and what is in reserve"
        assert kept.problem.endswith("check its path; the certificate that was loaded stays in use"), "as the status"
    assert listed(route, None, replace(pair, chain=b"")) == found, "the files are read first"
    assert listed(gone, None, replace(pair, key=pair.chain)) == listed(gone, None), "what can't be used doesn't count"
    assert "not for b.test" in listed(replace(route, hostname="b.test"), None).problem


ACME = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, tls=Tls.ACME)
FAILED = Order("a.test", next_at=4e9, failures=2, failure="no route (connection)")


def test_an_order_is_a_problem_where_it_does_not_get_on(authority: Authority) -> None:
    certificate, key = map(str, authority.pair("a.test"))
    held = known(replace(ACME, tls=Tls.FILES, tls_cert=certificate, tls_key=key))
    assert isinstance(held, Certificate)
    failed = order_problem(":443", ACME, Kept(FAILED, certificate=held))
    assert failed is not None
    assert failed.message.startswith("the certificate is not renewed: its order failed, try 2, next one at ")
    paused = Kept(Order("a.test"), certificate=held, obstacle="the CA is away")
    assert listed_order(ACME, paused).failure == "the CA is away"
    stuck = order_problem(":443", ACME, paused)
    assert stuck is not None
    assert stuck.message == "the certificate is not renewed: the CA is away"
    assert "not renewed: the CA is away" in serving_order(ACME, paused, Firewall(), trusted=True).notes[0]
    waiting = replace(paused, order=Order("a.test", next_at=4e9))
    assert order_problem(":443", ACME, waiting) is None, "it is renewed in time"
    assert listed_order(ACME, waiting).failure == ""
    halted = replace(waiting, order=FAILED, is_general=True, is_halted=True)
    listed_halted = listed_order(ACME, halted)
    assert (listed_halted.failures, listed_halted.next_at) == (0, 0.0), "no try comes next"
    assert listed_halted.failure == "the CA is away; the last order failed: no route (connection)"
    under_way = Kept(replace(FAILED, state=State.ISSUING), certificate=held)
    assert order_problem(":443", ACME, under_way) is None, "which may end it"
    assert order_problem(":443", ACME, Kept(Order("a.test"), certificate=held)) is None


def test_a_ca_that_is_away_is_one_problem_while_no_order_is_due(authority: Authority) -> None:
    """Each certificate was said not to be renewed, though that was years away."""
    certificate, key = map(str, authority.pair("a.test"))
    held = known(replace(ACME, tls=Tls.FILES, tls_cert=certificate, tls_key=key))
    assert isinstance(held, Certificate)
    waiting = Kept(Order("a.test", next_at=4e9), None, held, None, "the CA is away", is_general=True)
    others = [(":443", ACME, waiting)] * 3
    (found,) = order_problems(others)
    assert found.message == "no certificate from ACME can be renewed now, and none is due: the CA is away"
    due = (":443", ACME, replace(waiting, order=Order("a.test")))
    (found,) = order_problems([*others, due])
    assert found.message == "the certificate is not renewed: the CA is away"
    spent = replace(waiting, is_general=False)
    assert order_problems([(":443", ACME, spent), (":443", ACME, None)])[1:] == []


def test_an_explanation_names_once_what_may_keep_the_ca_out() -> None:
    firewall = Firewall.compile([FirewallRule(RuleKind.CIDR, "0.0.0.0/1")])
    words = "the firewall blocks 0.0.0.0/1, and a CA validates from several countries and networks"
    for order in (Order("a.test"), FAILED, replace(FAILED, failure=f"{FAILED.failure}; {words}")):
        found = serving_order(ACME, Kept(order), firewall, trusted=True)
        assert (found.reason, found.refusal.count(words)) == (Reason.CERTIFICATE_PENDING, 1)
    assert words not in serving_order(ACME, Kept(FAILED), Firewall(), trusted=True).refusal
