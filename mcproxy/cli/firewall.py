"""`mcproxy firewall`: who may not connect."""

from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import output
from mcproxy.cli.client import connected
from mcproxy.cli.options import config_option, json_option
from mcproxy.wire.duration import parse_duration

KINDS = {"ip": pb.RULE_KIND_IP, "cidr": pb.RULE_KIND_CIDR, "country": pb.RULE_KIND_COUNTRY}

kind_argument = click.argument("kind", type=click.Choice(list(KINDS)))


def _duration(_context: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Seconds of a length of time that is written as in the configuration file."""
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not seconds:
        raise click.BadParameter("must be more than 0")
    return seconds


@click.group()
def firewall() -> None:
    """Who may not connect."""


@firewall.command("list")
@config_option
@json_option
def list_(given: Path | None, as_json: bool) -> None:
    """List the rules."""
    with connected(given) as client:
        found = list(client.pages("ListFirewallRules", pb.ListFirewallRulesRequest(), "rules"))
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    rows = [
        (output.word(pb.RuleKind.DESCRIPTOR, each.kind), each.value, output.moment(each.expires_at)) for each in found
    ]
    output.emit_table(("KIND", "VALUE", "UNTIL"), rows, "No rules: nobody is blocked.")


@firewall.command()
@config_option
@json_option
@click.option("--ttl", callback=_duration, metavar="DURATION", help='How long, such as "1h". Default: for good.')
@click.option("--kill", is_flag=True, help="Cut the live connections that the rule matches.")
@kind_argument
@click.argument("value")
def add(given: Path | None, as_json: bool, ttl: float | None, kill: bool, kind: str, value: str) -> None:
    """Refuse connections from VALUE: an address, a network, or a country's two letters."""
    request = pb.AddFirewallRuleRequest(kind=KINDS[kind], value=value, ttl_seconds=ttl or 0.0, kill=kill)
    with connected(given) as client:
        answer = client.call("AddFirewallRule", request)
    until = f" until {output.moment(answer.rule.expires_at)}" if answer.rule.expires_at else ""
    cut = f", {answer.killed} connections cut" if kill else ""
    output.emit_done(answer, as_json, f"blocked {kind} {answer.rule.value}{until}{cut}")


@firewall.command()
@config_option
@json_option
@kind_argument
@click.argument("value")
def remove(given: Path | None, as_json: bool, kind: str, value: str) -> None:
    """Remove the rule for VALUE."""
    with connected(given) as client:
        answer = client.call("RemoveFirewallRule", pb.RemoveFirewallRuleRequest(kind=KINDS[kind], value=value))
    output.emit_done(answer, as_json, f"no longer blocked: {kind} {value}")


@firewall.command()
@config_option
@json_option
@click.argument("ip")
def test(given: Path | None, as_json: bool, ip: str) -> None:
    """Show what the firewall would say to a connection from IP."""
    with connected(given) as client:
        answer = client.call("TestFirewall", pb.TestFirewallRequest(ip=ip))
    if as_json:
        output.emit_json(output.plain(answer))
        return
    output.emit_steps(answer.steps)
    click.echo(f"blocked: {answer.reason}" if answer.blocked else "not blocked")
