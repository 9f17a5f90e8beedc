"""Figures of works, and what is said about many of them: values only. Tested by tests/e2e/test_bench.py."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Done(NamedTuple):
    """What a load has done."""

    units: float
    seconds: float
    used: float  # seconds of CPU of the proxy, in these seconds
    latencies: Sequence[float] = ()  # of single units, in seconds; none: they have no beginning and end of their own


class Figure(NamedTuple):
    """One work of one peer in one round. What has no value is None."""

    cost: float  # CPU (or memory) for a unit of work, in the work's unit
    rate: float | None = None  # units a second
    p50: float | None = None  # milliseconds
    p99: float | None = None


class Spread(NamedTuple):
    """A value over all rounds."""

    median: float
    least: float
    most: float


Rounds = list[Figure]
Results = dict[str, dict[str, Rounds]]  # by work ("l4.idle") and peer


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of them is: one of them, the nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def figure(scale: float, done: Done) -> Figure:
    """The figure of it; `scale` turns seconds for one unit into the work's unit."""
    if not done.units:
        raise ValueError("no work was done: is the load's time shorter than one unit takes?")
    ordered = sorted(done.latencies)
    p50, p99 = (quantile(ordered, share) * 1e3 if ordered else None for share in (0.5, 0.99))
    return Figure(done.used / done.units * scale, done.units / done.seconds, p50, p99)


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(statistics.median(values), min(values), max(values))


def costs(results: Results, work: str) -> dict[str, Spread]:
    """Each peer's cost of a work."""
    return {peer: spread([each.cost for each in rounds]) for peer, rounds in results.get(work, {}).items()}


def middle(rounds: Rounds, name: str) -> float | None:
    """The median of another column: rate, p50, p99; None where a peer has none."""
    values = [value for each in rounds if (value := getattr(each, name)) is not None]
    return statistics.median(values) if values else None


def rises(points: Sequence[tuple[float, float]]) -> float:
    """How many times the least cost of a line its last one is: 1 where it is flat, or falls."""
    _, last = max(points)
    return last / min(cost for _, cost in points)
