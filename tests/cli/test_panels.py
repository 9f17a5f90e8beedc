"""The texts and the order of the panels of `mcproxy top`: a board in, texts out."""

from typing import Any

import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli.board import Board
from mcproxy.cli.panels import PANELS, View, short

NOW = 1_000_000.0
ROUTES = [
    pb.RouteCounters(listener=":443", hostname="git.example.org", connections=1, accepted=20),
    pb.RouteCounters(
        listener=":443", hostname="www.example.org", connections=5, accepted=10, refused=3, sent_bytes=4_000,
        requests={"2xx": 1234, "5xx": 2},
    ),
]  # fmt: skip
CONNECTIONS = [
    pb.Connection(
        id=7, listener=":443", client="192.0.2.1:5", sni="git.example.org", route="git.example.org",
        backend="127.0.0.1:3000", mode=pb.MODE_L4, state="relaying", started_at=NOW - 90, sent_bytes=1500,
    ),
    pb.Connection(id=9, listener=":443", client="[2001:db8::1]:5", sni="old.example.org", state="peeking"),
]  # fmt: skip
REFUSAL = pb.ConnectionEvent(
    kind=pb.ConnectionEvent.KIND_REFUSED, at=NOW - 1, connection=CONNECTIONS[1], reason="route_unknown",
    detail="no route for old.example.org on this listener",
)  # fmt: skip


@pytest.fixture
def board() -> Board:
    made = Board()
    listener = pb.ListenerStatus(
        addr=":443", accepting=True, routes=2, connections=6, accepted=30, refused=3,
        refused_by_reason={"route_unknown": 3}, ended={"closed": 20},
    )  # fmt: skip
    status = pb.GetStatusResponse(state="serving", listeners=[listener])
    made.sample(1.0, status, ROUTES, CONNECTIONS)
    www = pb.RouteCounters()
    www.CopyFrom(ROUTES[1])
    www.requests["5xx"] += 1
    made.sample(2.0, status, [ROUTES[0], www], CONNECTIONS)
    made.happened(REFUSAL)
    return made


def shown(view: View[Any], board: Board) -> list[dict[str, str]]:
    """The rows, by the names of their columns."""
    fields = view.panel.fields
    return [{each.column.name: each.text(row) for each in fields} for row in view.rows(board, NOW)]


def test_routes(board: Board) -> None:
    git, www = sorted(shown(View(PANELS["routes"]), board), key=lambda row: row["ROUTE"])
    assert (git["OPEN"], git["2XX"], git["5XX"], git["LISTENER"]) == ("1", "-", "-", ":443")
    assert (www["2XX"], www["3XX"], www["5XX"]) == ("1.2k", "-", "3")


def test_answers_of_5xx_are_alarming_while_they_come(board: Board) -> None:
    view = View(PANELS["routes"])
    (field,) = [each for each in view.panel.fields if each.column.name == "5XX"]
    assert {row.hostname: field.is_alarming(row) for row in view.rows(board, NOW)} == {
        "git.example.org": False,
        "www.example.org": True,
    }


def test_connections(board: Board) -> None:
    first, second = shown(View(PANELS["connections"]), board)
    assert (first["ID"], first["ROUTE"], first["BACKEND"]) == ("9", "old.example.org", "-")
    assert (second["CLIENT"], second["STATE"], second["AGE"], second["SENT"]) == (
        "192.0.2.1:5", "relaying", "1m30s", "1.5 kB",
    )  # fmt: skip


def test_refusals_say_why(board: Board) -> None:
    (row,) = shown(View(PANELS["refusals"]), board)
    assert (row["CLIENT"], row["SERVER NAME"], row["REASON"]) == ("[2001:db8::1]:5", "old.example.org", "route_unknown")
    assert row["DETAIL"].startswith("no route for")
    (reason,) = shown(View(PANELS["reasons"]), board)
    assert (reason["REFUSED FOR"], reason["TOTAL"]) == ("route_unknown", "3")


def test_listeners_and_clients(board: Board) -> None:
    (listener,) = shown(View(PANELS["listeners"]), board)
    assert (listener["LISTENER"], listener["STATE"], listener["OPEN"]) == (":443", "accepting", "6")
    clients = {row["CLIENT"]: row for row in shown(View(PANELS["clients"]), board)}
    assert (clients["192.0.2.1"]["OPEN"], clients["192.0.2.1"]["MOSTLY FOR"]) == ("1", "-")
    assert (clients["2001:db8::1"]["REFUSED"], clients["2001:db8::1"]["MOSTLY FOR"]) == ("1", "route_unknown")


@pytest.mark.parametrize("name", PANELS)
def test_every_column_sorts_both_ways_and_is_marked(name: str, board: Board) -> None:
    board.happened(pb.ConnectionEvent(kind=REFUSAL.kind, at=NOW, connection=CONNECTIONS[0], reason="blocked_ip"))
    view = View(PANELS[name])
    for _ in view.panel.fields:
        (marked,) = [each.name for each in view.columns() if each.name[-1] in "▲▼"]
        assert marked[:-1] == view.panel.fields[view.sorted_by].column.name
        values = [view.panel.fields[view.sorted_by].order(row) for row in view.rows(board, NOW)]
        assert values == sorted(values, reverse=marked.endswith("▼"))
        view.is_reversed = True
        values.reverse()
        assert [view.panel.fields[view.sorted_by].order(row) for row in view.rows(board, NOW)] == sorted(
            values, reverse=marked.endswith("▲")
        )
        view.sort_next()
    assert view.sorted_by == view.panel.sorted_by, "all of them, and round again"


@pytest.mark.parametrize("name", PANELS)
def test_a_row_is_found_again_and_has_details(name: str, board: Board) -> None:
    view = View(PANELS[name])
    for row in view.rows(board, NOW):
        key = view.panel.key(row)
        found = view.find(board, NOW, key)
        assert found is not None
        details = dict(view.panel.details(found))
        assert all(isinstance(value, str) for value in details.values())
        assert len(details) >= 3
    assert view.find(board, NOW, "nonsense") is None


def test_a_filter_looks_at_every_value(board: Board) -> None:
    view = View(PANELS["refusals"])
    for text, count in (("on this listener", 1), ("route_", 1), ("2001:", 1), ("blocked", 0)):
        view.filter = text
        assert len(view.rows(board, NOW)) == count, text


def test_what_can_be_blocked_and_closed(board: Board) -> None:
    offers = {
        name: {(panel.client(row), panel.connection(row)) for row in panel.rows(board, NOW)}
        for name, panel in PANELS.items()
    }
    assert offers["connections"] == {("192.0.2.1", 7), ("2001:db8::1", 9)}
    assert offers["refusals"] == {("2001:db8::1", 0)}
    assert offers["clients"] == {("192.0.2.1", 0), ("2001:db8::1", 0)}
    assert offers["routes"] == offers["listeners"] == offers["reasons"] == {("", 0)}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (123_456, "123k"), (1_500_000, "1.5M"), (2e9, "2.0G")],
)
def test_short_counts(value: float, text: str) -> None:
    assert short(value) == text
