import json
from pathlib import Path

from tests.kit.commands import shell


def test_back_and_back_again(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        user.ok("routes", "add", "a.example.org", "127.0.0.1:1")
        user.ok("routes", "remove", "git.example.org")
        user.ok("firewall", "add", "ip", "203.0.113.7")
        assert user.ok("rollback", 1, "--yes", "--comment", "all wrong") == (
            "back at 1: 3 values changed (generation 5)\n"
        )
        assert {row[1] for row in user.rows("routes", "list")} == {"git.example.org", "www.example.org"}
        assert user.rows("routes", "history")[0][-1] == "all wrong"
        assert user.json("rollback", 4, "--yes")["changes"] == 3
        assert user.ok("rollback", 4) == "everything is as in generation 4 already (generation 6)\n"
        assert user.fails(2, "rollback", 99).startswith("mcproxy: GENERATION: there is no generation 99")


def test_without_a_terminal_it_needs_a_yes(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        user.ok("routes", "set", "git.example.org", "--backend", "127.0.0.1:1")
        assert user.fails(2, "rollback", 1) == (
            "mcproxy: it changes 1 value; there is no terminal to ask on: add --yes to do it"
        )
        assert control.writer.table.generation == 2


def test_a_dry_run_lists_what_would_change(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        user.ok("routes", "set", "git.example.org", "--backend", "127.0.0.1:1")
        user.ok("firewall", "remove", "ip", "192.0.2.1")
        user.ok("listeners", "add", ":8443")
        result = user.run("rollback", 1, "--dry-run")
        assert (result.exit_code, result.stderr) == (1, "")
        *lines, last = result.stdout.splitlines()
        assert sorted(lines) == [
            "+ firewall rule ip 192.0.2.1",
            "- listener :8443",
            "~ route git.example.org on :443: backend 127.0.0.1:1 -> 127.0.0.1:3000",
        ]
        assert last == "3 values to change (generation 4)"
        asked = user.run("rollback", 3, "--dry-run", "--json")
        assert asked.exit_code == 1
        assert json.loads(asked.stdout) == {
            "generation": 4,
            "total": 1,
            "changes": [
                {
                    "change": "remove", "what": "listener", "scope": "", "name": ":8443",
                    "old": {
                        "addr": ":8443", "proxy_protocol": False, "trusted_proxies": "", "max_connections": 0,
                        "nodes": "",
                    },
                    "new": None,
                }
            ],
        }  # fmt: skip
        assert control.writer.table.generation == 4
        user.ok("rollback", 3, "--yes")
        assert user.ok("rollback", 3, "--dry-run") == "nothing to change (generation 5)\n"
