"""The data plane for the admin API: what a running worker answers, and what a stuck one costs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from gevent import spawn_raw

from mcproxy.admin.plane import DataPlane, ServerState
from mcproxy.certificates.routes import Serving
from mcproxy.change import Change, next_table, route_key
from mcproxy.desk import ByDoor
from mcproxy.messages import ConnectionEvent, EventKind, PlaneBusy, PlaneStopping
from mcproxy.model import Backend, FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.plane import Plane, Watching
from tests.conftest import MakeProxy, listener
from tests.kit.peers import Authority, connect, is_reset, until
from tests.kit.proxy import parse_line


class StuckDoor:
    """A hub that never answers."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        raise TimeoutError

    send = call


def test_it_is_what_the_admin_api_asks_for(proxy: MakeProxy) -> None:
    plane: DataPlane = proxy({"listeners": [listener({})]}).app.plane  # mypy compares the signatures
    assert plane.status().state is ServerState.SERVING
    plane.set_log_level("debug")
    assert plane.status().log_level == "debug"
    plane.set_log_level("notset")
    assert plane.connections(0, 10) == []
    assert plane.route_counters() == []
    assert plane.country(b"\x7f\0\0\1") is None
    assert plane.would_enter(":443", 0) is None
    assert plane.would_admit(b"\x7f\0\0\1") is None
    assert plane.close_connections([1]) == []
    rule = FirewallRule(RuleKind.IP, "127.0.0.1")
    assert (plane.count_matching(rule), plane.kill_matching(rule)) == (0, 0)
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
    running.app.data.desk.stopping = True
    with pytest.raises(PlaneStopping, match="the server is stopping"):
        plane.bind_listener(Listener("127.0.0.2:0"))
    with pytest.raises(PlaneStopping, match="the server is stopping"):
        plane.start_listener("[::1]:0")
    assert "127.0.0.2:0" not in running.app.worker.addresses


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
    contexts = app.data.terminator.contexts
    app.data.door.call(spawn_raw, contexts.server, ":443", route)
    app.data.door.call(spawn_raw, contexts.client, route)
    until(
        lambda: contexts.held(":443", route) and contexts.trusts(route.backend_ca),
        "both to be read",
    )
    issue("a.test", "b.test")
    (note,) = app.plane.would_serve(":443", route).notes
    assert note == f"{chain} or its key has changed since it was loaded, and is taken within a minute"
    chain.unlink()
    (tmp_path / "ca.pem").unlink()
    serving = app.plane.would_serve(":443", route)
    assert (serving.refusal, serving.failure) == ("", "")
    assert serving.notes[0].endswith("check its path; the certificate that was loaded stays in use")


def test_a_route_with_new_files_serves_them_though_they_break_before_its_first_client(
    proxy: MakeProxy, authority: Authority, tmp_path: Path
) -> None:
    app = proxy({"listeners": [listener({})]}).app
    chain, key = tmp_path / "c.pem", tmp_path / "c.key"
    for source, target in zip(authority.pair("a.test"), (chain, key), strict=True):
        target.write_bytes(source.read_bytes())
    (addr,) = app.table.listeners
    route = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, str(chain), str(key))
    changes = [Change(route_key(addr, "a.test"), None, route)]
    app.plane.publish(next_table(app.table, changes, 2), changes)
    key.unlink()
    serving = app.plane.would_serve(addr, route)
    assert serving.refusal == ""
    assert serving.notes[0].endswith("the certificate that was loaded stays in use")


def test_a_hub_that_does_not_answer_is_busy(proxy: MakeProxy) -> None:
    app = proxy({"listeners": [listener({})]}).app
    courier = ByDoor(app.data.desk, StuckDoor())  # type: ignore[arg-type]
    plane = Plane(app.control.database.table, courier, app.reloader, Watching(), lambda: 0)
    for call in (
        lambda: plane.bind_listener(Listener(":1")),
        lambda: plane.close_connections([1]),
        lambda: plane.would_admit(b"\0" * 4),
    ):
        with pytest.raises(PlaneBusy, match="try again"):
            call()
    assert plane.connections(0, 1) == [], "only looking doesn't wait"
    route = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, "/absent", "/absent", True, "/absent")
    missing = "/absent can't be read: No such file or directory; check its path"
    assert plane.would_serve(":443", route).refusal == missing


def test_who_subscribes_gets_the_events_until_unsubscribed(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({})]})
    events: list[ConnectionEvent] = []

    def refuse() -> None:
        with connect(running.port) as client:
            client.sendall(b"junk")
            assert is_reset(client)

    refuse()
    unsubscribe = running.app.plane.subscribe(events.append)
    refuse()
    until(lambda: events, "an event")
    unsubscribe()
    refuse()
    until(lambda: len(running.lines) == 3, "their lines")
    second = int(parse_line(running.lines[1])["id"])
    assert [(each.kind, each.connection.id) for each in events] == [(EventKind.REFUSED, second)]
