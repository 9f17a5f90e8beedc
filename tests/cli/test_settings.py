from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import settings
from mcproxy.model import LISTENER_FIELDS, ROUTE_FIELDS, Backend, Mode, Route


def given(*arguments: str, declared: Any = ROUTE_FIELDS) -> dict[str, Any]:
    """What a command with the fields' options is called with."""
    taken: dict[str, Any] = {}

    @click.command()
    @settings.options(declared)
    def command(**options: Any) -> None:
        taken.update(options)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return taken


def test_every_field_with_a_default_is_an_option() -> None:
    assert ["hostname", "backend", *given()] == [field.name for field in ROUTE_FIELDS]
    assert ["addr", *given(declared=LISTENER_FIELDS)] == [field.name for field in LISTENER_FIELDS]


def test_a_message_has_what_was_given() -> None:
    options = given("--mode", "l7", "--tls-cert", "c.pem", "--backend-tls", "--backend-server-name", "b.test")
    route = pb.Route(**settings.for_message(ROUTE_FIELDS, options))
    assert (route.mode, route.tls_cert, route.tls_key) == (pb.MODE_L7, f"{Path.cwd()}/c.pem", "")
    assert (route.backend_tls, route.backend_server_name, route.send_proxy_protocol) == (True, "b.test", False)
    listener = given("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::/0", declared=LISTENER_FIELDS)
    assert settings.for_message(LISTENER_FIELDS, listener)["trusted_proxies"] == ("10.0.0.0/8", "::/0")


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (Route("a.test", Backend("b", 1), Mode.L7), "-"),
        (Route("a.test", Backend("b", 1), Mode.L7, "/c", "/k", True), "tls_cert=/c backend_tls"),
    ],
)
def test_what_is_set_is_shown(route: Route, text: str) -> None:
    message = pb.Route(**settings.of_value(ROUTE_FIELDS, route))
    assert settings.shown(ROUTE_FIELDS, message, ("hostname", "backend", "mode")) == text


def test_the_help_says_what_a_field_needs() -> None:
    @click.command()
    @settings.options(ROUTE_FIELDS)
    def command() -> None:
        pass

    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "--tls-key PATH With --mode l7: its key, PEM." in text
    assert "--backend-ca PATH With --backend-tls: CA to verify" in text
    assert "--send-proxy-protocol Send a PROXY v2 header to the backend." in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--acme"], {"tls": "acme", "tls_cert": "", "tls_key": ""}),
        (["--tls-cert", "c", "--tls-key", "k"], {"tls": "files", "tls_cert": Path("c"), "tls_key": Path("k")}),
        (["--no-acme", "--mode", "l4"], {"tls": "files", "mode": "l4"}),
        (["--mode", "l4"], {"tls": "files", "mode": "l4"}),
        (
            ["--acme", "--tls-cert", "c"],
            {"tls": "acme", "tls_cert": Path("c"), "tls_key": ""},
        ),  # which the server refuses
    ],
)
def test_files_and_acme_exclude_each_other_where_a_route_changes(arguments: list[str], named: dict[str, Any]) -> None:
    taken: dict[str, Any] = {}

    @click.command()
    @settings.changes(ROUTE_FIELDS)
    def command(**options: Any) -> None:
        taken.update(settings.named(ROUTE_FIELDS, options))

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert taken == named


def test_acme_is_an_option_without_a_value() -> None:
    options = given("--mode", "l7", "--acme")
    assert pb.Route(**settings.for_message(ROUTE_FIELDS, options)).tls == pb.TLS_ACME
    assert pb.Route(**settings.for_message(ROUTE_FIELDS, given())).tls == pb.TLS_FILES
