from importlib import import_module

from mcproxy.admin.pb import admin_pb2_grpc
from mcproxy.admin.service import CALLS, Service
from tests.kit.control_plane import FakePlane


class Unused:
    """A writer that nobody asks."""

    def __repr__(self) -> str:
        return "<Writer generation=7>"


def made() -> Service:
    return Service(Unused(), FakePlane(), [], [])  # type: ignore[arg-type]


def test_every_call_of_the_proto_is_served_by_one_part() -> None:
    service, base = made(), admin_pb2_grpc.ProxyAdminServiceServicer
    assert len(CALLS) > 20
    assert not [name for name in CALLS if getattr(service, name).__func__ is getattr(base, name)]


def test_the_generated_code_is_that_of_the_proto() -> None:
    """`make proto` would change nothing."""
    generator = import_module("deploy.dev.proto")
    for name, text in generator.generate().items():
        assert (generator.OUT / name).read_text() == text, f"{name} is stale: run make proto"


def test_its_repr_shows_the_generation() -> None:
    assert "generation=7" in repr(made())
