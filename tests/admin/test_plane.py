from mcproxy.admin.plane import ConnectionEvent, ConnectionInfo, DataPlane, EventKind, PlaneStatus, State
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
