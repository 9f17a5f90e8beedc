"""The messages of an Apply."""

from collections.abc import Iterator
from typing import Any

from mcproxy.admin.pb import admin_pb2 as pb


def request(*parts: pb.Values, count: int | None = None, **options: Any) -> Iterator[pb.ApplyRequest]:
    """A message with the options, then one for each part; `count` is announced in place of what is sent."""
    sent = sum(len(each.listeners) + len(each.routes) + len(each.rules) for each in parts)
    yield pb.ApplyRequest(options=pb.ApplyOptions(values=sent if count is None else count, **options))
    yield from (pb.ApplyRequest(values=each) for each in parts)
