"""Runs the targets side by side and says what came of it: `make fuzz`, or `python -m tests.fuzz --help`."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import blake2b
from pathlib import Path

from tests.fuzz.engine import Failure, Run, attempt, run
from tests.fuzz.targets import TARGETS

FAILED = Path("build/fuzz")


def work(name: str, seed: int, seconds: float, executions: int) -> tuple[str, str, int]:
    """Run a target in a process of its own: what to print, a failure's file, how many executions there were."""
    found = run(TARGETS[name], seed, seconds, executions)
    return report(found), save(found), found.executions


def report(found: Run) -> str:
    """A run in a line, and how it failed."""
    if not found.failure:
        return str(found)
    trace = "".join(traceback.format_exception(found.failure.error)).rstrip()
    shown = ascii(found.failure.data[:400])
    return f"{found}\n{trace}\n  the smallest input found, {len(found.failure.data)} bytes: {shown}"


def save(found: Run) -> str:
    """The file with the failing input; "" if there is none."""
    if not found.failure:
        return ""
    FAILED.mkdir(parents=True, exist_ok=True)
    digest = blake2b(found.failure.data, digest_size=4).hexdigest()
    path = FAILED / f"{found.target.name}-{digest}"
    path.write_bytes(found.failure.data)
    return str(path)


def replay(name: str, path: Path) -> int:
    """One input again; the exit status."""
    outcome = attempt(TARGETS[name], path.read_bytes())
    if isinstance(outcome, Failure):
        traceback.print_exception(outcome.error)
        return 1
    print(f"{name}: no fault; outcome {outcome}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Gives random input to every parser.")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--executions", type=int, default=1 << 62, help="of each target, at most")
    parser.add_argument("--seed", type=int, default=None, help="the same inputs again; without it, others each time")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="targets at a time")
    parser.add_argument("--file", type=Path, help="only this input, of the one target")
    options = parser.parse_args(arguments)
    names = options.target or list(TARGETS)
    if options.file:
        return replay(names[0], options.file) if len(names) == 1 else parser.error("--file needs one --target")
    seed = int.from_bytes(os.urandom(3), "big") if options.seed is None else options.seed
    print(
        f"seed {seed}; {options.seconds:g} seconds for each of {len(names)} targets, {options.jobs} at a time",
        flush=True,
    )
    total, failed = 0, 0
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(work, name, seed, options.seconds, options.executions) for name in names]
        for job in as_completed(jobs):
            text, path, executions = job.result()
            total += executions
            print(text, flush=True)
            if path:
                failed += 1
                name = Path(path).name.rpartition("-")[0]
                print(
                    f"  again: make fuzz TARGET={name} FILE={path}   or   make fuzz TARGET={name} SEED={seed}",
                    flush=True,
                )
    print(f"{total:,} executions in all; {failed or 'no'} target{'' if failed == 1 else 's'} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
