from pathlib import Path

import pytest

from mcproxy.model import Listener
from tests.kit.commands import shell


def test_add_list_remove(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        options = ("--proxy-protocol", "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "fd00::/8")
        told = user.ok("listeners", "add", ":8443", *options, "--max-connections", 5)
        assert told == "listening on :8443 (generation 2)\n"
        assert user.rows("listeners", "list") == [
            [":443", "no", "-", "-", "all"],
            [":8443", "yes", "10.0.0.0/8 fd00::/8", "5", "all"],
        ]
        assert user.json("listeners", "list")[1] == {
            "addr": ":8443",
            "proxy_protocol": True,
            "trusted_proxies": ["10.0.0.0/8", "fd00::/8"],
            "max_connections": 5,
            "nodes": [],
        }
        removed = user.json("listeners", "remove", ":443", "--yes")
        assert (removed["generation"], removed["removed_routes"], len(removed["effect"]["changes"])) == (3, 2, 3)
        assert control.plane.accepting == {":8443"}
        assert "removed listener :8443 with 0 routes" in user.ok("listeners", "remove", ":8443")
        assert user.rows("listeners", "list") == []


def test_adding_what_is_there_is_done_already(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.ok("listeners", "add", ":443") == "listening on :443 already (generation 1)\n"
        assert user.fails(1, "listeners", "add", ":443", "--max-connections", 5) == (
            "mcproxy: the listener :443 exists, with max_connections 0; "
            "`mcproxy listeners set :443` changes what you name"
        )


def test_set_changes_what_is_named(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        networks = ("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "fd00::/8")
        told = user.ok("listeners", "set", ":443", "--proxy-protocol", *networks)
        assert told == (
            ':443: proxy_protocol false -> true, trusted_proxies "" -> "10.0.0.0/8 fd00::/8" (generation 2)\n'
        )
        assert user.ok("listeners", "set", ":443", "--max-connections", 5, "--comment", "a flood").startswith(
            ":443: max_connections 0 -> 5"
        )
        user.ok("listeners", "set", ":443", "--trusted-proxy", "10.0.0.0/8")
        assert control.writer.table.listeners[":443"].listener == Listener(":443", True, ("10.0.0.0/8",), 5)
        assert user.ok("listeners", "set", ":443", "--max-connections", 5) == ":443: set already (generation 4)\n"
        user.ok("listeners", "set", ":443", "--no-proxy-protocol", "--no-trusted-proxy", "--max-connections", 0)
        assert control.writer.table.listeners[":443"].listener == Listener(":443")
        assert len(control.writer.table.listeners[":443"].routes) == 2
        assert control.plane.accepting == {":443"}


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((":443",), 2, "name what to change: --proxy-protocol, --trusted-proxy, --max-connections"),
        ((":443", "--proxy-protocol"), 2, "mcproxy: --proxy-protocol needs --trusted-proxy, or every connection would"),
        ((":1", "--max-connections", "5"), 1, "mcproxy: there is no listener :1; the listeners are :443"),
        (("x", "--max-connections", "5"), 2, "mcproxy: ADDR: "),
    ],
)
def test_set_refuses_in_the_words_that_were_typed(
    arguments: tuple[str, ...], status: int, told: str, tmp_path: Path
) -> None:
    with shell(tmp_path) as (user, _):
        assert told in user.fails(status, "listeners", "set", *arguments)


def test_an_address_in_use(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.fail["bind_listener"] = OSError(98, "Address already in use")
        assert user.fails(1, "listeners", "add", ":1") == "mcproxy: can't listen on :1: another program listens there"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--proxy-protocol",), "--proxy-protocol needs --trusted-proxy, or every connection would be refused"),
        (("--trusted-proxy", "10.0.0.0/8"), "--trusted-proxy only works with --proxy-protocol"),
        (("--proxy-protocol", "--trusted-proxy", "x"), "--trusted-proxy: "),
    ],
)
def test_errors_name_the_options_that_were_typed(options: tuple[str, ...], told: str, tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.fails(2, "listeners", "add", ":8443", *options).startswith(f"mcproxy: {told}")
