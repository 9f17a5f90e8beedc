"""How a call becomes a mutation: by when, and what the audit has of it."""

import os
import pwd
from typing import Any

import grpc
import pytest

from mcproxy.admin import caller
from mcproxy.admin.pb import admin_pb2 as pb
from tests.admin.calls import call
from tests.control_plane import Control
from tests.peers import DEADLINE

NEW = pb.Route(hostname="New.Example.org", backend="127.0.0.1:9")


def test_the_audit_has_who_on_whose_behalf_and_why(control: Control) -> None:
    request = pb.AddRouteRequest(route=NEW, comment=" ticket 17\n")
    control.stub.AddRoute(request, timeout=DEADLINE, metadata=((caller.CLAIM, b"alice"),))
    (revision,) = call(control, "ListRevisions", pb.ListRevisionsRequest(page_size=1)).revisions
    assert revision.who == f"user:{pwd.getpwuid(os.getuid()).pw_name}:{os.getuid()}"
    assert (revision.claim, revision.comment) == ("alice", "ticket 17")


def test_a_call_whose_deadline_has_passed_changes_nothing(control: Control) -> None:
    with control.writer._lock:  # somebody else's mutation takes its time
        with pytest.raises(grpc.RpcError) as caught:
            control.stub.AddRoute(pb.AddRouteRequest(route=NEW), timeout=0.05)
        answer: Any = caught.value
        assert answer.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert call(control, "AddRoute", pb.AddRouteRequest(route=NEW)).generation == 2, "it was not done meanwhile"
