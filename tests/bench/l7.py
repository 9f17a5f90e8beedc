"""Loads of HTTP: h2load (Debian: nghttp2-client) asks for 128 bytes, then for 16 MiB, then sends 16 MiB.

Backends are nghttpd (nghttp2-server), h2c, and nginx, HTTP/1.1.
"""

import os
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.bench.figures import Done, Figure, figure
from tests.bench.l4 import PATIENCE, Measure, Site
from tests.bench.l7_peers import BULK
from tests.bench.plan import H2, HTTP1

STREAMS = {  # clients, and requests at once of each, by the work's name
    "1x1": (1, 1), "10x1": (10, 1), "differ": (10, 1), "10x10": (10, 10), "1x100": (1, 100),
    "1": (1, 1), "10": (10, 1), "50": (50, 1),
}  # fmt: skip
BODIES = 48  # for a second of load
REQUESTS = 6_000
DISTINCT = 20_000  # requests whose heads differ, before they come again: more than any cache holds


def h2load(site: Site, version: str, path: str, count: int, clients: int, streams: int, *more: str) -> Done:
    """So many requests. Raises OSError where one fails.

    By number: with -D, by time, it can hang for ever at the end (1.52).
    """
    how = ["--h1"] if version == HTTP1 else ["-w", "24", "-W", "26"]
    with tempfile.NamedTemporaryFile("r") as log:
        before = site.used()
        done = subprocess.run(
            ["h2load", *how, "-n", str(count), "-c", str(clients), "-m", str(streams), f"--log-file={log.name}",
             "--connect-to", f"127.0.0.1:{site.port}", *more, f"https://a.test:{site.port}/{path}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        used, latencies = site.used() - before, [int(line.split()[2]) / 1e6 for line in log]
    found = re.search(r"finished in ([\d.]+)(us|ms|s)", done.stdout)
    # Not "succeeded": of HTTP/1.1 h2load sees no status where there are no words behind it, as after HAProxy's bridge.
    whole = (f"{count} done", " 0 errored", " 0 timeout", " 0 3xx, 0 4xx, 0 5xx")
    if not found or any(each not in done.stdout for each in whole):
        raise OSError(f"some requests failed: {done.stdout[-1500:]}")
    return Done(count, float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1}[found[2]], used, latencies)


def steady(site: Site, version: str, clients: int, streams: int, *more: str) -> Done:
    """Requests of open connections: what a second run costs more than a first one, with one request of each client."""
    count = int(site.seconds * (REQUESTS if clients * streams > 1 else REQUESTS / 2)) + clients
    first = h2load(site, version, "small", clients, clients, 1, *more)
    done = h2load(site, version, "small", count, clients, streams, *more)
    return Done(count - clients, done.seconds - first.seconds, done.used - first.used, done.latencies)


def small(version: str, name: str, site: Site) -> Figure:
    """Answers of 128 bytes."""
    clients, streams = STREAMS[name]
    if name == "differ":
        return figure(1e6, differing(site, version, clients, streams))
    return figure(1e6, steady(site, version, clients, streams))


def differing(site: Site, version: str, clients: int, streams: int) -> Done:
    """The same, but no two heads alike.

    Each client is a process with names of its own: those of one h2load all begin with the first name of its list, so
    that what one asks for, the others have just asked for.
    """
    share = int(site.seconds * REQUESTS) // clients
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(clients) as pool:
        lists = [Path(folder) / str(client) for client in range(clients)]
        for client, names in enumerate(lists):
            numbers = range(client, DISTINCT, clients)
            names.write_text("".join(f"https://a.test:{site.port}/small?{number}\n" for number in numbers))

        def ask(count: int) -> Done:
            before = site.used()
            done = [
                pool.submit(h2load, site, version, "small", count, 1, min(count, streams), "-i", str(names))
                for names in lists
            ]
            each = [one.result() for one in done]
            latencies = [latency for one in each for latency in one.latencies]
            return Done(count * clients, max(one.seconds for one in each), site.used() - before, latencies)

        first, done = ask(1), ask(share + 1)
    return Done(share * clients, done.seconds - first.seconds, done.used - first.used, done.latencies)


def bulk(version: str, path: str, body: Path | None, site: Site) -> Figure:
    """Bodies of 16 MiB: so many for a second of load that takes a second for a gigabyte."""
    count = max(4, int(BODIES * site.seconds) // 4 * 4)
    more = ["-d", str(body)] if body else []
    done = h2load(site, version, path, count, 1, 4 if version == H2 else 1, *more)
    return figure(1, Done(count * BULK / 1e9, done.seconds, done.used))


def works(version: str, behind: str, files: Path) -> dict[str, Measure]:
    """Each work's measurement, of a pairing; the backend's files are in that folder."""
    up = "up" if behind == HTTP1 else "small"
    measures: dict[str, Measure] = {name: partial(small, version, name) for name in STREAMS}
    return measures | {
        "down": partial(bulk, version, "big", None),
        "up": partial(bulk, version, up, files / "big"),
    }


def serves(port: int) -> bool:
    """Whether a request is answered: some proxies listen before they have read where to."""
    once = ["curl", "-sSkf", "-o", os.devnull, "--connect-to", f"::127.0.0.1:{port}", f"https://a.test:{port}/small"]
    return subprocess.run(once, timeout=60, check=False, stderr=subprocess.DEVNULL).returncode == 0


def warm(version: str, site: Site) -> None:
    """Wait until it serves, and ask for a thousand answers: what is made once is there then."""
    wait(site.port)
    h2load(site, version, "small", 1000, 10, 1)


def wait(port: int) -> None:
    """Until it serves."""
    end = time.monotonic() + 60
    while not serves(port):
        if time.monotonic() > end:
            raise OSError("it listens and doesn't serve")
        time.sleep(0.05)
