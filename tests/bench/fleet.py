"""How long a change takes to all nodes of a fleet, and what they ask of the server: `python -m tests.bench.fleet`.

The nodes are in this process, with real databases and data planes that only remember, so its one interpreter is the
bottleneck: with nodes of their own processes, figures are better.
"""

import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import click

from tests.kit.fleet_nodes import Node
from tests.kit.postgres import PostgresServer, postgres_server

STATEMENTS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'fleet'"
REPORTED = 5.5  # seconds after which the server has counted what was done: a connection counts as it is used


def transactions(server: PostgresServer) -> int:
    """Those that the server has counted, a moment ago."""
    threading.Event().wait(REPORTED)
    return int(str(server.execute("postgres", STATEMENTS)[0][0]))


@click.command()
@click.option("--nodes", default=10, show_default=True)
@click.option("--rate", default=50.0, show_default=True, help="Mutations a second, made on the nodes in turn.")
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--quiet", "notifies", flag_value=False, default=True, help="Without notifications.")
def main(nodes: int, rate: float, seconds: float, notifies: bool) -> None:
    """Measure."""
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = server.create("fleet")
        made = [stack.enter_context(closing(Node(url, f"n{i}", folder, notifies=notifies))) for i in range(nodes)]
        for each in made:
            each.follows(4.0)
        threading.Event().wait(6.0)  # the server counts what the start asked with the next poll
        before = transactions(server)
        threading.Event().wait(8.0)
        idle = (transactions(server) - before) / (8.0 + REPORTED)
        print(f"idle: {idle / nodes:.2f} transactions a second for each node")
        before, began = transactions(server), time.monotonic()
        took, lags = _mutate(made, rate, seconds)
        spent = time.monotonic() - began
        each_mutation = (transactions(server) - before - idle * spent) / len(took)
        for name, found in (("the mutation itself", took), ("to the last node", lags)):
            cuts = statistics.quantiles(found, n=100)
            print(f"{name}: p50 {cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms, most {max(found) * 1e3:.0f} ms")
        print(f"{len(took)} mutations in {spent:.1f} s, {each_mutation:.1f} transactions for each on {nodes} nodes")


def _mutate(made: list[Node], rate: float, seconds: float) -> tuple[list[float], list[float]]:
    """How long each mutation took, and from its begin until the last node had it."""
    begun: dict[int, float] = {}
    reached: list[dict[int, float]] = [{} for _ in made]
    end = threading.Event()

    def watch(node: Node, times: dict[int, float]) -> None:
        seen = node.writer.table.generation
        while not end.is_set():
            now = node.writer.table.generation
            for generation in range(seen + 1, now + 1):
                times[generation] = time.monotonic()
            seen = now
            end.wait(0.002)

    watchers = [threading.Thread(target=watch, args=each) for each in zip(made, reached, strict=True)]
    for each in watchers:
        each.start()
    took, start = [], time.monotonic()
    for number in range(int(rate * seconds)):
        end.wait(max(0.0, start + number / rate - time.monotonic()))
        before = time.monotonic()
        begun[made[number % len(made)].add(f"r{number}.test")] = before
        took.append(time.monotonic() - before)
    end.wait(5.0)
    end.set()
    for each in watchers:
        each.join()
    lags = [max(times[generation] for times in reached) - at for generation, at in begun.items()]
    return took, lags


if __name__ == "__main__":
    main()
