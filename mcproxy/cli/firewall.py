"""`mcproxy firewall`: who may not connect."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import candidates, confirm, output, plan
from mcproxy.cli.client import EXISTS, connected
from mcproxy.cli.groups import Group
from mcproxy.cli.options import comment_option, example, json_option
from mcproxy.cli.target import target_options
from mcproxy.model import counted
from mcproxy.notation.address import is_ip
from mcproxy.notation.duration import parse_duration
from mcproxy.words import meant, quoted

F = TypeVar("F", bound=Callable[..., Any])

KINDS = {"ip": pb.RULE_KIND_IP, "cidr": pb.RULE_KIND_CIDR, "country": pb.RULE_KIND_COUNTRY}


def _rule(_context: click.Context, _param: click.Parameter, words: tuple[str, ...]) -> tuple[str, str]:
    """The kind and the value of a rule; the kind may be left out where the value shows it."""
    match words:
        case (kind, value) if kind.lower() in KINDS:
            return kind.lower(), value
        case (kind, _):
            near = meant(kind, KINDS)
            hint = f"did you mean {near}?" if near else f"use one of {', '.join(KINDS)}, or none"
            raise click.UsageError(f"{quoted(kind)} is not a kind of rule; {hint}")
        case (value,) if value not in KINDS:
            return _kind(value), value
        case _:
            raise click.UsageError(f"give one VALUE, with or without its kind ({', '.join(KINDS)}) before it")


def _kind(value: str) -> str:
    if "/" in value:
        return "cidr"
    if len(value) == 2 and value.isascii() and value.isalpha():
        return "country"
    if ":" in value or "." in value:  # or what was meant as one: the server says what is wrong with it
        return "ip"
    forms = 'an address ("192.0.2.1"), a network ("192.0.2.0/24") or a country\'s two letters ("DE")'
    raise click.UsageError(f"{quoted(value)} is not {forms}; write one of these")


def _kinds(_context: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(kind) for kind in KINDS if kind.startswith(begun)]


def _rules(context: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    return [*_kinds(context, param, begun), *candidates.rules(context, param, begun)]


def rule_argument(complete: candidates.Complete) -> Callable[[F], F]:
    """The rule that a command is about; `complete` says which there could be."""
    return click.argument(
        "rule", nargs=-1, required=True, metavar=f"[{'|'.join(KINDS)}] VALUE", callback=_rule, shell_complete=complete
    )


def _duration(_context: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Seconds of a length of time that is written as in the configuration file."""
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not seconds:
        raise click.BadParameter("must be more than 0; leave out --ttl for a permanent rule")
    return seconds


@click.group(cls=Group, epilog=example("mcproxy firewall add 192.0.2.7 --ttl 1h"))
def firewall() -> None:
    """Block addresses, networks and countries."""


@firewall.command("list", epilog=example("mcproxy firewall list"))
@target_options
@json_option
def list_(config_file: Path | None, as_json: bool) -> None:
    """List the rules."""
    with connected(config_file) as client:
        found = list(client.pages("ListFirewallRules", pb.ListFirewallRulesRequest(), "rules"))
    if as_json:
        output.emit_json([output.plain(each) for each in found])
        return
    rows = [
        (output.word(pb.RuleKind.DESCRIPTOR, each.kind), each.value, output.moment(each.expires_at)) for each in found
    ]
    output.emit_table(("KIND", "VALUE", "UNTIL"), rows, "No rules: nobody is blocked.")


@firewall.command(
    epilog=example(
        "mcproxy firewall add 192.0.2.7 --ttl 1h --kill",
        "mcproxy firewall add 2001:db8::/32",
        "mcproxy firewall add country AQ",
    )
)
@target_options
@json_option
@click.option("--ttl", callback=_duration, metavar="DURATION", help='How long, such as "1h". Default: permanent.')
@click.option("--kill", is_flag=True, help="Cut the live connections that the rule matches.")
@click.option("--replace", is_flag=True, help="Make a permanent rule temporary, or a temporary one permanent.")
@confirm.yes_option
@comment_option
@rule_argument(_kinds)
def add(
    config_file: Path | None,
    as_json: bool,
    ttl: float | None,
    kill: bool,
    replace: bool,
    yes: bool,
    comment: str,
    rule: tuple[str, str],
) -> None:
    """Refuse connections from VALUE: an address, a network, or a country's two letters.

    A temporary rule that exists takes the new end. It asks before it blocks your own address or a large part of all,
    or cuts many connections of a network or a country.
    """
    kind, value = rule
    request = pb.AddFirewallRuleRequest(
        kind=KINDS[kind], value=value, ttl_seconds=ttl or 0.0, kill=kill, replace=replace, comment=comment,
        own_ip=own_ip(os.environ),
    )  # fmt: skip
    with connected(config_file) as client:
        answer = confirm.call(client, "AddFirewallRule", request, yes, {(EXISTS, "rule"): "--replace changes it"})
    until = f" until {output.moment(answer.rule.expires_at)}" if answer.rule.expires_at else ""
    replaced = [change.old for change in plan.of_messages(answer.effect.changes) if change.old]
    before = f", was {plan.end(replaced[0])}" if replaced else ""
    cut = f", {counted(answer.killed, 'connection')} cut" if kill else ""
    if doubt := unanswered(answer):
        output.say(f"warning: {doubt}", err=True)
    output.emit_done(answer, as_json, f"blocked {kind} {answer.rule.value}{until}{before}", cut)


def unanswered(answer: pb.AddFirewallRuleResponse) -> str:
    """Where connections may go on that were to be cut; "" for nowhere."""
    nodes = ", ".join(answer.unanswered)
    return f"connections may go on at {nodes}, for want of an answer: look with `mcproxy nodes`" if nodes else ""


def own_ip(environ: Mapping[str, str]) -> str:
    """The client address of this shell's ssh session, if it has one."""
    ip = environ.get("SSH_CONNECTION", "").partition(" ")[0].partition("%")[0]
    return ip if is_ip(ip) else ""


@firewall.command(epilog=example("mcproxy firewall remove 192.0.2.7"))
@target_options
@json_option
@comment_option
@rule_argument(_rules)
def remove(config_file: Path | None, as_json: bool, comment: str, rule: tuple[str, str]) -> None:
    """Remove the rule for VALUE."""
    kind, value = rule
    with connected(config_file) as client:
        request = pb.RemoveFirewallRuleRequest(kind=KINDS[kind], value=value, comment=comment)
        answer = client.call("RemoveFirewallRule", request)
    output.emit_done(answer, as_json, f"no longer blocked: {kind} {value}")


@firewall.command(epilog=example("mcproxy firewall test 192.0.2.7"))
@target_options
@json_option
@click.argument("ip")
def test(config_file: Path | None, as_json: bool, ip: str) -> None:
    """Show whether the firewall would block IP, and by which rule."""
    with connected(config_file) as client:
        answer = client.call("TestFirewall", pb.TestFirewallRequest(ip=ip))
    if as_json:
        output.emit_json(output.plain(answer))
        return
    output.emit_steps(answer.steps)
    output.say(f"blocked: {answer.reason}" if answer.blocked else "not blocked")
