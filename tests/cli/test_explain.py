from pathlib import Path

from tests.cli.runner import shell


def test_a_decision_step_by_step(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        lines = user.ok(
            "explain", "--listener", ":443", "--sni", "GIT.example.org", "--from", "203.0.113.1"
        ).splitlines()
        assert lines[0] == "step\toutcome\tdetail"
        assert [line.split("\t")[1] for line in lines[1:-1]] == ["pass"] * 10
        assert lines[-1] == "routed to 127.0.0.1:3000"
        lines = user.ok("explain", "--sni", "git.example.org", "--from", "192.0.2.1").splitlines()
        assert lines[-2:] == [
            "firewall ip\tREFUSE\t192.0.2.1 is blocked by 192.0.2.1",
            "refused: blocked_ip",
        ]
        found = user.json("explain", "--sni", "no.example.org", "--from", "203.0.113.1")
        assert (found["reason"], found["route"]) == ("route_unknown", None)


def test_wrong_usage(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert "Missing option '--sni'" in user.fails(2, "explain", "--from", "192.0.2.1")
        assert user.fails(2, "explain", "--sni", "a.b", "--from", "x").startswith("mcproxy: ip: ")
