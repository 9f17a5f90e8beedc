"""Runs and says what came of it: `make soak`, or `python -m tests.soak --help`."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.soak import measure
from tests.soak.run import Soak

SHOWN = 20  # problems


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Mixed traffic for long, with faults.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("build/soak"), help="the folder of soak.csv and soak.svg")
    options = parser.parse_args(arguments)
    print(f"soaking for {options.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(Path(folder), options.minutes * 60)
        soak.run()
    options.out.mkdir(parents=True, exist_ok=True)
    measure.write_csv(soak.samples, options.out / "soak.csv")
    measure.write_svg(soak.samples, options.out / "soak.svg")
    print(report(soak))
    print(f"all samples: {options.out}/soak.csv, {options.out}/soak.svg")
    return 1 if soak.problems else 0


def report(soak: Soak) -> str:
    """What was done, what failed, what grew."""
    faults = soak.faults
    failed, unexplained = len(faults.failures), len(faults.unexplained())
    lines = [
        f"{faults.requests:,} requests were served, {failed} failed, {unexplained} of these unexplained",
        "injected: " + ", ".join(f"{what} {count} times" for what, count in sorted(soak.done.items())),
    ]
    for name in measure.ALLOWED:
        rise, mean = measure.growth(soak.samples, name)
        lines.append(f"{name:12} mean {mean:10,.0f}, {rise:+8,.0f} from the end of the warm-up to the end")
    lines += soak.problems[:SHOWN] or ["nothing was wrong"]
    if len(soak.problems) > SHOWN:
        lines.append(f"and {len(soak.problems) - SHOWN} more")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
