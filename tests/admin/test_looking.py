"""What is said of the backend of a new route."""

from pathlib import Path

import pytest

from mcproxy.admin.looking import SECONDS, Seen, look
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.messages import Look, PlaneBusy, Step
from mcproxy.model import Backend, Mode, Reason, Route
from tests.kit.control_plane import FakePlane, running
from tests.kit.peers import DEADLINE

BAD = Look([Step("connect", True, "connected"), Step("backend HTTP", False, "requests fail: HTTP/1 only")])
GOOD = Look([Step("connect", True, "connected"), Step("backend HTTP", True, "HTTP/1.1 (ALPN)")])
DEAD = Look([Step("connect", False, "127.0.0.1:9: Connection refused")], Reason.BACKEND_REFUSED)


@pytest.mark.parametrize(
    ("mode", "found", "seen"),
    [
        (Mode.L4, Look([Step("connect", True, "connected")]), Seen()),
        (Mode.L4, DEAD, Seen(("clients will be refused: 127.0.0.1:9: Connection refused",))),
        (Mode.L7, BAD, Seen(("requests fail: HTTP/1 only",))),
        (Mode.L7, GOOD, Seen((), "HTTP/1.1 (ALPN)")),
    ],
)
def test_what_clients_would_find(mode: Mode, found: Look, seen: Seen) -> None:
    plane = FakePlane(seen=found)
    assert look(plane, Route("a.test", Backend("127.0.0.1", 9), mode)) == seen
    assert plane.calls == [("look", "a.test", SECONDS)]


def test_nobody_had_time_to_look() -> None:
    plane = FakePlane(fail={"look": PlaneBusy("try again")})
    seen = look(plane, Route("a.test", Backend("127.0.0.1", 9)))
    assert seen == Seen(("the backend was not looked at: try again",))


def test_only_who_asks_for_a_look_gets_one(tmp_path: Path) -> None:
    """And never before the route is in force, nor where it would not be."""
    with running(tmp_path) as control:
        control.plane.seen, control.plane.warnings = DEAD, ()
        stub, new = control.stub, pb.Route(hostname="a.test", backend="127.0.0.1:9")

        def looks() -> int:
            return sum(call[0] == "look" for call in control.plane.calls)

        assert not stub.AddRoute(pb.AddRouteRequest(route=new, look=True, dry_run=True), timeout=DEADLINE).warnings
        assert not stub.AddRoute(pb.AddRouteRequest(route=new), timeout=DEADLINE).warnings
        assert looks() == 0
        answer = stub.UpdateRoute(pb.UpdateRouteRequest(route=new, look=True), timeout=DEADLINE)
        assert list(answer.warnings) == ["clients will be refused: 127.0.0.1:9: Connection refused"]
        other = pb.Route(hostname="b.test", backend="127.0.0.1:9")
        assert len(stub.AddRoute(pb.AddRouteRequest(route=other, look=True), timeout=DEADLINE).warnings) == 1
        assert looks() == 2
