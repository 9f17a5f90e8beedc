"""`mcproxy certificates`: the certificate of each l7 route."""

import time
from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.certificates.judge import listed
from mcproxy.cli import output
from mcproxy.cli.client import connected
from mcproxy.cli.columns import Column
from mcproxy.cli.groups import Group
from mcproxy.cli.options import example, json_option
from mcproxy.cli.target import target_options

_LISTED = (
    Column("LISTENER", rank=3, least=10),
    Column("HOST", least=24),
    Column("SOURCE", rank=2),
    Column("NAMES", rank=4),
    Column("ISSUER", rank=1, least=10),
    Column("EXPIRES"),
    Column("STATE", prose=True),
)


@click.group(cls=Group, epilog=example("mcproxy certificates list"))
def certificates() -> None:
    """Which certificates l7 routes have."""


@certificates.command("list", epilog=example("mcproxy certificates list", "mcproxy certificates list --json"))
@target_options
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """List the certificates of l7 routes, as they are in use."""
    with connected(config_file) as client:
        found = list(client.pages("ListCertificates", pb.ListCertificatesRequest(), "certificates"))
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    rows = [
        (
            each.listener,
            each.hostname,
            each.source,
            listed(tuple(each.names)) if each.names else "-",
            each.issuer or "-",
            output.moment(each.not_after),
            _state(each, time.time()),
        )
        for each in found
    ]
    output.emit_table(_LISTED, rows, "No l7 routes; an l4 route's certificate is its backend's.")


def _state(each: pb.ListedCertificate, now: float) -> str:
    """What is wrong with it, or how long it lasts."""
    if each.problem:
        return each.problem
    return f"ok for {output.span(each.not_after - now)}" if each.not_after else "in use; its dates can't be read"
