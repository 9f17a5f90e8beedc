"""The worker as the control plane asks for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from mcproxy.admin.plane import (
    ConnectionEvent,
    DataPlane,
    EventKind,
    PlaneBusy,
    PlaneStopping,
    RouteRefused,
    Serving,
    State,
)
from mcproxy.certificates.contexts import Contexts
from mcproxy.desk import HubPlane
from mcproxy.model import Backend, Connection, End, FirewallRule, Listener, Mode, Reason, Route, RuleKind
from mcproxy.table import Table
from tests.conftest import MakeProxy, listener
from tests.peers import Authority

CONNECTION = Connection(
    7, 1000.0, 2.5, ":443", ("2001:db8::1", 5), "a.b", (), (), False, "a.b", "l4", Backend("127.0.0.1", 1),
    Reason.OK, "", 10, 20, End.CLOSED,
)  # fmt: skip


class StuckDoor:
    """A hub that never answers."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        raise TimeoutError

    send = call


def test_the_hub_is_what_admin_asks_for(proxy: MakeProxy) -> None:
    plane: DataPlane = proxy({"listeners": [listener({})]}).app.plane  # mypy compares the signatures
    assert plane.status().state is State.SERVING
    plane.set_log_level("debug")
    assert plane.status().log_level == "debug"
    plane.set_log_level("notset")
    assert plane.connections(0, 10) == []
    assert plane.route_counters() == []
    assert plane.country(b"\x7f\0\0\1") is None
    assert plane.would_enter(":443", 0) is None
    assert plane.would_admit(b"\x7f\0\0\1") is None
    assert plane.close_connections([1]) == []
    assert plane.kill_matching(FirewallRule(RuleKind.IP, "127.0.0.1")) == 0
    with pytest.raises(ValueError, match="there is no firewall"):
        plane.reload_geoip()


def test_a_listener_is_bound_before_it_accepts(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({})]})
    plane = running.app.plane
    plane.bind_listener(Listener("[::1]:0"))
    assert "[::1]:0" in running.app.worker.addresses
    assert "[::1]:0" not in running.app.worker.accepting
    with pytest.raises(OSError, match="in use"):
        plane.bind_listener(Listener("[::1]:0"))
    plane.start_listener("[::1]:0")
    assert "[::1]:0" in running.app.worker.accepting
    plane.close_listener("[::1]:0")
    plane.close_listener("[::1]:0")
    assert "[::1]:0" not in running.app.worker.addresses


def test_a_server_that_stops_opens_nothing(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({})]})
    plane = running.app.plane
    plane.bind_listener(Listener("[::1]:0"))
    plane.state = State.DRAINING
    with pytest.raises(PlaneStopping, match="the server is stopping"):
        plane.bind_listener(Listener("127.0.0.2:0"))
    with pytest.raises(PlaneStopping, match="the server is stopping"):
        plane.start_listener("[::1]:0")
    assert "127.0.0.2:0" not in running.app.worker.addresses


def test_the_files_of_a_route_are_judged(proxy: MakeProxy, tmp_path: Path) -> None:
    plane = proxy({"listeners": [listener({})]}).app.plane
    (tmp_path / "c.pem").write_text("nothing of use")
    route = Route("a.b", Backend("127.0.0.1", 1), Mode.L7, str(tmp_path / "c.pem"), str(tmp_path / "c.pem"))
    with pytest.raises(RouteRefused, match=r"c\.pem holds no certificate chain") as caught:
        plane.check_route(":443", route)
    assert caught.value.key == "tls_cert"
    assert caught.value.message.startswith(str(tmp_path / "c.pem"))


def test_a_route_is_told_of_certificates_that_cover_it_and_of_what_its_own_covers(
    proxy: MakeProxy, tmp_path: Path
) -> None:
    pair = str(tmp_path / "ab.pem")
    trustme.CA().issue_cert("a.test", "b.test").private_key_and_cert_chain_pem.write_to_path(pair)
    a_route = {"hostname": "a.test", "backend": "127.0.0.1:1", "mode": "l7", "tls_cert": pair, "tls_key": pair}
    running = proxy({"listeners": [{**listener({}), "routes": [a_route]}]})
    (addr,) = running.app.worker.shared.live.table.listeners
    (told,) = running.app.plane.check_route(addr, Route("b.test", Backend("127.0.0.1", 1)))
    assert f"{pair}, the certificate of a.test, also covers b.test:" in told
    both = running.app.plane.check_route(addr, Route("b.test", Backend("127.0.0.1", 1), Mode.L7, pair, pair))
    assert sorted(each.partition(":")[0] for each in both) == [
        f"{pair}, the certificate of a.test, also covers b.test",
        f"{pair}, the certificate of b.test, also covers a.test",
    ]
    assert not running.app.plane.check_route(addr, Route("c.test", Backend("127.0.0.1", 1)))


def test_of_many_routes_only_what_is_new_is_told(proxy: MakeProxy, tmp_path: Path) -> None:
    pair, broken = str(tmp_path / "ab.pem"), str(tmp_path / "broken.pem")
    trustme.CA().issue_cert("a.test", "b.test").private_key_and_cert_chain_pem.write_to_path(pair)
    (tmp_path / "broken.pem").write_text("nothing of use")
    plane = proxy({"listeners": [listener({})]}).app.plane

    def l7(hostname: str, path: str = pair) -> Route:
        return Route(hostname, Backend("127.0.0.1", 1), Mode.L7, path, path)

    old = [l7("a.test"), l7("old.test", broken)]
    before = Table.build([(Listener(":443"), old)])
    after = Table.build([(Listener(":443"), [*old, l7("b.test")]), (Listener(":444"), [l7("x.test", broken)])])
    problems, warnings = plane.check_routes(before, after, [(":443", "b.test"), (":444", "x.test")])
    assert [(each.listener, each.hostname, each.key) for each in problems] == [(":444", "x.test", "tls_cert")]
    assert sorted(each.partition(":")[0] for each in warnings) == [
        f"{pair}, the certificate of a.test, also covers b.test",
        f"{pair}, the certificate of b.test, also covers a.test",
    ]
    assert plane.check_routes(after, after, [(":443", "b.test")]) == ([], [])


def test_what_is_wrong_with_the_files_of_routes(proxy: MakeProxy, authority: Authority, tmp_path: Path) -> None:
    certificate, key = map(str, authority.pair("a.test"))
    files = {"backend": "127.0.0.1:1", "mode": "l7", "tls_cert": certificate, "tls_key": key}
    routes = [
        {**files, "hostname": "a.test"},
        {**files, "hostname": "b.test"},
        {**files, "hostname": "a.b.test", "tls_key": "absent", "backend_tls": True, "backend_ca": "absent"},
    ]
    plane = proxy({"listeners": [{**listener({}), "routes": routes}]}).app.plane
    status = plane.status()
    assert [each.not_after > 0 for each in status.certificates] == [True, True, False]
    found = status.problems
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
        plane.check_route(":443", route)


def test_whether_a_route_would_be_served(proxy: MakeProxy, authority: Authority, tmp_path: Path) -> None:
    app = proxy({"listeners": [listener({})]}).app
    chain, key = tmp_path / "c.pem", tmp_path / "c.key"
    route = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, str(chain), str(key), True, str(tmp_path / "ca.pem"))

    def issue(*names: str) -> None:
        issued = trustme.CA().issue_cert(*names)
        issued.cert_chain_pems[0].write_to_path(chain)
        issued.private_key_pem.write_to_path(key)

    assert "c.pem can't be read: No such file" in app.plane.would_serve(":443", route).refusal
    issue("b.test")
    serving = app.plane.would_serve(":443", route)
    assert (serving.refusal, serving.notes, len(serving.rejections)) == ("", [], 1)
    assert serving.rejections[0].startswith(f"{chain} is for b.test, not for a.test")
    assert "ca.pem can't be read: No such file" in serving.failure
    issue("a.test")
    (tmp_path / "ca.pem").write_bytes(authority.path.read_bytes())
    assert app.plane.would_serve(":443", route) == Serving("", [], [], "")
    app.door.call(app.contexts.server, ":443", route)
    app.door.call(app.contexts.client, route)
    issue("a.test", "b.test")
    (note,) = app.plane.would_serve(":443", route).notes
    assert note == f"{chain} or its key has changed since it was loaded; reload to use it"
    chain.unlink()
    (tmp_path / "ca.pem").unlink()
    serving = app.plane.would_serve(":443", route)
    assert (serving.refusal, serving.failure) == ("", "")
    assert serving.notes[0].endswith("check its path; the certificate that was loaded stays in use")


def test_a_hub_that_does_not_answer_is_busy(proxy: MakeProxy) -> None:
    app = proxy({"listeners": [listener({})]}).app
    plane = HubPlane(app.worker, StuckDoor(), app.reloader, Contexts(()))  # type: ignore[arg-type]
    for call in (
        lambda: plane.bind_listener(Listener(":1")),
        lambda: plane.close_connections([1]),
        lambda: plane.would_admit(b"\0" * 4),
    ):
        with pytest.raises(PlaneBusy, match="try again"):
            call()
    assert plane.connections(0, 1) == [], "who only looks does not wait"
    route = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, "/absent", "/absent", True, "/absent")
    assert (
        plane.would_serve(":443", route).refusal == "/absent can't be read: No such file or directory; check its path"
    )


def test_who_subscribes_is_told_until_he_ends_it(proxy: MakeProxy) -> None:
    plane = proxy({"listeners": [listener({})]}).app.plane
    events: list[ConnectionEvent] = []
    plane.ended(CONNECTION)
    unsubscribe = plane.subscribe(events.append)
    plane.ended(CONNECTION)
    plane.ended(CONNECTION._replace(end=End.REFUSED, reason=Reason.SNI_MISSING, mode="", backend=None))
    unsubscribe()
    plane.ended(CONNECTION)
    closed, refused = events
    assert (closed.kind, closed.at, closed.connection.client) == (EventKind.CLOSED, 1002.5, "[2001:db8::1]:5")
    assert (closed.connection.received, closed.connection.sent, closed.connection.mode) == (10, 20, Mode.L4)
    assert (refused.kind, refused.reason, refused.connection.backend) == (EventKind.REFUSED, "sni_missing", "")
    assert refused.connection.mode is None
