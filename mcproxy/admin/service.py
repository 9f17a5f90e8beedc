"""The service: every call of proto/mc_proxy/v1/admin.proto, each served by the one part that has it."""

from mcproxy.admin.applying import Applying
from mcproxy.admin.changing import Changing
from mcproxy.admin.errors import NotThere
from mcproxy.admin.operating import Operating
from mcproxy.admin.pb import admin_pb2
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.reading import Reading
from mcproxy.admin.watching import Watchers
from mcproxy.admin.writer import Writer
from mcproxy.store.diff import FileSeed

CALLS = tuple(admin_pb2.DESCRIPTOR.services_by_name["ProxyAdminService"].methods_by_name)


class Service(pb_grpc.ProxyAdminServiceServicer):
    """The methods that gRPC calls, in its own native threads."""

    def __init__(self, writer: Writer, plane: DataPlane, watchers: Watchers, file: FileSeed) -> None:
        self.watchers = watchers
        self._writer = writer
        self._file = file
        parts = (
            Reading(writer, plane, watchers, file),
            Changing(writer, plane),
            Applying(writer, plane),
            Operating(writer, plane),
        )
        for name in CALLS:
            (method,) = (getattr(part, name) for part in parts if hasattr(part, name))
            setattr(self, name, method)

    def __repr__(self) -> str:
        return f"<Service {self._writer}>"

    def hint(self, error: Exception) -> str:
        """The end of an error about a missing value: whether the configuration file has it."""
        return self._file.hint(error.key) if isinstance(error, NotThere) and error.key else ""
