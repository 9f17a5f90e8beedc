"""A server that is in no fleet; those that are in one are shown in tests/e2e/test_fleet.py."""

from pathlib import Path

from tests.kit.commands import shell


def test_a_server_in_no_fleet_says_so(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _control):
        for arguments in (["nodes"], ["nodes", "--json"], ["nodes", "remove", "edge1"]):
            said = user.fails(1, *arguments)
            assert "this server is in no fleet: its database is a file of its own" in said
