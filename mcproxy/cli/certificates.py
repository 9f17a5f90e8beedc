"""`mcproxy certificates`: the certificate of each l7 route."""

import time
from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.certificates.judge import listed
from mcproxy.cli import candidates, output
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
    Column("STATE", least=26, prose=True),
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


@certificates.command(epilog=example("mcproxy certificates renew www.example.org"))
@target_options
@json_option
@click.argument("host", shell_complete=candidates.hosts)
def renew(config_file: Path | None, as_json: bool, host: str) -> None:
    """Order a new certificate for HOST now, from the CA in [acme].

    It returns at once; `certificates list` shows the order. What the CA asks for, a pause or a limit, holds.
    """
    with connected(config_file) as client:
        answer = client.call("RenewCertificate", pb.RenewCertificateRequest(hostname=host))
    if as_json:
        output.emit_json(output.plain(answer))
    elif answer.obstacle:
        output.say(f"a certificate for {answer.hostname} will be ordered, but not now: {answer.obstacle}")
    else:
        output.say(f"a certificate for {answer.hostname} is ordered: mcproxy certificates list")


def _state(each: pb.ListedCertificate, now: float) -> str:
    """What is wrong with it, or how long it lasts."""
    is_pending = each.state and not each.not_after
    if each.problem and not is_pending:
        return each.problem
    if each.state and each.state != "waiting":
        return f"none yet: its order is {each.state}" if is_pending else f"{each.state}, a renewal"
    if each.failure:
        tries = f"try {each.failures} failed, next one in {output.span(each.next_at - now)}: " if each.failures else ""
        return f"{'none yet' if is_pending else 'not renewed'}: {tries}{each.failure}"
    if is_pending:
        return "none yet: its order begins soon"
    if each.next_at:
        return f"ok, renewal in {output.span(each.next_at - now)}"
    return f"ok for {output.span(each.not_after - now)}" if each.not_after else "in use; its dates can't be read"
