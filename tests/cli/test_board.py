"""Counters become rates, events become clients, and nothing grows without end."""

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import board
from mcproxy.cli.board import Board, Meter, blocks


def status(accepted: int, refused: dict[str, int] | None = None, sent: int = 0) -> pb.GetStatusResponse:
    listener = pb.ListenerStatus(
        addr=":443", connections=3, accepted=accepted, refused=sum((refused or {}).values()),
        refused_by_reason=refused, sent_bytes=sent,
    )  # fmt: skip
    return pb.GetStatusResponse(state="serving", listeners=[listener, pb.ListenerStatus(addr=":8443", accepted=5)])


def route(hostname: str, accepted: int, **answers: int) -> pb.RouteCounters:
    return pb.RouteCounters(listener=":443", hostname=hostname, accepted=accepted, connections=1, requests=answers)


def event(kind: "pb.ConnectionEvent.Kind", at: float, client: str, route: str = "a.test") -> pb.ConnectionEvent:
    connection = pb.Connection(client=client, route=route, received_bytes=10, sent_bytes=20)
    return pb.ConnectionEvent(kind=kind, at=at, connection=connection, reason="ok")


CLOSED, OPENED, REFUSED = (
    pb.ConnectionEvent.KIND_CLOSED, pb.ConnectionEvent.KIND_OPENED, pb.ConnectionEvent.KIND_REFUSED,
)  # fmt: skip


def test_blocks() -> None:
    assert blocks([], 3) == "   "
    assert blocks([0, 1, 4, 8], 6) == "   ▂▅█"
    assert blocks([100, 0, 0], 2) == "  "
    assert blocks([0.001, 8], 2) == "▁█"


def test_a_rate_is_what_a_counter_rose_in_a_second() -> None:
    meter = Meter()
    for at, value in ((10.0, 100), (11.0, 150), (13.0, 160), (13.0, 170)):
        meter.feed(at, value)
    assert list(meter.rates) == [0.0, 50.0, 5.0, 0.0]
    assert meter.rate == 0.0
    meter.feed(14.0, 3)  # the server was restarted
    assert meter.rate == 0.0
    meter.feed(15.0, 5)
    assert meter.rate == 2.0


def test_a_window_smooths() -> None:
    meter = Meter(window=4)
    for i in range(10):
        meter.feed(float(i), 100 * (i // 4))
    assert list(meter.rates)[-3:] == [25.0, 25.0, 25.0]


def test_history_has_an_end() -> None:
    meter = Meter()
    for i in range(1000):
        meter.feed(float(i), i)
    assert len(meter.rates) == board.HISTORY


def test_samples_become_traffic() -> None:
    found = Board()
    found.sample(1.0, status(10, {"route_unknown": 4}), [route("a.test", 10), route("gone.test", 1)], [])
    found.sample(2.0, status(30, {"route_unknown": 4, "blocked_ip": 2}), [route("a.test", 25)], [pb.Connection(id=7)])
    assert found.total.open == 3
    assert found.total.accepted.rate == 20
    assert found.total.refused.rate == 2
    assert {key: each.accepted.rate for key, each in found.routes.items()} == {(":443", "a.test"): 15}
    assert found.refused_by_reason == {"route_unknown": 4, "blocked_ip": 2}
    assert found.reasons["route_unknown"].rate == 0
    assert [each.id for each in found.connections] == [7]
    assert {addr: each.accepted.rate for addr, each in found.listeners.items()} == {":443": 20, ":8443": 0}
    assert repr(found) == "<Board routes=1 events=0>"


def test_answers_by_class_of_status() -> None:
    found = Board()
    for at, count in ((1.0, 1), (3.0, 7)):
        found.sample(at, status(10), [route("a.test", 10, **{"2xx": 5, "5xx": count})], [])
    traffic = found.routes[(":443", "a.test")]
    assert traffic.answers == {"2xx": 5, "5xx": 7}
    assert {name: meter.rate for name, meter in traffic.answering.items()} == {"2xx": 0, "5xx": 3}
    assert (traffic.total, traffic.open, traffic.refusals) == (10, 1, 0)


def test_the_speed_of_a_connection_is_forgotten_with_it() -> None:
    found = Board()
    for at in range(9):
        live = pb.Connection(id=7, received_bytes=100 * at, sent_bytes=900 * at)
        found.sample(float(at), status(1), [], [live, pb.Connection(id=8)])
    assert {number: meter.rate for number, meter in found.speeds.items()} == {7: 1000, 8: 0}
    found.sample(9.0, status(1), [], [pb.Connection(id=8)])
    assert list(found.speeds) == [8]


def test_clients_are_those_of_the_last_minute_and_those_that_are_connected() -> None:
    found = Board()
    found.happened(event(CLOSED, 100.0, "192.0.2.1:5"))
    found.happened(event(OPENED, 150.0, "192.0.2.9:5"))
    found.happened(event(CLOSED, 150.0, "[2001:db8::1]:7"))
    found.happened(event(REFUSED, 155.0, "[2001:db8::1]:8"))
    rows = {row.address: (row.open, row.ended, row.refused, row.moved) for row in found.clients(160.0)}
    assert rows == {"192.0.2.1": (0, 1, 0, 30), "2001:db8::1": (0, 2, 1, 60)}
    (there, gone) = sorted(found.clients(160.0), key=lambda row: -row.refused)
    assert (there.reasons, gone.reasons) == ({"ok": 1}, {})
    assert [row.address for row in found.clients(161.0)] == ["2001:db8::1"]
    assert [each.connection.client for each in found.refusals] == ["[2001:db8::1]:8"]
    found.sample(1.0, status(1), [], [pb.Connection(id=i, client=f"192.0.2.1:{i}") for i in (7, 8)])
    assert {row.address: row.open for row in found.clients(161.0)} == {"192.0.2.1": 2, "2001:db8::1": 0}


def test_a_flood_has_a_bound() -> None:
    found = Board()
    for i in range(board.MAX_EVENTS + 10):
        found.happened(event(REFUSED, 100.0, f"192.0.2.{i % 250}:{i % 60000}"))
    assert sum(row.ended for row in found.clients(100.0)) == board.MAX_EVENTS
    assert len(found.refusals) == board.MAX_REFUSALS
    newest = found.refusals[0].connection.client
    assert newest.startswith(f"192.0.2.{(board.MAX_EVENTS + 9) % 250}:")
