"""Messages between the control plane and a worker: they can leave the process, and a selection selects."""

import pickle
from dataclasses import FrozenInstanceError

import pytest

from mcproxy import messages
from mcproxy.certificates.acme.order import Kept, Order
from mcproxy.certificates.pem import Certificate, Pair
from mcproxy.change import Change, rule_key
from mcproxy.messages import EVERYTHING, ConnectionEvent, ConnectionInfo, EventKind, Request, Selection
from mcproxy.model import Backend, End, FirewallRule, Mode, Reason, Route, RuleKind, Timeouts
from mcproxy.policy.networks import Networks
from mcproxy.stats import Counters, Distribution, Spoken
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED

ROUTED = ConnectionInfo(1, ":443", "192.0.2.1:5", 0.0, "relaying", "git.example.org", "git.example.org")
LOST = ConnectionInfo(2, "[::1]:443", "[2001:db8::1]:5", 0.0, "ended", "old.example.org")


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (EVERYTHING, [1, 2]),
        (Selection(listener=":443"), [1]),
        (Selection(route="git.example.org"), [1]),
        (Selection(route="old.example.org"), [2]),
        (Selection(clients=Networks.of(["192.0.2.0/24"])), [1]),
        (Selection(clients=Networks.of(["2001:db8::1"])), [2]),
        (Selection(listener=":443", clients=Networks.of(["2001:db8::1"])), []),
    ],
)
def test_a_selection_takes_what_matches_all_that_it_says(selection: Selection, taken: list[int]) -> None:
    assert [each.id for each in (ROUTED, LOST) if selection.takes(each)] == taken


def test_a_selection_of_refusals_is_about_events() -> None:
    events = [ConnectionEvent(kind, 0.0, ROUTED) for kind in EventKind]
    refused = Selection(route="git.example.org", refused=True)
    assert [each.kind for each in events if refused.takes_event(each)] == [EventKind.REFUSED]
    assert not any(map(Selection(route="x.example.org", refused=True).takes_event, events))


RULE = FirewallRule(RuleKind.IP, "192.0.2.1")
ROUTE = Route("a.test", Backend("127.0.0.1", 1), Mode.L7)
PAIR = Pair("/a.pem", "/a.key", b"chain", b"key")
CERTIFICATE = Certificate("/a.pem", ("a.test",), 1.0, 2.0, "digest")
KEPT = Kept(Order("a.test"), PAIR, CERTIFICATE)
REQUESTS = (
    messages.BindListener(":443"),
    messages.StartListener(":443"),
    messages.CloseListener(":443"),
    messages.Publish(Table.build(SEED, RULES), (Change(rule_key("ip", "192.0.2.1"), None, RULE),)),
    messages.CloseConnections((1, 2)),
    messages.WouldEnter(":443", 7),
    messages.WouldAdmit(b"\x7f\0\0\1"),
    messages.Watch(on=True),
    messages.ReadStatus(),
    messages.ReadRoutes(),
    messages.ReadConnections(1, 2, Selection(clients=Networks.of(["192.0.2.0/24"]))),
    messages.Matching(RULE),
    messages.FindCountry(b"\x7f\0\0\1"),
    messages.ReadLoaded(":443", ROUTE),
    messages.ReadSpoken(":443", ROUTE),
    messages.Keep(KEPT),
    messages.Forget("a.test"),
    messages.ReadKept("a.test"),
    messages.ReadFilesInUse(),
    messages.Reserve(((":443", ROUTE),)),
    messages.ReadFiles(changed=frozenset({"/a.pem"}), geoip="/geo.mmdb"),
    messages.Settle(messages.Settings(Timeouts(1.0, 2.0, 3.0, 4.0), 5, 6, 7.0, 8, "json"), geoip=True),
    messages.SetLogLevel("debug"),
    messages.Drain(30.0),
    messages.LookAt(ROUTE, 5.0),
)
READ = messages.FilesRead(
    frozenset({(":443", "a.test"), (":443", "b.test")}), {(":443", "a.test"): "/a.pem"}, frozenset({"/ca.pem"}),
    ("b.test: broken",), messages.GeoipStatus("/geo.mmdb", 1.0),
)  # fmt: skip
ANSWERS = (
    messages.WorkerStatus(
        1.0, (messages.ListenerStatus(":443", True, Counters(1, 2)),), messages.GeoipStatus(),
        Distribution((1.0,), (1, 2), 3.0), 4, 5,
    ),
    messages.RouteCounters(":443", "a.test", Counters(1, 2), Spoken("h2", "ALPN", 1.0)),
    ROUTED,
    messages.LoadedFiles(CERTIFICATE, trusts_ca=True),
    KEPT,
    READ,
    messages.Look((messages.Step("dial", True, "connected"),), Reason.BACKEND_REFUSED),
    ConnectionEvent(EventKind.CLOSED, 0.0, ROUTED, Reason.OK, End.CLOSED, "", 2.0),
)  # fmt: skip


def test_each_request_is_among_these() -> None:
    defined = {each for each in vars(messages).values() if isinstance(each, type) and issubclass(each, Request)}
    assert {type(each) for each in REQUESTS} == defined - {Request}


@pytest.mark.parametrize("message", [*REQUESTS, *ANSWERS], ids=lambda message: type(message).__name__)
def test_a_message_can_leave_the_process_and_never_changes(message: object) -> None:
    """A courier may use a socket: nothing in a message is alive."""
    assert pickle.loads(pickle.dumps(message)) == message
    with pytest.raises((FrozenInstanceError, TypeError)):  # of a class without fields: TypeError
        setattr(message, next(iter(message.__dataclass_fields__), "x"), None)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [messages.PlaneBusy("busy"), messages.PlaneStopping("stopping"), messages.Unsettled("no"), OSError(98, "x")],
)
def test_what_a_worker_raises_can_leave_the_process(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args) == (type(error), error.args)


def test_what_two_workers_have_read_is_one_answer() -> None:
    other = messages.FilesRead(
        frozenset({(":443", "b.test"), (":443", "c.test")}), {(":443", "c.test"): "/c.pem"}, frozenset(),
        ("b.test: broken", "c.test: odd"), None, "damaged",
    )  # fmt: skip
    both = READ | other
    assert {name for _, name in both.certificates} == {"a.test", "b.test", "c.test"}
    assert dict(both.renewed) == {(":443", "a.test"): "/a.pem", (":443", "c.test"): "/c.pem"}
    assert (both.cas, both.problems) == (frozenset({"/ca.pem"}), ("b.test: broken", "c.test: odd"))
    assert (both.geoip, both.geoip_problem) == (None, "damaged"), "all keep the old one"
    assert (READ | messages.FilesRead()).geoip == READ.geoip
