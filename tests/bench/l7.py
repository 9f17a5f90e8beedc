"""HTTP through TLS: the proxy beside HAProxy, nginx, Envoy, Traefik and Caddy, where they are installed.

    python -m tests.bench.l7 [--pairings h2-h1 h1-h1 ...] [--requests 40000] [--rounds 3] [--only mcproxy envoy]
        [--workers 1]

A pairing is the client's version of HTTP and the backend's. h2load (Debian: nghttp2-client) asks for a file of 128
bytes: over HTTP/2 with 1 client, 10 clients, 10 clients with 10 requests at once, and 1 client with 100; over HTTP/1.1
with 1, 10 and 50 connections. Then it asks for 16 MiB, many times; then it sends 16 MiB, many times, of declared
length, and curl does so in chunks. With --differ no two requests have the same head. Backends are nghttpd
(nghttp2-server), h2c, and nginx, HTTP/1.1. The proxies run on core 0, load and backend on core 1, or as l4.py says for
--workers. h2load has one address, so all its connections are at one worker of mcproxy: what is measured is the price of
a request where there are several. l7_peers.py has the proxies' configurations.

Each cell is the median of all rounds: requests a second and microseconds of CPU for each; or seconds of CPU for a
gigabyte. A "-" behind the name: it writes no lines. The rounds alternate, so that noise hits all alike; still, only
ratios within one run mean anything.
"""

import argparse
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.l4 import cpu, load_core, running
from tests.bench.l7_peers import BULK, H2, HTTP1, MAKERS, Job, backend
from tests.kit.peers import Authority, free_port, until

VERSIONS = {"h2": H2, "h1": HTTP1}
PAIRINGS = tuple("-".join(each) for each in itertools.product(VERSIONS, VERSIONS))
LOADS = {  # connections, streams, share of the requests; by the client's version
    H2: {"1x1": (1, 1, 4), "10x1": (10, 1, 1), "10x10": (10, 10, 1), "1x100": (1, 100, 1)},
    HTTP1: {"1": (1, 1, 4), "10": (10, 1, 1), "50": (50, 1, 1)},
}
BODIES = 64
DISTINCT = 20_000  # requests whose heads differ, before they come again: more than any cache holds
SEARCH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
Cell = tuple[float, float]


def h2load(version: str, port: int, path: str, requests: int, clients: int, streams: int, *more: str) -> float:
    """Seconds that it took."""
    how = ["--h1"] if version == HTTP1 else ["-w", "24", "-W", "26"]
    done = subprocess.run(
        ["h2load", *how, "-n", str(requests), "-c", str(clients), "-m", str(streams),
         "--connect-to", f"127.0.0.1:{port}", *more, f"https://a.test:{port}/{path}"],
        capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    assert f"{requests} succeeded" in done.stdout, done.stdout
    found = re.search(r"finished in ([\d.]+)(ms|s)", done.stdout)
    assert found
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def serves(port: int) -> bool:
    """Whether a request is answered: some proxies listen before they have read where to."""
    once = ["curl", "-sSkf", "-o", "/dev/null", "--connect-to", f"::127.0.0.1:{port}", f"https://a.test:{port}/small"]
    return subprocess.run(once, timeout=60, check=False, stderr=subprocess.DEVNULL).returncode == 0


def upload_in_chunks(version: str, port: int, folder: Path, count: int) -> None:
    """Send the big file by curl, without a declared length."""
    how = "--http1.1" if version == HTTP1 else "--http2"
    once = ["-T", "-", "-H", "Expect:", "-o", "/dev/null", f"https://a.test:{port}/up"]
    for _ in range(count):
        with (folder / "big").open("rb") as body:
            subprocess.run(
                ["curl", "-sSk", how, "--connect-to", f"::127.0.0.1:{port}", *once], stdin=body, timeout=60, check=True
            )


def measure(job: Job, command: list[str], version: str, requests: int, differ: bool) -> dict[str, Cell]:
    """By load: requests a second and microseconds of CPU for each; gigabytes a second and CPU seconds for each."""
    found: dict[str, Cell] = {}
    folder, port = job.folder, job.port
    more: tuple[str, ...] = ()
    if differ:
        names = folder / "names"
        names.write_text("".join(f"https://a.test:{port}/small?{number}\n" for number in range(DISTINCT)))
        more = ("-i", str(names))
    with running(command, port, job.workers) as pid:
        until(lambda: serves(port))
        h2load(version, port, "small", 1000, 10, 1)  # once before, so that what is made once is there
        for name, (clients, streams, share) in LOADS[version].items():
            count, before = requests // share, cpu(pid)
            seconds = h2load(version, port, "small", count, clients, streams, *more)
            found[name] = count / seconds, (cpu(pid) - before) / count * 1e6
        size = BODIES * BULK / 1e9
        streams = 4 if version == H2 else 1
        up = "up" if job.protocol == HTTP1 else "small"
        for name, path, extra in (("down", "big", ()), ("up", up, ("-d", str(folder / "big")))):
            before = cpu(pid)
            seconds = h2load(version, port, path, BODIES, 1, streams, *extra)
            found[name] = size / seconds, (cpu(pid) - before) / size
        if job.protocol == HTTP1:
            before, count = cpu(pid), BODIES // 4
            upload_in_chunks(version, port, folder, count)
            found["chunks"] = 0.0, (cpu(pid) - before) / (count * BULK / 1e9)
    return found


def shown(version: str, rounds: list[dict[str, Cell]]) -> str:
    """One line of the table: the medians."""
    cells = []
    for name in rounds[0]:
        rate, cost = (statistics.median(values) for values in zip(*(each[name] for each in rounds), strict=True))
        is_load = name in LOADS[version]
        cells.append(f"{name} {rate:7.0f}/s {cost:6.1f}us" if is_load else f"{name} {cost:4.2f} s/GB")
    return "  ".join(cells)


def compare(pairing: str, options: argparse.Namespace) -> None:
    """Measure one pairing, and print it."""
    client, behind = (VERSIONS[each] for each in pairing.split("-"))
    results: dict[str, list[dict[str, Cell]]] = {}
    with tempfile.TemporaryDirectory() as name, backend(Path(name), behind) as target:
        folder = Path(name)
        Authority(folder).pair("a.test")
        for _ in range(options.rounds):
            for make, quiet in itertools.product(MAKERS, (False, True) if options.quiet else (False,)):
                each = make.__name__ + "-" * quiet
                if each not in (options.only or [each]) or (make.__name__ == "nginx" and behind == H2):
                    continue
                job = Job(folder, free_port(), target, behind, quiet, options.workers)
                command = make(job)
                if shutil.which(make.__name__):
                    results.setdefault(each, []).append(measure(job, command, client, options.requests, options.differ))
                    print(f"{pairing} {each:9} {shown(client, results[each][-1:])}", file=sys.stderr, flush=True)
    for each, rounds in results.items():
        print(f"{pairing} {each:9} {shown(client, rounds)}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairings", nargs="*", choices=PAIRINGS, default=PAIRINGS)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="each once more, without lines")
    parser.add_argument("--differ", action="store_true", help="no two requests have the same head")
    options = parser.parse_args()
    os.sched_setaffinity(0, {load_core(options.workers)})
    os.environ["PATH"] = SEARCH
    for pairing in options.pairings:
        compare(pairing, options)


if __name__ == "__main__":
    main()
