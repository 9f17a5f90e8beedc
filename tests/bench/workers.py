"""What several workers cost and bring, beside one process: about two minutes on two cores.

    python -m tests.bench.workers [mutations] [rate] [--rounds 3] [--seconds 3] [--share 0.2]

1. `mutations`: one route added among 100,000, by gRPC: how long the answer takes, and the CPU time of all processes.
2. `rate`: connections of an l4 route, and requests of an l7 route over HTTP/2, with one worker and with two. So that
   load and backend don't compete with them, each process that serves is in a control group of its own, which may use
   `share` of a core (cgroup v1, /sys/fs/cgroup/cpu; needs root): two cores do what needs four. "held" is the share of
   the periods in which it wanted more than that: near 100 %, nothing else was the bottleneck. Runs in a network
   namespace of its own: h2load has one address for each worker.

Rounds alternate; the medians of all rounds come last.
"""

import argparse
import itertools
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.model import Listener
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from mcproxy.store.store import Store
from tests.bench import l7_peers
from tests.bench.l4 import Site, connections, cpu, process, running, serve, tree
from tests.bench.l7 import serves
from tests.bench.plan import HTTP1
from tests.kit.admin_stub import stub
from tests.kit.control_plane import route
from tests.kit.peers import Authority, free_port, until

ROUTES = 100_000
MUTATIONS = 200
COUNTS = (1, 2)
GROUPS = Path("/sys/fs/cgroup/cpu")
PERIOD = 10_000  # microseconds
PORTS = itertools.count(2_000)  # which no client has: this namespace has nobody else
Load = Callable[[int, float, int], float]  # port, seconds, workers -> units of work done
CONFIGURATION = """database.path = "{folder}/mcproxy.db"
proxy.workers = {workers}
grpc.addr = "unix:{folder}/admin.sock"
"""


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "mcproxy", "server", "-c", f"{folder}/mcproxy.toml"]


# --- mutations --------------------------------------------------------------------------------------------------------


def mutate(seed: Path, port: int, workers: int) -> tuple[float, float]:
    """Milliseconds until the answer, the median, and of CPU, for one mutation."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        shutil.copy(seed, folder / "mcproxy.db")
        (folder / "mcproxy.toml").write_text(CONFIGURATION.format(folder=folder, workers=workers))
        pid = stack.enter_context(running(command(folder), port, os.cpu_count() or 1))
        admin = stack.enter_context(stub(folder))

        def add(name: str) -> float:
            request = pb.AddRouteRequest(route=pb.Route(hostname=name, backend="127.0.0.1:1"))
            began = time.perf_counter()
            admin.AddRoute(request, timeout=60, wait_for_ready=True)
            return time.perf_counter() - began

        for number in range(10):
            add(f"first{number}.test")
        before = cpu(pid)
        took = median(add(f"n{number}.test") for number in range(MUTATIONS)) * 1e3
        return took, (cpu(pid) - before) / MUTATIONS * 1e3


def mutations(options: argparse.Namespace) -> None:
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as name:
        seed, port = Path(name, "mcproxy.db"), free_port()
        store = Store.open(seed)
        routes = [route(f"h{number}.example.org") for number in range(ROUTES)]
        store.seed([(Listener(f"127.0.0.1:{port}"), routes)], [], 1.0)
        store.close()
        for _ in range(options.rounds):
            for count, rounds in found.items():
                rounds.append(mutate(seed, port, count))
                print(f"  {count} workers: answer {rounds[-1][0]:6.2f} ms, CPU {rounds[-1][1]:6.2f} ms", flush=True)
    one, two = [[median(column) for column in zip(*rounds, strict=True)] for rounds in found.values()]
    for what, a, b in zip(("answer", "CPU"), one, two, strict=True):
        print(f"a mutation among {ROUTES} routes, {what}: {a:.2f} and {b:.2f} ms, x{b / a:.2f}")


# --- rate -------------------------------------------------------------------------------------------------------------


@contextmanager
def held(pids: list[int], share: float) -> Iterator[Callable[[], float]]:
    """Each process may use this share of a core. Returns the share of the periods so far in which that was too little.

    It is that of the process that was held the least.
    """
    groups = []
    try:
        for pid in pids:
            group = GROUPS / f"mcproxy-bench-{pid}"
            group.mkdir()
            groups.append(group)
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(int(share * PERIOD)))
            (group / "cgroup.procs").write_text(str(pid))

        def periods(group: Path) -> tuple[int, int]:
            found = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
            return int(found["nr_throttled"]), int(found["nr_periods"])

        before = [periods(group) for group in groups]

        def so_far() -> float:
            after = [periods(group) for group in groups]
            return min((b[0] - a[0]) / max(1, b[1] - a[1]) for a, b in zip(before, after, strict=True))

        yield so_far
    finally:
        for pid, group in zip(pids, groups, strict=False):
            if Path(f"/proc/{pid}").exists():
                (GROUPS / "cgroup.procs").write_text(str(pid))
            until(lambda group=group: _removed(group), f"{group} to be empty")  # type: ignore[misc]


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def serving(pid: int, workers: int) -> list[int]:
    """The processes that serve: itself, or the children of the nursery."""
    return [pid] if workers == 1 else tree(pid)[2:]


def addresses() -> list[str]:
    """One for each of two workers, as the source of what connects to it: this machine's own in this namespace."""
    found: dict[int, str] = {}
    for number in range(1, 250):
        found.setdefault(home(pack(f"10.9.0.{number}"), max(COUNTS)), f"10.9.0.{number}")
    return list(found.values())


def requests(port: int, seconds: float, workers: int) -> float:
    """Requests that were answered: each worker has 30 clients from an address of its own, one request at a time."""
    loads = [
        subprocess.Popen(
            ["h2load", "-D", f"{seconds * 1e3:.0f}ms", "-c", "30", "-m", "1", "--connect-to", f"{address}:{port}",
             f"https://a.test:{port}/small"],
            stdout=subprocess.PIPE, text=True,
        )
        for address in addresses()[:workers]
    ]  # fmt: skip
    return sum(_done(load.communicate()[0]) for load in loads)


def _done(printed: str) -> int:
    found = re.search(r"(\d+) succeeded", printed)
    assert found, printed
    return int(found[1])


def measure(folder: Path, routes: str, workers: int, load: Load, options: Any) -> Any:
    """Units a second, milliseconds of CPU of what serves for each, and how much it was held."""
    port = next(PORTS)
    (folder / "mcproxy.db").unlink(missing_ok=True)
    (folder / "mcproxy.toml").write_text(
        CONFIGURATION.format(folder=folder, workers=workers) + f'[[listeners]]\naddr = "0.0.0.0:{port}"\n' + routes
    )
    with running(command(folder), port, os.cpu_count() or 1) as pid:
        until(lambda: len(serving(pid, workers)) == workers, "all workers")
        if load is requests:
            until(lambda: serves(port), "an answer")
        load(port, 0.5, workers)
        pids = serving(pid, workers)
        with held(pids, options.share) as so_far:
            before = sum(cpu(each) for each in pids)
            done = load(port, options.seconds, workers)
            used, throttled = sum(cpu(each) for each in pids) - before, so_far()
    return done / options.seconds, used / done * 1e3, throttled


def opened(port: int, seconds: float, _workers: int) -> float:
    """Connections of l4."""
    return connections(Site(os.getpid(), port, seconds)).units


def rate(options: argparse.Namespace) -> None:
    for address in addresses():
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with (
        process(serve) as streams,
        tempfile.TemporaryDirectory() as name,
        l7_peers.backend(folder := Path(name), HTTP1) as target,
    ):
        Authority(folder).pair("a.test")
        l7 = f'mode = "l7", tls_cert = "{folder}/a.test.pem", tls_key = "{folder}/a.test.key"'
        kinds: dict[str, tuple[str, Load]] = {
            "l4 connections": (listening_at(streams), opened),
            "l7 requests": (listening_at(target, l7), requests),
        }
        for kind, (routes, load) in kinds.items():
            found: dict[int, list[Any]] = {count: [] for count in COUNTS}
            for _ in range(options.rounds):
                for count, rounds in found.items():
                    rounds.append(measure(folder, routes, count, load, options))
                    a_second, each, throttled = rounds[-1]
                    print(f"  {kind}, {count} workers: {a_second:7.0f}/s, {each:.3f} ms of CPU, held {throttled:.0%}",
                          flush=True)  # fmt: skip
            one, two = [[median(column) for column in zip(*rounds, strict=True)] for rounds in found.values()]
            print(f"{kind}: {one[0]:.0f} and {two[0]:.0f}/s, x{two[0] / one[0]:.2f}; CPU {one[1]:.3f} and {two[1]:.3f}"
                  f" ms, x{two[1] / one[1]:.2f}")  # fmt: skip


def listening_at(target: int, more: str = "") -> str:
    rest = f", {more}" if more else ""
    return f'routes = [{{ hostname = "a.test", backend = "127.0.0.1:{target}"{rest} }}]\n'


def main() -> None:
    """What is named, or all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="*", choices=["mutations", "rate", []])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--share", type=float, default=0.2, help="of a core, for each process that serves")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # the namespace
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ["PATH"] += ":/usr/sbin"
    chosen = options.what or ["mutations", "rate"]
    if options.inside:
        rate(options)
        return
    if "mutations" in chosen:
        mutations(options)
    if "rate" in chosen:
        same = [f"--{name}={getattr(options, name)}" for name in ("rounds", "seconds", "share")]
        subprocess.run(
            ["unshare", "--net", sys.executable, "-m", "tests.bench.workers", "--inside", *same, "rate"], check=True
        )


if __name__ == "__main__":
    main()
