"""The service: every call of proto/mc_proxy/v1/admin.proto, put together from those that look and those that change."""

import threading
from collections.abc import Callable

from mcproxy.admin.applying import Applying
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.reading import Reading
from mcproxy.admin.watching import Watchers
from mcproxy.admin.writer import Writer
from mcproxy.store.diff import Seed


class Service(Reading, Applying, pb_grpc.ProxyAdminServiceServicer):
    """What gRPC calls, in its own native threads."""

    def __init__(self, writer: Writer, plane: DataPlane, watchers: Watchers, read_seed: Callable[[], Seed]) -> None:
        """`read_seed` reads the configuration file's listeners and rules anew, or raises Refusal with its problems."""
        self.writer = writer
        self.plane = plane
        self.watchers = watchers
        self.read_seed = read_seed
        self.one_apply = threading.Lock()

    def __repr__(self) -> str:
        return f"<Service {self.writer}>"
