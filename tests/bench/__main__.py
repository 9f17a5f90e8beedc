"""Measures, and writes tables and plots: `make bench`. The package's head explains it."""

import argparse
import os
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.bench import growth, report, run
from tests.bench.figures import Results
from tests.bench.l4 import load_core
from tests.bench.peers import SEARCH, present
from tests.bench.plan import OURS, chosen, matches_nothing, turns
from tests.bench.report import Run, machine

GROWTH_ROUNDS = 2  # a curve is seen in its many points, where a peer has one figure
COMMITTED, ROUGH = Path("docs/bench"), Path("build/bench")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is to be done."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="mcproxy beside other proxies, on the same work in one run."
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each peer (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of load, for each work (default: 0.5)")
    parser.add_argument("--quick", action="store_true", help="one round of 0.2 seconds, and the ends of curves only")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORK[/PEER]",
        help="only these: l4.idle, 'h2-h1.*/haproxy', '*/mcproxy*', growth.routes",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=1,
        help="of each proxy, or threads, and cores for it (default: 1); nginx has one process, the load the next core",
    )  # fmt: skip
    parser.add_argument("--compiled", metavar="PYTHON", help="of an environment with mcproxy's compiled build")
    parser.add_argument("--out", type=Path, help="the folder of what is written")
    parser.add_argument("--report", type=Path, metavar="JSON", help="measure nothing: write what this run measured")
    found = parser.parse_args(arguments)
    if found.quick:
        found.rounds, found.seconds = 1, 0.2
    if wrong := matches_nothing(found.only, [f"growth.{name}" for name in growth.CURVES]):
        parser.error(f"--only {wrong[0]}: there is no such work or peer")
    return found


def measure(chosen_by: argparse.Namespace) -> Run:
    """Everything that is asked for, or what there is when Ctrl-C ends it."""
    versions, missing = present(chosen_by.compiled)
    for peer, reason in missing.items():
        print(f"{peer} is skipped: {reason}", file=sys.stderr)
    all_turns = list(turns(chosen_by.only, versions))
    curves = [
        (name, build)
        for name in growth.CURVES
        for build in OURS
        if build in versions and chosen(chosen_by.only, f"growth.{name}", build)
    ]
    results: Results = {}
    failures: run.Failures = {}
    grown: growth.Growth = {}
    made, began = machine(), time.monotonic()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {load_core(chosen_by.workers)})
    done = 0
    with run.lab(chosen_by.seconds, chosen_by.compiled, chosen_by.workers) as here, suppress(KeyboardInterrupt):
        for number in range(chosen_by.rounds):
            print(f"round {number + 1} of {chosen_by.rounds}", file=sys.stderr)
            run.go_round(here, all_turns, results, failures)
            if number < GROWTH_ROUNDS:
                growth.go_round(here, curves, grown, failures, ends=chosen_by.quick)
            done += 1
    given = " ".join("PYTHON" if each == chosen_by.compiled else each for each in sys.argv[1:])
    made |= {
        "whole": str(done == chosen_by.rounds and not (chosen_by.only or chosen_by.quick or chosen_by.workers > 1)),
        "rounds": str(done),
        "seconds": f"{chosen_by.seconds:g}",
        "minutes": f"{(time.monotonic() - began) / 60:.0f}",
        "command": f"make bench{f' OPTIONS={shlex.quote(given)}' if given else ''}",
    }
    return Run(made, versions, missing, results, failures, grown)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if anything failed."""
    found = options(arguments)
    os.environ["PATH"] = SEARCH
    done = report.load(found.report) if found.report else measure(found)
    whole = done.made["whole"] == "True"
    out = found.out or (COMMITTED if whole else ROUGH)
    plots = report.write(done, out)
    if whole and out == COMMITTED:
        report.put_into_readme(done, plots, Path("README.md"))
    print(report.tables(done))
    print(f"written to {out}/: README.md, bench.json, plots", file=sys.stderr)
    return 1 if done.failures else 0


if __name__ == "__main__":
    sys.exit(main())
