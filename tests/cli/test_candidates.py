"""Completions of words, with a server and without one."""

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from mcproxy.cli import candidates
from mcproxy.cli.main import main
from mcproxy.cli.options import COMPLETION
from mcproxy.messages import ConnectionInfo
from tests.kit.commands import shell, write_config
from tests.kit.control_plane import Control
from tests.kit.hostile_server import EVIL, hostile


def offered(config: Path, *words: str, begun: str = "") -> dict[str, str | None]:
    """Candidates and what is said of them."""
    at = 2 if words[0] in {"routes", "listeners", "firewall", "connections"} else 1
    arguments = [*words[:at], "-c", str(config), *words[at:]]
    found = ShellComplete(main, {}, "mcproxy", COMPLETION).get_completions(arguments, begun)
    return {item.value: item.help for item in found}


def live(control: Control, count: int) -> None:
    control.plane.open = [ConnectionInfo(i, ":443", f"192.0.2.9:{i}", 1.0, "relaying") for i in range(1, count + 1)]


def test_hosts(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert list(offered(user.config, "routes", "remove")) == ["git.example.org", "www.example.org"]
        assert offered(user.config, "routes", "remove", begun="g") == {"git.example.org": ":443 to 127.0.0.1:3000"}
        assert list(offered(user.config, "routes", "add", begun="w")) == ["www.example.org"]
        assert list(offered(user.config, "routes", "history", begun="w")) == ["www.example.org"]
        assert list(offered(user.config, "watch", "--route", begun="g")) == ["git.example.org"]
        assert list(offered(user.config, "explain", "--sni", begun="g")) == ["git.example.org"]
        assert list(offered(user.config, "routes", "remove", "--listener", ":443", begun="g")) == ["git.example.org"]
        assert not offered(user.config, "routes", "remove", "--listener", ":1", begun="g")


def test_listeners(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        for words in (("listeners", "remove"), ("routes", "list", "--listener"), ("connections", "list", "--listener")):
            assert list(offered(user.config, *words)) == [":443"]
            assert list(offered(user.config, *words, begun=":4")) == [":443"]
            assert not offered(user.config, *words, begun="[")


def test_connections_rules_and_generations(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        live(control, 12)
        assert list(offered(user.config, "connections", "close", begun="1")) == ["1", "10", "11", "12"]
        assert offered(user.config, "connections", "close", "1", "2", begun="3") == {"3": "192.0.2.9:3"}
        assert offered(user.config, "firewall", "remove", begun="192") == {"192.0.2.1": "ip"}
        assert list(offered(user.config, "firewall", "remove")) == [
            "ip", "cidr", "country", "198.51.100.0/24", "192.0.2.1",
        ]  # fmt: skip
        assert list(offered(user.config, "firewall", "add", begun="c")) == ["cidr", "country"]
        user.ok("firewall", "add", "192.0.2.7")
        assert list(offered(user.config, "rollback")) == ["2", "1"]


def test_a_long_list_has_an_end(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        live(control, 5_000)
        assert len(offered(user.config, "connections", "close")) == candidates.MAX_CANDIDATES


@pytest.mark.parametrize(
    "words", [("routes", "remove"), ("listeners", "remove"), ("connections", "close"), ("rollback",)]
)
def test_without_a_server_there_are_none_and_no_word(
    words: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    absent = write_config(tmp_path, f'addr = "unix:{tmp_path}/admin.sock"')
    broken = tmp_path / "broken.toml"
    broken.write_text("nonsense")
    for config in (absent, broken, tmp_path / "absent.toml"):
        assert not offered(config, *words)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [EVIL, "$(reboot)", "a;b", "`a`", "a b", "~root"])
def test_what_a_server_offers_runs_nothing(value: str, tmp_path: Path) -> None:
    """bash puts a candidate into the line as it is, and the file may name a server that is not ours."""
    with hostile(tmp_path, value) as address:
        config = write_config(tmp_path, f'addr = "{address}"')
        assert not offered(config, "routes", "remove")
        assert not offered(config, "listeners", "remove")
        found = offered(config, "connections", "close")
        assert list(found) == ["1"]
        assert all(each is not None and each.isprintable() for each in found.values())
