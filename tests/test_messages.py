"""Messages between the control plane and a worker: they can leave the process, and a selection selects."""

import pickle
from dataclasses import FrozenInstanceError

import pytest

from mcproxy import messages
from mcproxy.messages import EVERYTHING, ConnectionEvent, ConnectionInfo, EventKind, Selection
from mcproxy.model import Backend, FirewallRule, Mode, Route, RuleKind
from mcproxy.policy.networks import Networks
from mcproxy.stats import Counters, Distribution
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


@pytest.mark.parametrize(
    "message",
    [
        messages.BindListener(":443"),
        messages.Publish(Table.build(SEED, RULES)),
        messages.ReadConnections(1, 2, Selection(clients=Networks.of(["192.0.2.0/24"]))),
        messages.Matching(FirewallRule(RuleKind.IP, "192.0.2.1")),
        messages.ReadLoaded(":443", Route("a.test", Backend("127.0.0.1", 1), Mode.L7)),
        messages.WorkerStatus(
            1.0, [messages.ListenerStatus(":443", True, Counters(1, 2))], messages.GeoipStatus(),
            Distribution((1.0,), (1, 2), 3.0), 4,
        ),
        ConnectionEvent(EventKind.OPENED, 0.0, ROUTED),
    ],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_a_message_can_leave_the_process_and_never_changes(message: object) -> None:
    """A carrier may be a socket: nothing in a message is alive."""
    assert pickle.loads(pickle.dumps(message)) == message
    (field, *_) = message.__dataclass_fields__  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        setattr(message, field, None)
