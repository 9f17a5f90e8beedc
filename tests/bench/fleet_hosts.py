"""A fleet of real nodes, and of watchers that ask what nodes ask: how long a change takes, and what the server does.

    python -m tests.bench.fleet_hosts --nodes 10 --rate 50
    python -m tests.bench.fleet_hosts --nodes 2 --watchers 100 --rate 5

Nodes are processes on hosts of their own, as in tests.kit.fleet_faults, on one machine, whose cores they share with the
server. Of the mutations, which nodes make in turn, some are followed: each node is asked until it has them in force.
Watchers are connections of one more process: they listen, poll, report and read the audit as nodes do, keep nothing,
and note when they have read each generation.
"""

import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from copy import copy
from pathlib import Path
from typing import Any

import click
import grpc
import psycopg

from mcproxy.fleet.follower import PACE, POLL
from mcproxy.fleet.listening import _POLL as ASK
from mcproxy.fleet.listening import CHANNEL, SLICE
from mcproxy.fleet.nodes import BEAT, SOONEST, Report, claim
from mcproxy.store.postgres import _limits as limits
from tests.kit.fleet_faults import DATABASE_PORT, Node
from tests.kit.network import Network, alone
from tests.kit.peers import Backend, says, until
from tests.kit.postgres import USER, PostgresServer
from tests.kit.program import ROOT

FOLLOWED = (
    2.0  # mutations a second that are followed to all nodes: to ask ten nodes often takes more CPU than they need
)
STEP = 0.02  # seconds between two questions to a node whether it has one
CALLERS = 4  # calls that a node may have under way: no mutation waits for one before it
REPORTED = 5.5  # seconds after which the server has counted what was done: a connection counts as it is used
TRANSACTIONS = "SELECT xact_commit + xact_rollback, xact_rollback FROM pg_stat_database WHERE datname = 'fleet'"
TAIL = "SELECT * FROM audit WHERE generation >= %s ORDER BY generation, sequence LIMIT 5000"


class Load:
    """What the server and the nodes have done so far."""

    def __init__(self, server: PostgresServer, nodes: list[Node]) -> None:
        threading.Event().wait(REPORTED)
        self.at = time.monotonic()
        self.transactions, self.undone = (int(str(each)) for each in server.execute("postgres", TRANSACTIONS)[0])
        self.seconds = _cpu(server.pid)
        self.nodes_seconds = sum(_cpu(each.pid) for each in nodes)

    def since(self, before: "Load") -> "Load":
        """The same, a second."""
        spent = self.at - before.at
        found = copy(self)
        for name in ("transactions", "undone", "seconds", "nodes_seconds"):
            setattr(found, name, (getattr(self, name) - getattr(before, name)) / spent)
        return found


def _cpu(pid: int) -> float:
    """Seconds of a process and of its children, those that have ended too."""

    def of(each: int, fields: slice) -> float:
        with contextlib.suppress(OSError):
            found = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            return sum(map(int, found[fields])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return of(pid, slice(11, 15)) + sum(of(int(each), slice(11, 13)) for each in children)


class Watchers:
    """The process of the watchers."""

    def __init__(self, url: str, count: int) -> None:
        command = [sys.executable, "-m", "tests.bench.fleet_hosts", "--watch", url, "--watchers", str(count)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> dict[int, float]:
        """When the last of them had each generation."""
        shown, _ = self._process.communicate("end\n")
        return {int(generation): at for generation, at in json.loads(shown).items()}


async def watch(url: str, count: int) -> dict[int, float]:
    """Be watchers until standard input has a line; when the last one had each generation."""
    last: dict[int, float] = {}
    ready = [asyncio.Event() for _ in range(count)]
    running = [asyncio.create_task(_watcher(url, number, last, ready[number])) for number in range(count)]
    await asyncio.gather(*(each.wait() for each in ready))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for each in running:
        assert not each.done(), each.exception()
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return last


async def _watcher(url: str, number: int, last: dict[int, float], ready: asyncio.Event) -> None:
    ear = await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)
    truth = await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)
    await ear.execute(f"LISTEN {CHANNEL}")
    report = Report(f"watcher{number}", f"{number:032x}", time.monotonic())
    statements: list[tuple[str, Any]] = []

    def note(statement: str, values: Any) -> Any:
        statements.append((statement, values))
        return type("Result", (), {"rowcount": 1})

    claim(note, report)
    row = await (await ear.execute(ASK)).fetchone()
    assert row is not None
    have = int(row[0])
    ready.set()
    poll_at = time.monotonic() + POLL * number / 100
    told_at, told, next_at = 0.0, have, 0.0
    while True:
        now = time.monotonic()
        if now >= poll_at:
            await ear.execute(ASK)
            poll_at = now + POLL
        if now - told_at >= (BEAT if have == told else SOONEST):
            await ear.execute(*statements[0])
            told_at, told = now, have
        heard = [each.payload async for each in ear.notifies(timeout=min(SLICE, max(0.0, poll_at - now)), stop_after=1)]
        if any(int(payload.rpartition(" ")[2]) > have for payload in heard):
            await asyncio.sleep(next_at - time.monotonic())
            next_at = time.monotonic() + PACE
            await truth.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await truth.execute(limits(5.0))
            await truth.execute("SELECT generation FROM head")
            rows = await (await truth.execute(TAIL, [have])).fetchall()
            await truth.execute("COMMIT")
            seen = time.monotonic()
            for generation in range(have + 1, rows[-1][0] + 1):
                last[generation] = max(seen, last.get(generation, 0.0))
            have = rows[-1][0]


class Followed:
    """Mutations that are followed: how long until each node had them in force."""

    def __init__(self, nodes: list[Node]) -> None:
        self.lags: list[float] = []
        self.last: list[float] = []  # to the last node
        self._nodes = nodes
        self._pool = ThreadPoolExecutor(len(nodes) * CALLERS)
        self._waiting: list[Any] = []

    def follow(self, generation: int, began: float) -> None:
        self._waiting.append([self._pool.submit(self._until, each, generation, began) for each in self._nodes])

    def _until(self, node: Node, generation: int, began: float) -> float:
        while node.status().generation < generation:
            threading.Event().wait(STEP)
        return time.monotonic() - began

    def end(self) -> None:
        for each in self._waiting:
            found = [lag.result() for lag in each]
            self.lags += found
            self.last.append(max(found))


def mutate(nodes: list[Node], rate: float, seconds: float) -> tuple[list[float], Followed, dict[int, float]]:
    """How long mutations took, those that were followed, and when each generation was begun."""
    followed = Followed(nodes)
    took: list[float] = []
    begun: dict[int, float] = {}
    pace = threading.Event()
    failed: list[str] = []
    chance = random.Random(0)
    start = time.monotonic()

    def one(number: int) -> None:
        began = time.monotonic()
        try:
            generation = nodes[number % len(nodes)].add(f"r{number}.test")
        except grpc.RpcError as error:
            failed.append(str(error.details()))
            return
        took.append(time.monotonic() - began)
        begun[generation] = began
        if chance.random() < FOLLOWED / rate:
            followed.follow(generation, began)

    with ThreadPoolExecutor(len(nodes) * CALLERS) as pool:
        for number in range(int(rate * seconds)):
            pace.wait(max(0.0, start + number / rate - time.monotonic()))
            pool.submit(one, number)
    followed.end()
    if failed:
        click.echo(f"{len(failed)} mutations failed, such as: {failed[0]}")
    return took, followed, begun


def shown(name: str, seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{name}: p50 {cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms, most {max(seconds) * 1e3:.0f} ms"


def measure(folder: Path, count: int, watchers: int, rate: float, seconds: float) -> None:
    """Start all of them, and print what is found."""
    with ExitStack() as stack:
        network = Network()
        backend = stack.enter_context(closing(Backend(says("x"))))
        host = network.host()
        (folder / "pg").mkdir()
        settings = {"max_connections": str(2 * (count + watchers) + 20), "shared_buffers": "64MB"}
        server = PostgresServer(folder / "pg", host.address, host.prefix, settings=settings, port=DATABASE_PORT)
        stack.callback(server.stop)
        server.start()
        server.create("fleet")
        url = f"postgresql://{USER}@{host.address}:{DATABASE_PORT}/fleet"
        nodes = [Node(f"n{each}", network.host(), folder, url, backend.address) for each in range(count)]
        with ThreadPoolExecutor(4) as pool:
            for each in pool.map(Node.start, nodes):
                stack.callback(each.kill)
        watching = Watchers(url, watchers) if watchers else None
        until(lambda: all(each.state == "following" for each in nodes))
        threading.Event().wait(2.0)
        before = Load(server, nodes)
        threading.Event().wait(10.0)
        idle = Load(server, nodes)
        resting = idle.since(before)
        everyone = count + watchers
        asked, cpu = resting.transactions / everyone, resting.seconds * 100
        click.echo(f"idle: {asked:.2f} transactions a second for each of {everyone}; {cpu:.2f} % of a core")
        took, followed, begun = mutate(nodes, rate, seconds)
        after = Load(server, nodes)
        worked = after.since(idle)
        done = len(took) / (after.at - idle.at)
        click.echo(f"{len(took) / (max(begun.values()) - min(begun.values())):.1f} mutations a second")
        click.echo(shown("the mutation itself", took))
        click.echo(shown("in force on a node", followed.lags))
        click.echo(shown("in force on all nodes", followed.last))
        transactions = (worked.transactions - resting.transactions) / done
        click.echo(
            f"a mutation: {transactions:.1f} transactions, {worked.undone / done:.2f} of them rolled back; "
            f"CPU: {(worked.seconds - resting.seconds) / done * 1e3:.1f} ms of the server, "
            f"{(worked.nodes_seconds - resting.nodes_seconds) / done * 1e3:.1f} ms of all nodes"
        )
        if watching is not None:
            threading.Event().wait(2.0)
            last = watching.end()
            click.echo(shown("read by all watchers", [last[each] - at for each, at in begun.items()]))


@click.command()
@click.option("--nodes", default=10, show_default=True)
@click.option("--watchers", default=0, show_default=True)
@click.option("--rate", default=50.0, show_default=True, help="Mutations a second.")
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--watch", "url", default="", hidden=True)
def main(nodes: int, watchers: int, rate: float, seconds: float, url: str) -> None:
    """Measure, or be the watchers."""
    if url:
        click.echo(json.dumps(asyncio.run(watch(url, watchers))))
        return
    with tempfile.TemporaryDirectory(prefix="mcproxy-fleet-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        measure(Path(folder), nodes, watchers, rate, seconds)


if __name__ == "__main__":
    alone("tests.bench.fleet_hosts")
    main()
