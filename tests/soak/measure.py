"""What a process takes, again and again: as rows of a CSV file, as a picture, and whether any of it grows."""

import csv
import re
import socket
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import fmean

WARM_UP = 0.34  # of the whole time: caches fill, threads start, the allocator finds its size
WIDTH, HEIGHT, MARGIN = 900, 150, 60  # of a panel of the picture
# How much of each may be added from the end of the warm-up to the end, as a straight line through all samples has it:
# an absolute amount, for what rises and falls with the traffic, and a share.
ALLOWED = {"anonymous": (4_096.0, 0.02), "descriptors": (8.0, 0.1), "threads": (2.0, 0.0), "greenlets": (16.0, 0.1)}


@dataclass(frozen=True)
class Sample:
    """At one moment."""

    seconds: float  # since the start
    pss: float  # KiB
    anonymous: float  # KiB of it that belong to no file: what is shared with other processes comes and goes with them
    descriptors: float
    threads: float
    greenlets: float
    objects: float  # that Python's collector knows
    blocks: float  # of Python's allocator, those of what the collector doesn't know among them
    heap: float  # KiB that C libraries have of malloc()
    requests: float  # so far


NAMES = [each.name for each in fields(Sample)]


def sample(pid: int, counter: Path, seconds: float, requests: int) -> Sample:
    """What a process takes now; `counter` is the socket of `served`."""
    kib = {name: int(size) for name, size in re.findall(r"(?m)^(\w+): +(\d+) kB", _read(pid, "smaps_rollup"))}
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    threads = sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(30)
        asking.connect(str(counter))
        greenlets, objects, blocks, heap = map(float, asking.recv(256).split())
    of_kernel = seconds, kib["Pss"], kib["Pss_Anon"], descriptors, threads
    return Sample(*of_kernel, greenlets, objects, blocks, heap, requests)


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def growth(samples: Sequence[Sample], name: str) -> tuple[float, float]:
    """What a line through the samples behind the warm-up rises, from its begin to its end; and the samples' mean."""
    end = samples[-1].seconds if samples else 0.0
    warm = [each for each in samples if each.seconds >= WARM_UP * end]
    if len(warm) < 3:
        raise ValueError("too few samples to see whether anything grows")
    times, values = [each.seconds for each in warm], [float(getattr(each, name)) for each in warm]
    middle, mean = fmean(times), fmean(values)
    spread = sum((t - middle) ** 2 for t in times)
    slope = sum((t - middle) * (v - mean) for t, v in zip(times, values, strict=True)) / spread if spread else 0.0
    return slope * (times[-1] - times[0]), mean


def grown(samples: Sequence[Sample]) -> list[str]:
    """What grows beyond what is allowed, in plain English."""
    found = []
    for name, (amount, share) in ALLOWED.items():
        rise, mean = growth(samples, name)
        if rise > amount + share * mean:
            found.append(f"{name} grew by {rise:.0f} from a mean of {mean:.0f}; {amount + share * mean:.0f} is allowed")
    return found


def write_csv(samples: Sequence[Sample], path: Path) -> None:
    """All samples."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        writer.writerows(astuple(each) for each in samples)


def write_svg(samples: Sequence[Sample], path: Path) -> None:
    """A panel for each column."""
    panels = [_panel(samples, name, i * HEIGHT) for i, name in enumerate(NAMES[1:])]
    size = f'width="{WIDTH}" height="{HEIGHT * len(panels)}"'
    style = 'font-family="sans-serif" font-size="12"'
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(panels) + "\n</svg>\n")


def _panel(samples: Sequence[Sample], name: str, top: int) -> str:
    values = [float(getattr(each, name)) for each in samples]
    most, end = max(values, default=0.0) or 1.0, samples[-1].seconds if samples else 1.0
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 50
    points = " ".join(
        f"{MARGIN + width * each.seconds / (end or 1.0):.1f},{top + 30 + height * (1 - value / most):.1f}"
        for each, value in zip(samples, values, strict=True)
    )
    warm = MARGIN + width * WARM_UP
    base = top + 30 + height
    return (
        f'<text x="{MARGIN}" y="{top + 20}">{name}: {min(values, default=0):,.0f} to {most:,.0f}</text>\n'
        f'<path d="M{MARGIN} {top + 30}V{base}H{MARGIN + width}" fill="none" stroke="#999"/>\n'
        f'<path d="M{warm:.0f} {top + 30}V{base}" stroke="#ccc" stroke-dasharray="4"/>\n'
        f'<text x="{MARGIN + width - 60}" y="{base + 15}">{end:,.0f} s</text>\n'
        f'<polyline points="{points}" fill="none" stroke="#06c"/>'
    )
