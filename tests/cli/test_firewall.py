import re
import time
from pathlib import Path

import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli.firewall import unanswered
from tests.kit.commands import shell, typed


def test_add_list_remove(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        told = user.ok("firewall", "add", "ip", "203.0.113.7", "--ttl", "1h", "--kill")
        assert told.startswith("blocked ip 203.0.113.7 until 20")
        assert told.endswith("3 connections cut (generation 2)\n")
        user.ok("firewall", "add", "country", "de")
        found = {(each["kind"], each["value"]): each["expires_at"] for each in user.json("firewall", "list")}
        assert found["country", "DE"] == 0
        assert found["ip", "203.0.113.7"] == pytest.approx(time.time() + 3600, abs=60)
        assert ["cidr", "198.51.100.0/24", "-"] in user.rows("firewall", "list")
        assert user.ok("firewall", "remove", "country", "DE") == "no longer blocked: country DE (generation 4)\n"
        assert len(control.writer.table.firewall) == 3


def test_nodes_that_have_not_answered_are_named() -> None:
    assert unanswered(pb.AddFirewallRuleResponse(killed=3)) == ""
    said = unanswered(pb.AddFirewallRuleResponse(killed=3, unanswered=["edge2", "edge3"]))
    assert said == "connections may go on at edge2, edge3, for want of an answer: look with `mcproxy nodes`"


@pytest.mark.parametrize(
    ("value", "kind", "canonical"),
    [("203.0.113.9", "ip", "203.0.113.9"), ("2001:DB8::1", "ip", "2001:db8::1"), ("fr", "country", "FR"),
     ("203.0.113.0/24", "cidr", "203.0.113.0/24"), ("2001:db8::/32", "cidr", "2001:db8::/32")],
)  # fmt: skip
def test_the_value_shows_its_kind(tmp_path: Path, value: str, kind: str, canonical: str) -> None:
    with shell(tmp_path) as (user, _):
        assert user.ok("firewall", "add", value) == f"blocked {kind} {canonical} (generation 2)\n"
        assert user.ok("firewall", "remove", value) == f"no longer blocked: {kind} {value} (generation 3)\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [(["nonsense"], '"nonsense" is not an address'), (["cdir", "10.0.0.0/8"], '"cdir" is not a kind of rule'),
     (["ip"], "give one VALUE"), (["ip", "192.0.2.1", "192.0.2.2"], "give one VALUE"), ([], "VALUE")],
)  # fmt: skip
def test_a_rule_that_is_not_one(tmp_path: Path, words: list[str], told: str) -> None:
    with shell(tmp_path) as (user, _):
        assert told in user.fails(2, "firewall", "add", *words)
        assert told in user.fails(2, "firewall", "remove", *words)


def test_a_rule_for_good_still_kills(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        told = user.ok("firewall", "add", "ip", "192.0.2.1", "--ttl", "1h", "--kill")
        assert told == "blocked ip 192.0.2.1 already, 3 connections cut (generation 1)\n"


def test_a_rule_that_is_there_for_good_is_done_already(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.ok("firewall", "add", "192.0.2.1") == "blocked ip 192.0.2.1 already (generation 1)\n"


def test_a_rule_ends_or_is_for_good_only_where_that_is_said(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.fails(1, "firewall", "add", "192.0.2.1", "--ttl", "1h") == (
            "mcproxy: the firewall rule ip 192.0.2.1 is permanent and would become temporary; --replace changes it"
        )
        told = user.ok("firewall", "add", "192.0.2.1", "--ttl", "1h", "--replace")
        assert re.fullmatch(r"blocked ip 192\.0\.2\.1 until 20.*Z, was permanent \(generation 2\)\n", told)
        told = user.ok("firewall", "add", "192.0.2.1", "--ttl", "2h")
        assert re.search(r"until 20[^,]*Z, was until 20.*Z \(generation 3\)", told)
        told = user.fails(1, "firewall", "add", "192.0.2.1")
        assert re.search(r"is temporary, until 20.*Z, and would become permanent; --replace changes it", told)
        assert "was until 20" in user.ok("firewall", "add", "192.0.2.1", "--replace", "--comment", "again and again")
        assert user.rows("firewall", "list")[-1] == ["ip", "192.0.2.1", "-"]
        assert user.json("routes", "history", "--everything", "--limit", 1)[0]["comment"] == "again and again"


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        ("203.0.113.9 50000 192.0.2.1 22", "it blocks 203.0.113.9, your own address"),
        ("fe80::1%eth0 5 fe80::2 22", ""),
        ("nonsense", ""),
    ],
)
def test_the_address_that_one_comes_from_over_ssh_is_ones_own(tmp_path: Path, connection: str, told: str) -> None:
    with shell(tmp_path) as (user, _):
        arguments = ("firewall", "add", "203.0.113.0/24", "-c", user.config)
        result = typed(*arguments, SSH_CONNECTION=connection)
        assert result.exit_code == (2 if told else 0)
        assert told in result.stderr


def test_what_the_firewall_would_say(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.ok("firewall", "test", "192.0.2.1").splitlines()[-1] == "blocked: blocked_ip"
        assert user.ok("firewall", "test", "203.0.113.1").splitlines()[-1] == "not blocked"
        assert user.json("firewall", "test", "198.51.100.9")["reason"] == "blocked_cidr"


@pytest.mark.parametrize(
    "arguments",
    [("add", "ip", "nonsense"), ("add", "ip", "1.1.1.1", "--ttl", "soon"), ("add", "ip", "1.1.1.1", "--ttl", "0"),
     ("add", "planet", "mars"), ("remove", "cidr", "10.0.0.1/8"), ("test", "nonsense")],
)  # fmt: skip
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with shell(tmp_path) as (user, control):
        assert user.fails(2, "firewall", *arguments)
        assert control.writer.table.generation == 1
