import pytest

from mcproxy.admin.plane import (
    EVERYTHING,
    ConnectionEvent,
    ConnectionInfo,
    DataPlane,
    EventKind,
    PlaneStatus,
    Selection,
    State,
)
from mcproxy.policy.networks import Networks
from tests.control_plane import FakePlane


def test_the_tests_own_plane_has_what_the_interface_asks_for() -> None:
    plane: DataPlane = FakePlane()  # mypy compares the signatures
    missing = {name for name in vars(DataPlane) if not name.startswith("_")} - set(dir(plane))
    assert not missing


def test_what_crosses_the_border_can_not_change() -> None:
    info = ConnectionInfo(1, ":443", "192.0.2.1:5", 0.0, "relaying")
    event = ConnectionEvent(EventKind.OPENED, 0.0, info)
    status = PlaneStatus(State.SERVING, 0.0)
    assert {hash(value) is not None for value in (info, event)} == {True}
    assert status.listeners == ()


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
