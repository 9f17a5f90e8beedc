from importlib import import_module

from mcproxy.admin.pb import admin_pb2, admin_pb2_grpc
from mcproxy.admin.service import Service
from tests.control_plane import FakePlane


def test_every_call_of_the_proto_is_served() -> None:
    base = admin_pb2_grpc.ProxyAdminServiceServicer
    methods = admin_pb2.DESCRIPTOR.services_by_name["ProxyAdminService"].methods_by_name
    unserved = [name for name in methods if getattr(Service, name) is getattr(base, name)]
    assert len(methods) > 20
    assert not unserved


def test_the_generated_code_is_that_of_the_proto() -> None:
    """`make proto` would change nothing."""
    generator = import_module("deploy.dev.proto")
    for name, text in generator.generate().items():
        assert (generator.OUT / name).read_text() == text, f"{name} is stale: run make proto"


def test_its_repr_shows_the_generation() -> None:
    class Writer:
        def __repr__(self) -> str:
            return "<Writer generation=7>"

    assert "generation=7" in repr(Service(Writer(), FakePlane(), [], lambda: ([], [])))  # type: ignore[arg-type]
