import json
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mcproxy import __version__
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.watching import EVENTS_AT_ONCE, QUEUE
from mcproxy.certificates.acme.order import CaAccount
from mcproxy.messages import ConnectionEvent, ConnectionInfo, EventKind, RouteCounters
from mcproxy.model import Backend, Listener, Mode, Route
from mcproxy.store import schema
from mcproxy.store.acme import Records
from mcproxy.store.diff import FileSeed
from mcproxy.store.store import ListenerRoutes, read_table
from tests.kit.admin_calls import call
from tests.kit.control_plane import SEED, Control, counted, route, running
from tests.kit.pace import within
from tests.kit.peers import DEADLINE, until


def pages(control: Control, method: str, request: Any, items: str) -> list[Any]:
    """All items, and never more on a page than asked for."""
    found: list[Any] = []
    while True:
        answer = call(control, method, request)
        batch = getattr(answer, items)
        assert len(batch) <= request.page_size
        found += batch
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


def _filtered(**fields: str) -> pb.ListConnectionsRequest:
    return pb.ListConnectionsRequest(page_size=2, filter=pb.ConnectionFilter(**fields))


def test_status(control: Control) -> None:
    answer = call(control, "GetStatus", pb.GetStatusRequest())
    assert (answer.state, answer.version, answer.generation, answer.schema_version) == (
        "serving",
        __version__,
        1,
        schema.VERSION,
    )
    assert (answer.routes, answer.firewall_rules, answer.log_level, answer.watchers) == (2, 2, "info", 0)
    (listener,) = answer.listeners
    assert (listener.addr, listener.routes, listener.refused) == (":443", 2, 2)
    assert dict(listener.refused_by_reason) == {"blocked_ip": 2}
    assert answer.exposed_keys == ""


def test_a_snapshot_with_keys_that_others_may_read_is_in_the_status(control: Control) -> None:
    Records(control.writer.store).write_account(CaAccount("https://ca.test", "secret"))
    copy = control.writer.store.path.with_name(f"{control.writer.store.path.stem}-20261129T014412Z.db")
    copy.touch(0o644)
    answer = call(control, "GetStatus", pb.GetStatusRequest())
    assert answer.exposed_keys.startswith(f"{copy} holds keys")


def test_counters_of_a_route_have_its_requests_by_status_and_refusals_by_reason(control: Control) -> None:
    counters = counted(0, 5, refused=2, requests={"2xx": 3, "none": 1})
    control.plane.counters = [RouteCounters(":443", "git.example.org", counters)]
    (found,) = call(control, "ListRouteCounters", pb.ListRouteCountersRequest()).routes
    assert dict(found.requests) == {"2xx": 3, "none": 1}
    assert dict(found.refused_by_reason) == {"route_unknown": found.refused}


def test_lists_come_in_pages(tmp_path: Path) -> None:
    seed: list[ListenerRoutes] = [
        (Listener(f":{port}"), [route(f"{name}.example.org") for name in "abc"]) for port in (443, 8443)
    ]
    seed.append((Listener(":80"), [Route(name, Backend("::1", 1), Mode.L7, "/a", "/b") for name in ("a.b", "c.d")]))
    with running(tmp_path, seed=seed) as control:
        control.plane.open = [ConnectionInfo(i, ":443", "192.0.2.1:5", 0.0, "relaying") for i in range(1, 8)]
        control.plane.counters = [RouteCounters(addr, each.hostname) for addr, some in _flat(seed) for each in some]
        for method, request, items, count in (
            ("ListCertificates", pb.ListCertificatesRequest(page_size=1), "certificates", 2),
            ("ListListeners", pb.ListListenersRequest(page_size=1), "listeners", 3),
            ("ListRoutes", pb.ListRoutesRequest(page_size=4), "routes", 8),
            ("ListRoutes", pb.ListRoutesRequest(page_size=2, listener=":443"), "routes", 3),
            ("ListFirewallRules", pb.ListFirewallRulesRequest(page_size=1), "rules", 2),
            ("ListConnections", pb.ListConnectionsRequest(page_size=3), "connections", 7),
            ("ListRouteCounters", pb.ListRouteCountersRequest(page_size=5), "routes", 8),
            ("ListRevisions", pb.ListRevisionsRequest(page_size=3), "revisions", 13),
            ("ListRevisions", pb.ListRevisionsRequest(page_size=3, what="route", listener=":443"), "revisions", 3),
        ):
            found = pages(control, method, request, items)
            assert len(found) == count, method
            assert len({str(each) for each in found}) == count, f"{method}: nothing twice"


def test_connections_are_listed_by_listener_route_and_client(control: Control) -> None:
    clients = ("192.0.2.1:5", "192.0.2.2:5", "192.0.3.1:5", "[2001:db8::1]:5", "192.0.2.3:5")
    control.plane.open = [ConnectionInfo(i, ":443", client, 0.0, "relaying") for i, client in enumerate(clients, 1)]
    control.plane.open.append(ConnectionInfo(6, ":1", clients[0], 0.0, "relaying", "a.test", "a.test"))
    for filtered, found in (
        (_filtered(client="192.0.2.0/24"), [1, 2, 5, 6]),
        (_filtered(client="2001:db8:0::1"), [4]),
        (_filtered(listener=":443", client="192.0.2.1"), [1]),
        (_filtered(listener=":1"), [6]),  # which was removed while the connection lives
        (_filtered(route="A.Test"), [6]),
    ):
        assert [each.id for each in pages(control, "ListConnections", filtered, "connections")] == found


def test_events_are_watched_by_the_same_filter(control: Control) -> None:
    request = pb.WatchConnectionsRequest(filter=pb.ConnectionFilter(client="192.0.2.1"), refused=True)
    stream = control.stub.WatchConnections(request, timeout=DEADLINE)
    assert control.plane.subscribed.wait(DEADLINE)
    for client, kind in (("192.0.2.2", EventKind.REFUSED), ("192.0.2.1", EventKind.OPENED)) * 5_000:
        control.plane.sinks[0](ConnectionEvent(kind, 0.0, ConnectionInfo(1, ":443", f"{client}:5", 0.0, "ended")))
    wanted = ConnectionInfo(7, ":443", "192.0.2.1:5", 0.0, "ended")
    control.plane.sinks[0](ConnectionEvent(EventKind.REFUSED, 0.0, wanted))
    assert [each.connection.id for each in next(stream).events] == [7], "and the flood has dropped nobody"
    stream.cancel()


def _flat(seed: Any) -> Iterator[tuple[str, Any]]:
    return ((listener.addr, routes) for listener, routes in seed)


@pytest.mark.parametrize(
    ("method", "request_", "words"),
    [
        ("ListRoutes", pb.ListRoutesRequest(page_token="nonsense"), "page_token: "),
        ("ListConnections", pb.ListConnectionsRequest(page_token="nonsense"), "page_token: "),
        ("ListRoutes", pb.ListRoutesRequest(listener="nonsense"), "listener: "),
        ("ListConnections", _filtered(listener="nonsense"), "filter.listener: "),
        ("ListConnections", _filtered(client="192.0.2.1/24"), "filter.client: .*host bits set"),
        ("ListConnections", _filtered(route="a b"), "filter.route: "),
        ("ListRevisions", pb.ListRevisionsRequest(what="nonsense"), "what: must be one of listener, route, rule"),
        ("TestFirewall", pb.TestFirewallRequest(ip="nonsense"), "ip: "),
        ("Explain", pb.ExplainRequest(sni="a.b"), "ip: "),
        ("CreateSnapshot", pb.CreateSnapshotRequest(file_name="../x.db"), "file_name: must be a plain file name"),
        ("CreateSnapshot", pb.CreateSnapshotRequest(file_name=".x"), "file_name: "),
    ],
)
def test_bad_input_names_its_field(control: Control, method: str, request_: Any, words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(control, method, request_)
    answer: Any = caught.value
    assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.match(words, answer.details())


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ListRoutes", pb.ListRoutesRequest(listener=":1")),
        ("ListConnections", _filtered(listener=":1")),
        ("Explain", pb.ExplainRequest(listener=":1", sni="git.example.org", ip="203.0.113.1")),
    ],
)
def test_a_listener_that_is_not_there(control: Control, method: str, request_: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(control, method, request_)
    answer: Any = caught.value
    assert answer.code() is grpc.StatusCode.NOT_FOUND
    assert answer.details() == "there is no listener :1; the listeners are :443"


def test_the_firewall_and_a_whole_decision(control: Control) -> None:
    blocked = call(control, "TestFirewall", pb.TestFirewallRequest(ip="192.0.2.1"))
    assert (blocked.blocked, blocked.reason, len(blocked.steps)) == (True, "blocked_ip", 1)
    control.plane.countries["203.0.113.1"] = "DE"
    free = call(control, "TestFirewall", pb.TestFirewallRequest(ip="203.0.113.1"))
    assert (free.blocked, free.reason, free.country) == (False, "ok", "DE")
    answer = call(control, "Explain", pb.ExplainRequest(sni="git.example.org", ip="203.0.113.1"))
    assert (answer.reason, answer.route.backend, answer.generation) == ("ok", "127.0.0.1:3000", 1)


def test_revisions_name_the_user(control: Control) -> None:
    call(control, "AddRoute", pb.AddRouteRequest(route=pb.Route(hostname="a.b", backend="127.0.0.1:1")))
    (newest,) = call(control, "ListRevisions", pb.ListRevisionsRequest(page_size=1)).revisions
    assert newest.who == f"user:{pwd.getpwuid(os.getuid()).pw_name}:{os.getuid()}"
    assert (newest.generation, newest.action, list(newest.key)) == (2, "route.add", [":443", "a.b"])
    assert (newest.old_json, json.loads(newest.new_json)["backend"]) == ("", "127.0.0.1:1")


def test_the_file_against_the_database(tmp_path: Path) -> None:
    with running(tmp_path, file=FileSeed((SEED, []))) as control:
        answer = call(control, "GetDiff", pb.GetDiffRequest())
        assert [(each.what, list(each.key), each.new_json) for each in answer.changes] == [
            ("rule", ["cidr", "198.51.100.0/24"], ""),
            ("rule", ["ip", "192.0.2.1"], ""),
        ]
        assert not answer.truncated


def test_something_that_only_the_file_has_is_said_to_be_there(tmp_path: Path) -> None:
    """Else an operator looks at the file, sees it there, and wonders."""
    file = FileSeed(([(Listener(":443"), [route("new.example.org")]), (Listener(":8443"), [])], []))
    hint = "; the configuration file has it, but the database is in force: mcproxy diff, mcproxy apply"
    with running(tmp_path, file=file) as control:
        asked: list[tuple[str, Any]] = [
            ("RemoveRoute", pb.RemoveRouteRequest(hostname="new.example.org")),
            ("RemoveListener", pb.RemoveListenerRequest(addr=":8443")),
            ("ListRoutes", pb.ListRoutesRequest(listener=":8443")),
            ("RemoveRoute", pb.RemoveRouteRequest(hostname="other.example.org")),
        ]
        told = []
        for method, request in asked:
            with pytest.raises(grpc.RpcError) as caught:
                call(control, method, request)
            refusal: Any = caught.value
            assert refusal.code() is grpc.StatusCode.NOT_FOUND
            told.append(refusal.details().endswith(hint))
        assert told == [True, True, True, False]
        explained = call(control, "Explain", pb.ExplainRequest(sni="New.example.org", ip="192.0.2.7"))
        assert explained.steps[-1].detail == f"no route for new.example.org on this listener{hint}"


def test_the_status_says_how_far_the_file_is_from_the_database(tmp_path: Path) -> None:
    with running(tmp_path) as control:
        assert call(control, "GetStatus", pb.GetStatusRequest()).file_differences == 0
        request = pb.AddRouteRequest(route=pb.Route(hostname="a.b", backend="127.0.0.1:1"))
        call(control, "AddRoute", request)
        assert call(control, "GetStatus", pb.GetStatusRequest()).file_differences == 1


def test_a_long_answer_is_cut_and_says_so(tmp_path: Path) -> None:
    many = [(Listener(":443"), [route(f"r{i}.example.org") for i in range(1500)])]
    with running(tmp_path, file=FileSeed((many, []))) as control:
        answer = call(control, "GetDiff", pb.GetDiffRequest())
        assert (len(answer.changes), answer.truncated) == (1000, True)


def test_a_snapshot_is_made_beside_the_database(control: Control) -> None:
    answer = call(control, "CreateSnapshot", pb.CreateSnapshotRequest(file_name="copy.db"))
    assert Path(answer.path) == control.writer.store.path.with_name("copy.db")
    assert (Path(answer.path).stat().st_size, answer.generation) == (answer.size_bytes, 1)
    assert read_table(Path(answer.path)).generation == 1
    with pytest.raises(grpc.RpcError) as caught:
        call(control, "CreateSnapshot", pb.CreateSnapshotRequest(file_name="copy.db"))
    refusal: Any = caught.value
    assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS
    assert call(control, "CreateSnapshot", pb.CreateSnapshotRequest()).path.startswith(str(Path(answer.path).parent))


def test_metrics(control: Control) -> None:
    text = call(control, "GetMetrics", pb.GetMetricsRequest()).text
    assert "mcproxy_generation 1.0\n" in text


def test_watching_until_the_caller_ends_it(control: Control) -> None:
    stream = control.stub.WatchConnections(pb.WatchConnectionsRequest())
    assert control.plane.subscribed.wait(DEADLINE)
    assert call(control, "GetStatus", pb.GetStatusRequest()).watchers == 1
    info = ConnectionInfo(7, ":443", "192.0.2.1:5", 0.0, "relaying")
    for number in range(3):
        control.plane.sinks[0](ConnectionEvent(EventKind.OPENED, float(number), info))
    found: list[float] = []
    while len(found) < 3:
        found += [event.at for event in next(stream).events]
    assert found == [0.0, 1.0, 2.0]
    stream.cancel()
    until(lambda: not control.plane.sinks, "the hub to be rid of it")


def test_a_watcher_that_takes_nothing_is_cut_off_and_frees_its_thread(control: Control) -> None:
    stream = control.stub.WatchConnections(pb.WatchConnectionsRequest())
    assert control.plane.subscribed.wait(DEADLINE)
    watcher: Any
    (watcher,) = control.plane.sinks
    info = ConnectionInfo(7, ":443", "192.0.2.1:5", 0.0, "peeking")
    event = ConnectionEvent(EventKind.REFUSED, 0.0, info, detail="x" * 10_000)
    while within(lambda: not watcher.waiting, 0.5):  # gRPC and the sockets hold a few megabytes
        for _ in range(EVENTS_AT_ONCE):
            watcher(event)
    for _ in range(QUEUE + 1):  # now the thread stands in gRPC, and the queue fills
        watcher(event)
    until(lambda: call(control, "GetStatus", pb.GetStatusRequest()).watchers == 0, "its place to be free")
    until(lambda: not control.plane.sinks, "the hub to be rid of it")
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    answer: Any = caught.value
    assert answer.code() is grpc.StatusCode.CANCELLED


def test_everything_is_exported_of_one_generation(control: Control) -> None:
    parts = list(control.stub.Export(pb.ExportRequest(), timeout=DEADLINE))
    assert {each.generation for each in parts} == {1}
    assert [each.addr for part in parts for each in part.values.listeners] == [":443"]
    assert [each.route.hostname for part in parts for each in part.values.routes] == [
        "git.example.org", "www.example.org"
    ]  # fmt: skip
    assert [each.value for part in parts for each in part.values.rules] == ["192.0.2.1", "198.51.100.0/24"]
