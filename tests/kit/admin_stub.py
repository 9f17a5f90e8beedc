"""A proxy with an admin API, and a stub for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc


def grpc_section(folder: Path) -> dict[str, str]:
    """An admin API on a UNIX socket in this folder."""
    return {"addr": f"unix:{folder}/admin.sock"}


@contextmanager
def stub(folder: Path) -> Iterator[Any]:
    """Calls to that API."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"unix:{folder}/admin.sock", options=options) as channel:
        yield pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
