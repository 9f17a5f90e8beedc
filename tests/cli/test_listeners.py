from pathlib import Path

import pytest

from tests.cli.runner import shell


def test_add_list_remove(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        options = ("--proxy-protocol", "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "fd00::/8")
        told = user.ok("listeners", "add", ":8443", *options, "--max-connections", 5)
        assert told == "listening on :8443 (generation 2)\n"
        assert user.rows("listeners", "list") == [
            [":443", "no", "-", "-"],
            [":8443", "yes", "10.0.0.0/8 fd00::/8", "5"],
        ]
        assert user.json("listeners", "list")[1] == {
            "addr": ":8443",
            "proxy_protocol": True,
            "trusted_proxies": ["10.0.0.0/8", "fd00::/8"],
            "max_connections": 5,
        }
        assert user.json("listeners", "remove", ":443") == {"generation": 3, "removed_routes": 2}
        assert control.plane.accepting == {":8443"}
        assert "removed listener :8443 with 0 routes" in user.ok("listeners", "remove", ":8443")
        assert user.rows("listeners", "list") == []


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
