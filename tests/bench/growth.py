"""How mcproxy's cost grows: with routes, rules, open connections, streams, bytes of a body, and workers.

Each curve is measured from its least to its most value in one go, once a round; a line is the median of all rounds.
What is to be seen is whether a line bends upwards.
"""

import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mcproxy.model import Backend, FirewallRule, Listener, Route, RuleKind
from mcproxy.store.store import Store
from tests.bench import l7
from tests.bench.figures import figure
from tests.bench.l4 import (
    Site,
    calm,
    connections,
    greeted,
    hang_up,
    load_core,
    process,
    running,
    serve,
    talk,
)
from tests.bench.l7_peers import backend
from tests.bench.peers import RULES, Job, mcproxy
from tests.bench.peers import rules as networks
from tests.bench.plan import H2
from tests.bench.run import Failures, Lab
from tests.kit.peers import client_hello, free_port

ASKED = 300  # of many routes, names that are asked for
WARM_UP = 0.2  # seconds of load for each worker before it is measured: what is made once is there then
BODIES = 1_500  # at most, for a second of load
BYTES = 300e6  # of bodies, for a second of load
Points = Iterator[tuple[str, int, float]]  # the line, its x, its cost
Growth = dict[str, dict[str, dict[str, dict[int, list[float]]]]]  # by curve, build, line and x: a cost for each round


class Curve(NamedTuple):
    """One plot."""

    title: str
    across: str  # what grows
    unit: str  # of the cost
    values: tuple[int, ...]
    measure: Callable[[Lab, str, tuple[int, ...]], Points]


@contextmanager
def l4_site(here: Lab, build: str, workers: int = 1, names: Sequence[str] = (), rules: int = RULES) -> Iterator[Site]:
    """mcproxy in front of a backend of raw streams; a.test leads there, and these names."""
    with process(serve) as target:
        port, folder = free_port(), here.fresh()
        job = Job(folder, port, target, workers=workers, python=here.python(build), rules=rules)
        command = mcproxy(job)
        if names:
            fill(folder / "mcproxy.db", job, ["a.test", *names])
        with running(command, port, workers, folder) as pid:
            calm(pid)
            connections(Site(pid, port, WARM_UP * workers))
            yield Site(pid, port, here.seconds)


def fill(path: Path, job: Job, names: Sequence[str]) -> None:
    """Make a database with so many routes; to read them from a file would take a minute."""
    store = Store.open(path)
    backend_of_all = Backend("127.0.0.1", job.backend)
    blocked = [FirewallRule(RuleKind.CIDR, each) for each in networks(job.rules)]
    store.seed([(Listener(f"127.0.0.1:{job.port}"), [Route(name, backend_of_all) for name in names])], blocked, 1.0)
    store.close()


@contextmanager
def h2_site(here: Lab, build: str) -> Iterator[tuple[Site, Path]]:
    """mcproxy between HTTP/2 and HTTP/2, and the folder of the backend's files."""
    files = here.fresh()
    with backend(files, H2) as target:
        port, folder = free_port(), here.fresh()
        with running(mcproxy(Job(folder, port, target, H2, python=here.python(build))), port, 1, folder) as pid:
            site = Site(pid, port, here.seconds)
            l7.warm(H2, site)
            calm(pid)
            yield site, files


def routes(here: Lab, build: str, values: tuple[int, ...]) -> Points:
    """The CPU of a connection to one of so many names."""
    for value in values:
        names = [f"r{number}.test" for number in range(value)]
        hellos = [client_hello(name) for name in random.Random(value).sample(names, min(ASKED, value))]
        with l4_site(here, build, names=names) as site:
            yield "", value, figure(1e6, connections(site, hellos)).cost


def rules(here: Lab, build: str, values: tuple[int, ...]) -> Points:
    """The CPU of a connection that none of so many firewall rules blocks."""
    for value in values:
        with l4_site(here, build, rules=value) as site:
            yield "", value, figure(1e6, connections(site)).cost


def crowds(here: Lab, build: str, values: tuple[int, ...]) -> Points:
    """The CPU of a message on one of so many open connections, which take turns."""
    with l4_site(here, build) as site:
        clients = list[socket.socket]()
        for value in values:
            clients += greeted(site.port, value - len(clients))
            time.sleep(1)  # what is done once for a connection, later
            yield "", value, figure(1e6, talk(site, clients)).cost
        hang_up(site.pid, clients)


def streams(here: Lab, build: str, values: tuple[int, ...]) -> Points:
    """The CPU of a request among so many at once, on one connection."""
    with h2_site(here, build) as (site, _):
        for value in values:
            yield "", value, figure(1e6, l7.steady(site, H2, 1, value)).cost


def bodies(here: Lab, build: str, values: tuple[int, ...]) -> Points:
    """The CPU of a gigabyte, in bodies of so many bytes, one at a time."""
    with h2_site(here, build) as (site, files):
        for value in values:
            path = files / f"body{value}"
            with path.open("wb") as body:
                body.truncate(value)
            count = max(1, min(int(here.seconds * BODIES), int(here.seconds * BYTES / value)))
            for line, name, more in (("down", path.name, []), ("up", "small", ["-d", str(path)])):
                done = l7.h2load(site, H2, name, count, 1, 1, *more)
                yield line, value, done.used / (count * value / 1e9)


def workers(here: Lab, build: str, values: tuple[int, ...]) -> Points:
    """The CPU of a connection, in all of so many workers; the load has the core beside theirs, or shares their last."""
    before = os.sched_getaffinity(0)
    for value in values:
        os.sched_setaffinity(0, {load_core(value)})
        try:
            with l4_site(here, build, workers=value) as site:
                yield "", value, figure(1e6, connections(site)).cost
        finally:
            os.sched_setaffinity(0, before)


CURVES = {
    "routes": Curve("Routes", "routes", "µs a connection", (10, 1_000, 10_000, 100_000), routes),
    "rules": Curve("Firewall rules", "rules", "µs a connection", (10, 1_000, 10_000, 100_000), rules),
    "connections": Curve("Open connections", "connections", "µs a message", (100, 1_000, 3_000, 9_000), crowds),
    "streams": Curve("Streams of one connection", "requests at once", "µs a request", (1, 3, 10, 30, 100), streams),
    "bodies": Curve(
        "Bodies", "bytes of a body", "s/GB", (1_000, 10_000, 100_000, 1_000_000, 10**7, 10**8, 10**9), bodies
    ),
    "workers": Curve("Workers", "workers", "µs a connection", (1, 2, 3, 4), workers),
}


def go_round(here: Lab, curves: list[tuple[str, str]], growth: Growth, failures: Failures, ends: bool = False) -> None:
    """One round of these curves and builds, added and shown; `ends`: of their first and last points only."""
    for name, build in curves:
        curve, shown = CURVES[name], []
        began = time.monotonic()
        lines = growth.setdefault(name, {}).setdefault(build, {})
        values = (curve.values[0], curve.values[-1]) if ends else curve.values
        try:
            for line, value, cost in curve.measure(here, build, values):
                lines.setdefault(line, {}).setdefault(value, []).append(cost)
                shown.append(f"{line}{' ' * bool(line)}{value:g}: {cost:.4g}")
        except Exception as error:  # noqa: BLE001 - it is not to end a run of 20 minutes
            failures.setdefault(f"growth.{name}", {})[build] = f"{type(error).__name__}: {error}"
            shown.append(f"failed: {error}")
        took = time.monotonic() - began
        print(f"growth    {name} {build} {took:.1f} s   {', '.join(shown)}", file=sys.stderr, flush=True)
