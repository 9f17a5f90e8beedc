"""Plots of a run, as SVG, with matplotlib: bars for the works of a stage, dots for HTTP, lines for how cost grows.

Backgrounds are white, so that they can be read on a dark page too. mcproxy has its own colour everywhere.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from tests.bench.figures import Spread, costs, rises, spread
from tests.bench.growth import CURVES
from tests.bench.plan import OURS, PEERS, STAGES, Work
from tests.bench.report import Run, number

COLOURS = {  # Okabe and Ito's, that people with any colour vision tell apart
    "mcproxy": "#d55e00", "mcproxy-compiled": "#e69f00", "haproxy": "#0072b2", "nginx": "#009e73",
    "envoy": "#cc79a7", "traefik": "#56b4e9", "caddy": "#8c6d31", "go": "#7f7f7f",
}  # fmt: skip
LETTERS = {
    "mcproxy-compiled": "M", "haproxy": "H", "nginx": "N", "envoy": "E", "traefik": "T", "caddy": "C", "go": "G",
}  # fmt: skip
OTHERS = "#b4bcc4"
INK, FAINT = "#24292f", "#8c959f"
WIDTH = 8.6  # inches: as wide as a page of a repository, at 100 dots an inch
LINES = (
    "Medians, between the least and the most of all rounds. x1.05: the last point costs 1.05 times what the least does."
)
STYLE: Mapping[str, object] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.edgecolor": FAINT, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "figure.facecolor": "white",
    "svg.hashsalt": "mcproxy", "xtick.major.size": 3, "ytick.major.size": 0,
}  # fmt: skip
PANELS = (("h2-h2",), ("h2-h1",), ("h1-h1",), ("h1-h2",), ("grpc", "websocket"), ("tls",))  # two in a row
DOTS = (
    "Rows: clients x requests at once, or connections. Left of the line: costs less than mcproxy; right: more. "
    "In orange: mcproxy's own."
)
STEEP = 8  # times the least cost the most is: such lines have a logarithmic axis
LABEL = 0.085  # of an axis: the height of a label
LANE = 0.27  # of a row: how far dots that would overlap are apart
OVERLAP = 0.055  # of an axis' width: how near dots overlap


def draw(run: Run, out: Path, suffix: str = ".svg") -> list[str]:
    """Write every plot that there are figures for; returns their names, those of README.md first."""
    drawn = []
    plots: dict[str, Callable[[Run], Figure | None]] = {"l4": partial(bars, stage="l4"), "l7": dots, "growth": lines}
    plots |= {name: partial(bars, stage=name) for name in STAGES if name != "l4"}
    with mpl.rc_context(dict(STYLE)):
        for name, plot in plots.items():
            if figure := plot(run):
                figure.savefig(out / f"{name}{suffix}", dpi=150, metadata={"Date": None} if suffix == ".svg" else None)
                drawn.append(name)
    return drawn


def bars(run: Run, stage: str) -> Figure | None:
    """A panel for each work of a stage: each peer's cost, the least first."""
    found = [(work, each) for work in STAGES[stage].works if (each := costs(run.results, f"{stage}.{work.name}"))]
    if not found:
        return None
    columns = min(2, len(found))
    rows = math.ceil(len(found) / columns)
    height = sum(
        0.75 + 0.24 * max(len(each) for _, each in found[row * columns : (row + 1) * columns]) for row in range(rows)
    )
    figure = Figure(figsize=(WIDTH, height + 0.45), layout="constrained")
    figure.suptitle(f"{STAGES[stage].title}: what each proxy costs", x=0.01, ha="left", weight="bold", size=12)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (work, each), axes in zip(found, panels, strict=False):
        panel(axes, work, each)
    for axes in list(panels):
        axes.set_axis_off()
    return figure


def panel(axes: Axes, work: Work, found: dict[str, Spread]) -> None:
    """Bars with their values, and a line from the least to the most."""
    ordered = sorted(found, key=lambda peer: found[peer].median, reverse=True)
    most = max(each.most for each in found.values())
    for place, peer in enumerate(ordered):
        each, ours = found[peer], peer in OURS
        axes.barh(place, each.median, height=0.72, color=COLOURS[peer] if ours else OTHERS)
        axes.plot([each.least, each.most], [place, place], color=INK, linewidth=1, solid_capstyle="butt")
        weight = "bold" if ours else "normal"
        axes.text(max(each.median, each.most) + most * 0.02, place, number(each.median), va="center", weight=weight)
    axes.set_yticks(range(len(ordered)), [PEERS[peer] for peer in ordered])
    for label, peer in zip(axes.get_yticklabels(), ordered, strict=True):
        label.set_weight("bold" if peer in OURS else "normal")
    axes.set_title(work.title)
    what = "resident memory" if work.unit == "KB" else "CPU"
    axes.set_xlabel(f"{work.unit.partition('/')[0]} of {what} for a {work.each}", color=FAINT, loc="left")
    axes.set_xlim(0, most * 1.17)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def dots(run: Run) -> Figure | None:
    """Works of HTTP in rows; each peer is a dot, at what it costs beside mcproxy."""
    panels = [(names, rows) for names in PANELS if (rows := rows_of(run, names))]
    if not panels:
        return None
    heights = [max(len(rows) for _, rows in panels[at : at + 2]) * 0.36 + 0.75 for at in range(0, len(panels), 2)]
    figure = Figure(figsize=(WIDTH, sum(heights) + 1.3), layout="constrained")
    ratios = [value for _, rows in panels for _, _, others in rows for value in others.values()]
    limits = min(0.8, *ratios) / 1.2, max(1.25, *ratios) * 1.2
    grid = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights).flat
    for (names, rows), axes in zip(panels, grid, strict=False):
        dot_panel(axes, " and ".join(STAGES[name].short for name in names), rows, limits)
    for axes in list(grid):
        axes.set_axis_off()
    top = figure.get_figheight()
    figure.suptitle(
        "HTTP: CPU for the same work, as a multiple of mcproxy's\n\n\n", x=0.01, ha="left", size=12, weight="bold"
    )
    figure.text(0.01, 1 - 0.42 / top, DOTS, color=FAINT, va="center")
    present = [peer for peer in LETTERS if any(peer in others for _, rows in panels for _, _, others in rows)]
    x = 0.018
    for peer in present:
        figure.text(
            x, 1 - 0.68 / top, LETTERS[peer], color="white", ha="center", va="center", size=7, weight="bold",
            bbox={"boxstyle": "circle,pad=0.35", "color": COLOURS[peer]},
        )  # fmt: skip
        figure.text(x + 0.016, 1 - 0.68 / top, PEERS[peer], va="center")
        x += 0.055 + 0.0095 * len(PEERS[peer])
    return figure


Row = tuple[str, str, dict[str, float]]  # the work, mcproxy's own cost, the others' as multiples of it


def rows_of(run: Run, stages: tuple[str, ...]) -> list[Row]:
    """The works of these stages that mcproxy has a figure for."""
    rows = []
    for stage in stages:
        for work in STAGES[stage].works:
            found = costs(run.results, f"{stage}.{work.name}")
            if ours := found.pop(OURS[0], None):
                title = f"{STAGES[stage].short}, {work.short}" if len(stages) > 1 else work.short
                own = f"{number(ours.median)} {work.unit}"
                rows.append((title, own, {peer: each.median / ours.median for peer, each in found.items()}))
    return rows


def dot_panel(axes: Axes, title: str, rows: list[Row], limits: tuple[float, float]) -> None:
    """One panel, its rows from top to bottom."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvspan(limits[0], 1, color="#f3f5f7", zorder=0, linewidth=0)
    axes.axvline(1, color=COLOURS["mcproxy"], linewidth=2, zorder=1)
    bold = {"ha": "center", "va": "center_baseline", "color": "white", "size": 7, "weight": "bold", "zorder": 3}
    for place, (_, own, others) in enumerate(rows):
        axes.axhline(place, color="#dfe3e8", linewidth=0.8, zorder=0.5)
        for peer, (value, lane) in laned(others, limits).items():
            axes.plot(value, place + lane, "o", markersize=11, color=COLOURS[peer], markeredgecolor="white", zorder=2)
            axes.text(value, place + lane, LETTERS[peer], **bold)
        axes.text(1.01, place, own, transform=axes.get_yaxis_transform(), va="center", size=8, color=COLOURS["mcproxy"])
    axes.set_yticks(range(len(rows)), [title for title, _, _ in rows])
    ticks = [2.0**power for power in range(-4, 6) if limits[0] < 2.0**power < limits[1]]
    axes.set_xticks(ticks, [f"{tick:g}x" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(title)
    axes.spines["left"].set_visible(False)


def laned(others: dict[str, float], limits: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Each dot's value and lane, so that near ones don't overlap."""
    width = math.log(limits[1] / limits[0])
    ends = {0.0: -9.0, -LANE: -9.0, LANE: -9.0}
    found = {}
    for peer in sorted(others, key=others.__getitem__):
        at = math.log(others[peer]) / width
        lane = next((each for each, end in ends.items() if at - end > OVERLAP), min(ends, key=ends.__getitem__))
        ends[lane] = at
        found[peer] = others[peer], lane
    return found


def lines(run: Run) -> Figure | None:
    """A panel for each curve: cost against what grows, from zero, so that a bend can be seen."""
    found = {name: builds for name, builds in run.growth.items() if any(lines for lines in builds.values())}
    if not found:
        return None
    columns = min(3, len(found))
    rows = math.ceil(len(found) / columns)
    figure = Figure(figsize=(WIDTH, 2.35 * rows + 0.7), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    figure.suptitle("How mcproxy's cost grows: CPU for a unit of work\n", x=0.01, ha="left", weight="bold", size=12)
    figure.text(0.01, 1 - 0.42 / figure.get_figheight(), LINES, color=FAINT, va="center")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for (name, builds), axes in zip(found.items(), grid, strict=False):
        curve = CURVES[name]
        series = {
            (build, line): [(value, spread(rounds)) for value, rounds in points.items()]
            for build, each in builds.items()
            for line, points in each.items()
        }
        line_panel(axes, series)
        axes.set_title(curve.title)
        axes.set_ylabel(curve.unit)
        axes.set_xlabel(curve.across)
        if name == "workers":
            axes.set_xscale("linear")
            axes.set_xticks(curve.values)
    for axes in list(grid):
        axes.set_axis_off()
    return figure


def short(value: float, _position: int = 0) -> str:
    """1,000 is 1k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def line_panel(axes: Axes, series: dict[tuple[str, str], list[tuple[int, Spread]]]) -> None:
    """Lines with their names, and how many times the least cost the last one is."""
    axes.set_xscale("log")
    labels = []
    for (build, line), points in series.items():
        values, middles = [value for value, _ in points], [each.median for _, each in points]
        dashed = "--" if line == "up" else "-"
        axes.plot(values, middles, dashed, color=COLOURS[build], marker="o", markersize=4, linewidth=1.8)
        low, high = [each.least for _, each in points], [each.most for _, each in points]
        axes.fill_between(values, low, high, color=COLOURS[build], alpha=0.15, linewidth=0)
        name = " ".join(each for each in (line, "compiled" if build == OURS[1] else "") if each)
        ratio = rises([(value, each.median) for value, each in points])
        labels.append((middles[-1], f"{name} x{ratio:.2f}".strip(), COLOURS[build]))
    most = max(each.most for points in series.values() for _, each in points)
    least = min(each.least for points in series.values() for _, each in points)
    if most > STEEP * least:
        axes.set_yscale("log")
        axes.set_ylim(least / 2, most * 2)
        axes.yaxis.set_major_formatter(FuncFormatter(short))
    else:
        axes.set_ylim(0, most * 1.35)
    write_labels(axes, labels)
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#e6e9ec", linewidth=0.8)
    axes.set_axisbelow(True)


def write_labels(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Each above the end of its line, or above the label below it."""
    lowest = 0.0
    for cost, text, colour in sorted(labels):
        height = axes.transAxes.inverted().transform(axes.transData.transform((1, cost)))[1]
        lowest = max(height + 0.05, lowest)
        axes.text(
            0.97, lowest, text, transform=axes.transAxes, ha="right", va="bottom", color=colour, size=8, weight="bold"
        )
        lowest += LABEL
