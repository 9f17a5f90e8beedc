from mcproxy.admin.plane import DataPlane
from tests.kit.control_plane import FakePlane


def test_the_tests_own_plane_has_what_the_interface_asks_for() -> None:
    plane: DataPlane = FakePlane()  # mypy compares the signatures
    missing = {name for name in vars(DataPlane) if not name.startswith("_")} - set(dir(plane))
    assert not missing
