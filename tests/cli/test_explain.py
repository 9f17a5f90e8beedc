import json
from pathlib import Path

from mcproxy.certificates.routes import Serving
from mcproxy.messages import Look, Step
from mcproxy.model import Reason
from tests.kit.commands import shell


def test_a_decision_step_by_step(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        lines = user.ok(
            "explain", "--listener", ":443", "--sni", "GIT.example.org", "--from", "203.0.113.1"
        ).splitlines()
        assert lines[0] == "step\toutcome\tdetail"
        assert [line.split("\t")[1] for line in lines[1:-1]] == ["pass"] * 10
        assert lines[-1] == "routed to 127.0.0.1:3000"
        lines = user.ends(1, "explain", "--sni", "git.example.org", "--from", "192.0.2.1").splitlines()
        assert lines[-2:] == [
            "firewall ip\tREFUSE\t192.0.2.1 is blocked by 192.0.2.1",
            "refused: blocked_ip",
        ]
        found = json.loads(user.ends(1, "explain", "--sni", "no.example.org", "--from", "203.0.113.1", "--json"))
        assert (found["reason"], found["route"]) == ("route_unknown", None)


def test_a_connection_that_is_taken_and_whose_requests_fail(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.serving = Serving(failure="/ca.pem is empty; write it again")
        l7 = ("--mode", "l7", "--tls-cert", "/c.pem", "--tls-key", "/k.pem")
        user.ok("routes", "add", "l7.example.org", "127.0.0.1:9", *l7, "--backend-tls", "--backend-ca", "/ca.pem")
        question = ("explain", "--sni", "l7.example.org", "--from", "203.0.113.1")
        lines = user.ends(1, *question).splitlines()
        assert [line.split("\t")[1] for line in lines[1:-2]] == ["pass"] * 11
        assert lines[-2:] == [
            "backend CA\tFAIL\trequests will be answered 502: /ca.pem is empty; write it again",
            "accepted, but requests will be answered 502: /ca.pem is empty; write it again",
        ]
        found = json.loads(user.ends(1, *question, "--json"))
        assert (found["reason"], found["steps"][-1]["passed"]) == ("ok", False)
        control.plane.serving = Serving()
        assert user.ok(*question).splitlines()[-1] == "routed to 127.0.0.1:9"


def test_the_backend_is_asked_only_on_request(tmp_path: Path) -> None:
    question = ("explain", "--sni", "git.example.org", "--from", "203.0.113.1")
    with shell(tmp_path) as (user, control):
        assert len(user.ok(*question).splitlines()) == 12
        assert not [call for call in control.plane.calls if call[0] == "look"]
        lines = user.ok(*question, "--dial").splitlines()
        assert lines[-2:] == ["connect\tpass\tconnected to it in 0.1 ms", "routed to 127.0.0.1:3000"]
        steps = [Step("connect", True, "connected"), Step("backend HTTP", False, "requests fail: HTTP/1 only")]
        control.plane.seen = Look(steps)
        lines = user.ends(1, *question, "--dial").splitlines()
        assert lines[-2:] == [
            "backend HTTP\tFAIL\trequests fail: HTTP/1 only", "accepted, but requests fail: HTTP/1 only",
        ]  # fmt: skip
        refused = Step("connect", False, "127.0.0.1:3000: Connection refused")
        control.plane.seen = Look([refused], Reason.BACKEND_REFUSED)
        lines = user.ends(1, *question, "--dial").splitlines()
        assert lines[-2:] == [
            "connect\tREFUSE\t127.0.0.1:3000: Connection refused", "refused: backend_refused",
        ]  # fmt: skip


def test_wrong_usage(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert "Missing option '--sni'" in user.fails(2, "explain", "--from", "192.0.2.1")
        assert user.fails(2, "explain", "--sni", "a.b", "--from", "x").startswith("mcproxy: --from: ")
