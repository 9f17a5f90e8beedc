"""The data path without a control plane: it serves the table that it was given, and leaves nothing behind."""

from mcproxy.datapath import DataPath
from mcproxy.desk import ByDoor
from mcproxy.messages import ConnectionEvent, Drain, EventKind, Settings, Watch
from tests.conftest import MakeBackend
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, client_hello, connect, read_all, says
from tests.kit.worker_bench import TIMEOUTS, V4, table_for


def test_it_serves_and_reports_without_a_control_plane(hub: HubThread, backend: MakeBackend) -> None:
    lines: list[str] = []
    events: list[ConnectionEvent] = []
    table = table_for(backend(says("here")).address)
    data = hub.call(DataPath, table, Settings(TIMEOUTS, 0, 0, 0, 0, "text"), None, lines.extend, events.append)
    courier = ByDoor(data.desk, data.door)
    hub.call(data.worker.bind, V4)
    hub.call(data.worker.start, V4)
    hub.call(data.begin)
    courier.ask(Watch(on=True))
    with connect(data.worker.addresses[V4][1]) as client:
        client.sendall(client_hello("a.test"))
        assert b"here" in read_all(client)
    assert courier.ask(Drain(DEADLINE)) is True
    hub.spawn(data.close).result(DEADLINE)
    assert [event.kind for event in events] == [EventKind.OPENED, EventKind.CLOSED]
    assert [" verdict=routed " in line for line in lines] == [True]
    assert repr(data) == "<DataPath <Worker listeners=0 sessions=0>>"
