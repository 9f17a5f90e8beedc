"""Calls of the admin API as the tests make them."""

from typing import Any

import grpc
import pytest

from tests.kit.control_plane import Control
from tests.kit.peers import DEADLINE


def call(control: Control, method: str, request: Any) -> Any:
    """The answer to a call."""
    return getattr(control.stub, method)(request, timeout=DEADLINE)


def refused(control: Control, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
    """How a call is refused; it changes nothing."""
    before = control.writer.table
    with pytest.raises(grpc.RpcError) as caught:
        call(control, method, request)
    assert control.writer.table is before
    answer: Any = caught.value
    return answer.code(), answer.details()
