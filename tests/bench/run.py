"""Proxies in turns: each is started at a stage, measured work by work, and ended; then the next."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import calls, echoes, l4, l4_peers, l7, l7_peers, shakes
from tests.bench.figures import Figure, Results
from tests.bench.l4 import Measure, Site, running
from tests.bench.peers import Job
from tests.bench.plan import H2, HTTP1, VERSIONS, Turn
from tests.kit.peers import Authority, free_port

Failures = dict[str, dict[str, str]]  # by work and peer: what went wrong


class Lab(NamedTuple):
    """Where it is measured, and for how long."""

    folder: Path  # with a.test's certificate
    seconds: float  # of load, for each work
    compiled: str  # the Python of the compiled build, if any
    workers: int = 1  # of mcproxy; threads of the others, where they can be told

    def python(self, peer: str) -> str:
        """That which runs this build of mcproxy."""
        return self.compiled if peer == "mcproxy-compiled" else sys.executable

    def fresh(self) -> Path:
        """An empty folder beside the certificates."""
        return Path(tempfile.mkdtemp(dir=self.folder))


@contextmanager
def lab(seconds: float, compiled: str | None, workers: int = 1) -> Iterator[Lab]:
    """A place to measure in."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        Authority(Path(name)).pair("a.test")
        yield Lab(Path(name), seconds, compiled or "", workers)


@contextmanager
def stage(here: Lab, name: str) -> Iterator[tuple[int, str, dict[str, Measure]]]:
    """The backend's port and its version of HTTP, "" at l4; and what measures each work."""
    with ExitStack() as stack:
        files = here.fresh()
        if name == "l4":
            yield stack.enter_context(l4.process(l4.serve)), "", l4.WORKS
        elif name == "grpc":
            yield stack.enter_context(calls.backend()), H2, calls.works(here.folder / "ca.pem")
        elif name == "websocket":
            yield stack.enter_context(l4.process(echoes.serve)), HTTP1, echoes.WORKS
        elif name == "tls":
            yield stack.enter_context(l7_peers.backend(files, HTTP1)), HTTP1, shakes.WORKS
        else:
            client, behind = (VERSIONS[each] for each in name.split("-"))
            yield stack.enter_context(l7_peers.backend(files, behind)), behind, l7.works(client, behind, files)


def measure(here: Lab, turn: Turn) -> Iterator[tuple[str, Figure | str]]:
    """One peer's turn: each work with its figure, or with what went wrong."""
    makers = l4_peers.MAKERS if turn.stage == "l4" else l7_peers.MAKERS
    with stage(here, turn.stage) as (target, protocol, measures):
        job = Job(here.fresh(), free_port(), target, protocol, here.workers, here.python(turn.peer))
        with running(makers[turn.peer](job), job.port, job.workers, job.folder) as pid:
            site = Site(pid, job.port, here.seconds)
            if turn.stage == "l4":
                l4.warm(job.port)
            elif turn.stage in ("tls", "h1-h1", "h1-h2", "h2-h1", "h2-h2"):
                l7.warm(VERSIONS[turn.stage[:2]] if "-" in turn.stage else HTTP1, site)
            elif turn.stage == "websocket":
                l7.wait(job.port)
            l4.calm(pid)
            for work in measures:
                if work in turn.works:
                    try:
                        yield f"{turn.stage}.{work}", measures[work](site)
                    except Exception as error:  # noqa: BLE001 - one peer's failure is not to end a run of 20 minutes
                        yield f"{turn.stage}.{work}", f"{type(error).__name__}: {error}"


def go_round(here: Lab, turns: list[Turn], results: Results, failures: Failures) -> None:
    """One round; what is measured is added to the results, and shown."""
    for turn in turns:
        began, shown = time.monotonic(), []
        try:
            for work, found in measure(here, turn):
                if isinstance(found, str):
                    failures.setdefault(work, {})[turn.peer] = found
                    shown.append(f"{work.partition('.')[2]} failed")
                else:
                    results.setdefault(work, {}).setdefault(turn.peer, []).append(found)
                    shown.append(f"{work.partition('.')[2]} {found.cost:.4g}")
        except Exception as error:  # noqa: BLE001 - as above: it doesn't start, or doesn't serve
            for work in turn.works:
                failures.setdefault(f"{turn.stage}.{work}", {})[turn.peer] = f"{type(error).__name__}: {error}"
            shown.append(f"failed: {error}")
        took = time.monotonic() - began
        print(f"{turn.stage:9} {turn.peer:16} {took:4.1f} s   {', '.join(shown)}", file=sys.stderr, flush=True)
