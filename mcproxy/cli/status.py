"""`mcproxy status`, `mcproxy metrics` and `mcproxy log-level`: the server's health, its metrics and its log level."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import output
from mcproxy.cli.client import Client, connected
from mcproxy.cli.columns import Column
from mcproxy.cli.options import example, json_option, until_interrupted
from mcproxy.cli.target import target_options
from mcproxy.cli.values import Word
from mcproxy.model import LOG_LEVELS, counted, warned_from
from mcproxy.words import key_remedy

WATCH_INTERVAL = 2.0  # seconds between two looks of --watch
SHOWN_ROUTES = 20  # busiest routes on a terminal; --json and pipes have all of them
_LISTENERS = (
    Column("LISTENER"),
    Column("STATE"),
    Column("ROUTES", rank=2),
    Column("OPEN"),
    Column("TOTAL"),
    Column("REFUSED"),
    Column("RECEIVED", rank=1),
    Column("SENT", rank=1),
)
_WORKERS = (
    Column("WORKER"),
    Column("STATE"),
    Column("PID", rank=1),
    Column("UP", rank=2),
    Column("OPEN"),
    Column("RESTARTS"),
    Column("LAG"),
)
_ROUTES = (
    Column("LISTENER", rank=3, least=10),
    Column("HOST", least=24),
    Column("OPEN"),
    Column("TOTAL"),
    Column("REFUSED"),
    Column("RECEIVED", rank=2),
    Column("SENT", rank=1),
    Column("BACKEND", rank=1, least=8),
)


@click.command(epilog=example("mcproxy status", "mcproxy status --json --watch"))
@target_options
@json_option
@click.option("--watch", "again", is_flag=True, help=f"Look again every {WATCH_INTERVAL:g} seconds, until interrupted.")
def status(config_file: Path | None, as_json: bool, again: bool) -> None:
    """Show health, version, uptime, generation, and the counters of listeners and routes."""
    with until_interrupted() if again else nullcontext(), connected(config_file) as client:
        _show(client, as_json, again)
        while again:
            time.sleep(WATCH_INTERVAL)
            _show(client, as_json, again)


def _show(client: Client, as_json: bool, again: bool) -> None:
    answer = client.call("GetStatus", pb.GetStatusRequest())
    routes = list(client.pages("ListRouteCounters", pb.ListRouteCountersRequest(), "routes"))
    if as_json:
        found = output.plain(answer)
        found["uptime_seconds"] = round(max(0.0, time.time() - answer.started_at), 3)
        found["route_counters"] = [output.plain(each) for each in routes]
        (output.emit_line if again else output.emit_json)(found)
        return
    if again and output.on_terminal():
        click.clear()
    _summary(answer)
    if answer.workers:
        _workers(answer)
    _listeners(answer)
    _routes(routes)


def _summary(answer: pb.GetStatusResponse) -> None:
    uptime = output.span(time.time() - answer.started_at)
    build = f" ({answer.build})" if answer.build else ""  # an older server doesn't say
    output.say(f"{answer.state}, mcproxy {answer.version}{build}, up {uptime}, pid {answer.pid}")
    routes, rules = counted(answer.routes, "route"), counted(answer.firewall_rules, "firewall rule")
    output.say(f"generation {answer.generation}, {routes}, {rules}")
    if answer.HasField("node"):
        _node(answer.node)
    if answer.file_differences:
        values = counted(answer.file_differences, "value")
        output.say(f"file and database differ in {values}; the database is in force: mcproxy diff")
    if answer.exposed_keys:
        output.say(f"warning: {answer.exposed_keys}")
    if answer.geoip.path:
        output.say(f"GeoIP {answer.geoip.path}, built {output.moment(answer.geoip.built_at)}")
    _reload(answer.last_reload)
    for worker in answer.workers:
        if worker.failure and worker.state != "serving":
            output.say(f"warning: worker {worker.number} is {worker.state}: {worker.failure}")
    for problem in answer.problems:
        output.say(f"warning: {problem.hostname} on {problem.listener}: {problem.key}: {problem.message}")
    for each in answer.certificates:
        _certificate(each, time.time())


def _node(node: pb.NodeStatus) -> None:
    """The part of this node in its fleet."""
    behind = f", {counted(node.generations_behind, 'generation')} behind" if node.generations_behind else ""
    output.say(f"node {node.name}, {node.state} since {output.moment(node.since)}{behind}")
    if node.reason:
        output.say(f"warning: it serves on and takes no changes: {node.reason}")
    for reason in node.unbound.values():
        output.say(f"warning: {reason}; it serves without this address and tries again")
    if node.cache_problem:
        output.say(f"warning: its copy of the fleet's table is old: {node.cache_problem}")


def _certificate(each: pb.CertificateStatus, now: float) -> None:
    """What is to be known of one; that it has expired or can't be used is a problem, which has been said."""
    its = f"the certificate of {each.hostname} ({each.path})"
    if each.unread:
        output.say(f"warning: {its} is used, but its names or dates can't be read: {each.unread}")
    if warned_from(each.not_before, each.not_after) < now < each.not_after:
        output.say(f"warning: {its} expires in {output.span(each.not_after - now)}")


def _reload(last: pb.ReloadStatus) -> None:
    """Print the problems that the last reload left."""
    at = output.moment(last.at)
    if last.refused:
        output.say(f"warning: the reload of {at} changed nothing: {last.refused}")
    for problem in last.problems:
        output.say(f"warning: the reload of {at}: {problem}")
    for change in last.needs_restart:
        output.say(f"warning: {change.key} is {change.old}, and {change.new} in the file: {key_remedy(change.key)}")


def _workers(answer: pb.GetStatusResponse) -> None:
    now = time.time()
    rows = [
        (
            each.number,
            each.state,
            each.pid or "-",
            output.span(now - each.started_at) if each.pid else "-",
            each.connections,
            each.restarts,
            f"{each.lag_seconds * 1000:g} ms",
        )
        for each in answer.workers
    ]
    _section(_WORKERS, rows, "")


def _listeners(answer: pb.GetStatusResponse) -> None:
    rows = [
        (
            each.addr,
            "accepting" if each.accepting else "closed",
            each.routes,
            each.connections,
            each.accepted,
            each.refused,
            output.amount(each.received_bytes),
            output.amount(each.sent_bytes),
        )
        for each in answer.listeners
    ]
    _section(_LISTENERS, rows, "No listeners.")


def _routes(routes: list[pb.RouteCounters]) -> None:
    busiest = sorted(routes, key=lambda each: -each.accepted)
    shown = busiest[:SHOWN_ROUTES] if output.on_terminal() else busiest
    rows = [
        (
            each.listener,
            each.hostname,
            each.connections,
            each.accepted,
            each.refused,
            output.amount(each.received_bytes),
            output.amount(each.sent_bytes),
            each.spoken.version or "-",
        )
        for each in shown
    ]
    _section(_ROUTES, rows, "No route has had a connection yet.")
    if len(shown) < len(busiest):
        output.say(f"and {len(busiest) - len(shown)} more")


def _section(columns: Sequence[Column], rows: Sequence[Sequence[output.Cell]], empty: str) -> None:
    """Print a table below the other output, or, instead of an empty one, why it is empty."""
    click.echo()
    if rows:
        output.emit_table(columns, rows, empty)
    else:
        click.echo(empty)


@click.command("log-level", epilog=example("mcproxy log-level debug"))
@target_options
@click.argument("level", metavar="LEVEL", type=Word(LOG_LEVELS))
def log_level(config_file: Path | None, level: str) -> None:
    """Log from LEVEL on: debug, info, warning or error. Above info there is no line for a connection.

    The level holds until the next start, or until a reload finds that the file's level has changed.
    """
    with connected(config_file) as client:
        client.call("SetLogLevel", pb.SetLogLevelRequest(level=level))
    output.say(f"the log level is {level}")


@click.command(epilog=example("mcproxy metrics > /var/lib/node_exporter/mcproxy.prom"))
@target_options
def metrics(config_file: Path | None) -> None:
    """Print Prometheus text, for node_exporter's textfile collector."""
    with connected(config_file) as client:
        text = client.call("GetMetrics", pb.GetMetricsRequest()).text
    click.echo("\n".join(map(output.clean, text.split("\n"))), nl=False)
