"""`mcproxy apply FILE`: the listeners, routes and rules of a file become the database's."""

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from mcproxy.admin.contract import MAX_REQUEST
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import confirm, output, plan
from mcproxy.cli.client import UNREADY, Client, connected
from mcproxy.cli.options import FAILED, FILE, INVALID, comment_option, example, fail, json_option
from mcproxy.cli.plan import Shown
from mcproxy.cli.settings import of_value
from mcproxy.cli.target import target_options
from mcproxy.cli.values import Count
from mcproxy.config import load_seed
from mcproxy.document import ConfigError
from mcproxy.model import BLOCKED_LISTS, LISTENER_FIELDS, ROUTE_FIELDS, RuleKind, counted
from mcproxy.settings import proto_name

STANDARD_INPUT = Path("/dev/stdin")
TIMEOUT = 300.0  # seconds for a whole transfer
BATCH = MAX_REQUEST // 2  # bytes of values in one message
MAX_VALUE = MAX_REQUEST - (4 << 10)  # bytes of one value; what is around it in its message takes less than the rest
_PLACE = re.compile(r"^(?:listeners|routes|rules)\[\d+\]", re.MULTILINE)
_REMEDIES = {(UNREADY, ""): "nothing has changed"}


@click.command(
    epilog=example("mcproxy apply --dry-run routes.toml", "mcproxy export | sed s/10.0.0.5/10.0.0.6/ | mcproxy apply -")
)
@target_options
@json_option
@click.option("--dry-run", is_flag=True, help="Only print what would change; end with 1 if something would.")
@click.option("--prune", is_flag=True, help="Also remove what the file lacks, but for temporary rules.")
@confirm.yes_option
@click.option("--expect", type=Count(0), default=0, metavar="GENERATION", help="Fail if another is in force.")
@comment_option
@click.argument("file", type=FILE)
def apply(
    config_file: Path | None,
    as_json: bool,
    dry_run: bool,
    prune: bool,
    yes: bool,
    expect: int,
    comment: str,
    file: Path,
) -> None:
    """Put the listeners, routes and rules of FILE into the database, all in one step or nothing at all.

    FILE is the output of `mcproxy export`, or a whole configuration file, whose other tables are ignored. Relative
    paths are relative to FILE. "-" reads standard input, whose paths are relative to the current directory. Applying a
    file again changes nothing.

    --prune also removes the values that the file lacks, a listener with all of its routes: its address is closed, and
    open connections go on. Temporary rules stay, and the last listener is never removed.
    """
    sending = _read(file)
    options = pb.ApplyOptions(
        values=len(sending.values), dry_run=dry_run, prune=prune, expected_generation=expect, comment=comment
    )
    with connected(config_file) as client:
        if prune and not (yes or dry_run):
            options.expected_generation = _agreed(client, sending, options)
        answer = _send(client, sending, options)
    _print(answer, as_json, dry_run)
    sys.exit(FAILED if dry_run and answer.changes else 0)


@dataclass(frozen=True, slots=True)
class Sending:
    """The values of a file, to be sent."""

    file: Path
    values: list[pb.Values]  # of one value each, in the order of the file
    places: dict[str, str]  # in the request, as in "routes[17]", and in the file

    def messages(self, options: pb.ApplyOptions) -> Iterator[pb.ApplyRequest]:
        """The request, in as many messages as it takes."""
        yield pb.ApplyRequest(options=options)
        batch, size = pb.Values(), 0
        for value in self.values:
            more = value.ByteSize()
            if size and size + more > BATCH:
                yield pb.ApplyRequest(values=batch)
                batch, size = pb.Values(), 0
            batch.MergeFrom(value)
            size += more
        yield pb.ApplyRequest(values=batch)

    def in_file(self, details: str, about: str) -> str:
        """The server's sentences, a line for each problem, with the places of the file."""
        if about.startswith("options."):
            return f"mcproxy: --{details.removeprefix('options.')}"
        return _PLACE.sub(lambda found: f"{self.file}: {self.places[found[0]]}", details)


def _read(file: Path) -> Sending:
    try:
        listeners, rules = load_seed(STANDARD_INPUT, Path.cwd()) if str(file) == "-" else load_seed(file)
    except ConfigError as error:
        fail(str(error), INVALID)
    sent = [pb.Values(listeners=[pb.Listener(**of_value(LISTENER_FIELDS, each))]) for each, _ in listeners]
    places = {f"listeners[{i}]": f"listeners[{i}]" for i in range(len(listeners))}
    number = itertools.count()
    for i, (listener, routes) in enumerate(listeners):
        for j, route in enumerate(routes):
            message = pb.ListedRoute(listener=listener.addr, route=pb.Route(**of_value(ROUTE_FIELDS, route)))
            sent.append(pb.Values(routes=[message]))
            places[f"routes[{next(number)}]"] = f"listeners[{i}].routes[{j}]"
    numbers = {kind: itertools.count() for kind in RuleKind}
    for i, rule in enumerate(rules):
        sent.append(pb.Values(rules=[pb.FirewallRule(kind=proto_name(rule.kind), value=rule.value)]))
        places[f"rules[{i}]"] = f"firewall.{BLOCKED_LISTS[rule.kind]}[{next(numbers[rule.kind])}]"
    for value, place in zip(sent, places.values(), strict=True):
        if value.ByteSize() > MAX_VALUE:
            fail(f"{file}: {place}: is larger than {MAX_VALUE >> 10} KiB, which is the limit", INVALID)
    return Sending(file, sent, places)


@dataclass(frozen=True, slots=True)
class Applied:
    """The changes that the server has made, or would make."""

    generation: int
    warnings: list[str]
    changes: list[Shown]


def _send(client: Client, sending: Sending, options: pb.ApplyOptions) -> Applied:
    parts = list(client.transfer("Apply", sending.messages(options), TIMEOUT, sending.in_file, _REMEDIES))
    changes = plan.of_messages(each for part in parts for each in part.changes)
    changes.sort(key=lambda each: (each.key.what, each.key.scope, each.key.name))
    return Applied(parts[0].generation, [warning for part in parts for warning in part.warnings], changes)


def _agreed(client: Client, sending: Sending, options: pb.ApplyOptions) -> int:
    """Ask before removing anything; return the generation that was agreed to, or end the program."""
    question = pb.ApplyOptions()
    question.MergeFrom(options)
    question.dry_run = True
    planned = _send(client, sending, question)
    removed = [str(each) for each in planned.changes if each.new is None]
    if removed:
        confirm.ask(removed, [f"it removes {counted(len(removed), 'value')}"])
    return planned.generation


def _print(answer: Applied, as_json: bool, dry_run: bool) -> None:
    if as_json:
        changes = plan.as_json(answer.changes)
        output.emit_json({"generation": answer.generation, "warnings": answer.warnings, "changes": changes})
        return
    if answer.changes:
        click.echo("\n".join(map(str, answer.changes)))
    counts = plan.summary(answer.changes, done=not dry_run) if answer.changes else "nothing to change"
    output.say(f"{counts} (generation {answer.generation})")
    for warning in answer.warnings:
        output.say(f"warning: {warning}", err=True)
