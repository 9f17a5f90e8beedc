"""How a call becomes a mutation: by when, and what the audit has of it."""

import os
import pwd
from collections.abc import Sequence
from typing import Any

import pytest

from mcproxy.admin.contract import CLAIM
from mcproxy.admin.errors import Busy
from mcproxy.admin.mutate import mutate
from mcproxy.admin.mutations import put_route
from mcproxy.admin.pb import admin_pb2 as pb
from tests.kit.admin_calls import call
from tests.kit.control_plane import Control, route
from tests.kit.peers import DEADLINE

NEW = pb.Route(hostname="New.Example.org", backend="127.0.0.1:9")


def test_the_audit_has_who_on_whose_behalf_and_why(control: Control) -> None:
    request = pb.AddRouteRequest(route=NEW, comment=" ticket 17\n")
    control.stub.AddRoute(request, timeout=DEADLINE, metadata=((CLAIM, b"alice"),))
    (revision,) = call(control, "ListRevisions", pb.ListRevisionsRequest(page_size=1)).revisions
    assert revision.who == f"user:{pwd.getpwuid(os.getuid()).pw_name}:{os.getuid()}"
    assert (revision.claim, revision.comment) == ("alice", "ticket 17")


class Late:
    """The context of a call whose caller has given up, or will at once."""

    def __init__(self, remaining: float | None, active: bool) -> None:
        self._remaining = remaining
        self._active = active

    def time_remaining(self) -> float | None:
        return self._remaining

    def is_active(self) -> bool:
        return self._active

    def invocation_metadata(self) -> Sequence[tuple[str, bytes]]:
        return ()

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"


def test_a_caller_that_has_given_up_changes_nothing(control: Control) -> None:
    """Else it would see a failure, and find it done."""
    context: Any = Late(remaining=None, active=False)
    decide = put_route("", route("new.example.org"), exists=False)
    with pytest.raises(Busy, match="the deadline passed while other changes were made"):
        mutate(control.writer, context, "route.add", decide, pb.AddRouteRequest())
    assert control.writer.table.generation == 1


def test_a_caller_waits_for_other_changes_no_longer_than_it_said(control: Control) -> None:
    context: Any = Late(remaining=0.01, active=True)
    decide = put_route("", route("new.example.org"), exists=False)
    with control.writer._lock, pytest.raises(Busy, match="other changes took longer"):
        mutate(control.writer, context, "route.add", decide, pb.AddRouteRequest())
    assert control.writer.table.generation == 1


class Racing(list[Any]):
    """What the data plane was asked; while it first checks a route, somebody else changes that."""

    def __init__(self, control: Control) -> None:
        super().__init__()
        self._control = control

    def append(self, called: Any) -> None:
        is_first = not self
        super().append(called)
        if is_first:
            other = put_route("", route("git.example.org", "127.0.0.1:5000"), exists=True)
            self._control.writer.mutate("somebody else", "route.update", other)


def test_a_change_of_what_others_change_at_the_same_time_is_made(control: Control) -> None:
    """Of 21 calls that raced one was refused, although it named no generation."""
    control.plane.calls = Racing(control)
    request = pb.UpdateRouteRequest(route=pb.Route(hostname="git.example.org", send_proxy_protocol=True))
    request.update_mask.paths.append("send_proxy_protocol")
    assert call(control, "UpdateRoute", request).generation == 3
    changed = control.writer.table.listeners[":443"].routes["git.example.org"]
    assert (str(changed.backend), changed.send_proxy_protocol) == ("127.0.0.1:5000", True), "both changes are there"
    checks = [each for each in control.plane.calls if each[0] == "check_route"]
    assert len(checks) == 2, "the route that is made was checked, too"
