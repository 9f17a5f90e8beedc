"""The service: every call of proto/mc_proxy/v1/admin.proto, put together from those that look and those that change."""

import threading

from mcproxy.admin.applying import Applying
from mcproxy.admin.errors import NotThere
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.reading import Reading
from mcproxy.admin.watching import Watchers
from mcproxy.admin.writer import Writer
from mcproxy.store.diff import FileSeed


class Service(Reading, Applying, pb_grpc.ProxyAdminServiceServicer):
    """What gRPC calls, in its own native threads."""

    def __init__(self, writer: Writer, plane: DataPlane, watchers: Watchers, file: FileSeed) -> None:
        self.writer = writer
        self.plane = plane
        self.watchers = watchers
        self.file = file
        self.one_apply = threading.Lock()

    def __repr__(self) -> str:
        return f"<Service {self.writer}>"

    def hint(self, error: Exception) -> str:
        """Of something that isn't there: whether the configuration file has it."""
        return self.file.hint(error.key) if isinstance(error, NotThere) and error.key else ""
