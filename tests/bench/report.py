"""What a run measured, as JSON, tables and a part of README.md. Tested by tests/e2e/test_bench.py."""

import json
import os
import platform
import re
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.figures import Figure, Results, Rounds, costs, middle, rises, spread
from tests.bench.growth import CURVES, Growth
from tests.bench.plan import HEADLINES, OURS, PEERS, STAGES, works
from tests.bench.run import Failures

BEGIN, END = "<!-- make bench writes from here -->", "<!-- to here -->"
HOW = """The proxy has one core, load and backend another. The figure that counts is the CPU time that the proxy used,
divided by the work done, over all rounds. The rate is limited by the load's core where the proxy's isn't full. mcproxy
has 10,000 firewall rules, limits and statistics. All write a line for each connection or request to /dev/null, but for
the Go router, and Traefik at raw streams. Only ratios within one run mean anything."""
SHOWN_LOSSES = 8  # on the first page
NOISE = 1.05  # times: a smaller difference says nothing
PLOTS = {
    "l4": "What raw streams cost each proxy",
    "l7": "What HTTP costs each proxy, beside mcproxy",
    "growth": "How mcproxy's cost grows",
}


class Run(NamedTuple):
    """All that one run has to tell."""

    made: dict[str, str]  # when, how and on which machine
    versions: dict[str, str]  # by peer
    missing: dict[str, str]  # the peers that were skipped, and why
    results: Results
    failures: Failures
    growth: Growth


def machine() -> dict[str, str]:
    """What the figures depend on, and how busy it was."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"(?m)^model name\s*: (.*)$", cpuinfo)
    system = re.search(r'(?m)^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"
        + (", virtual" if "hypervisor" in cpuinfo else ""),
        "memory": f"{memory:.0f} GiB",
        "system": f"{system[1] if system else platform.system()}, Linux {'.'.join(platform.release().split('.')[:2])}",
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION.rpartition('  ')[0] or ssl.OPENSSL_VERSION}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def dump(run: Run) -> str:
    """As JSON, a line for each work of a peer."""
    text = json.dumps(run._asdict(), indent=1, ensure_ascii=False)
    return re.sub(r"\[[^][]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def load(path: Path) -> Run:
    """Read what dump() wrote."""
    found: dict[str, Any] = json.loads(path.read_text())
    for peers in found["results"].values():
        for peer, rounds in peers.items():
            peers[peer] = [Figure(*each) for each in rounds]
    for lines in (lines for builds in found["growth"].values() for lines in builds.values()):
        for line, points in lines.items():
            lines[line] = {int(value): rounds for value, rounds in points.items()}
    return Run(**found)


def number(value: float | None) -> str:
    """With three digits that count, and thousands apart."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown, all but the first column to the right."""
    return [
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def shown_peers(run: Run) -> list[str]:
    return [peer for peer in PEERS if any(peer in each for each in run.results.values())]


def overview(run: Run, keys: list[str]) -> list[str]:
    """One line for a work: the median cost of every peer, the least in bold."""
    peers, rows = shown_peers(run), []
    for key in keys:
        if found := costs(run.results, key):
            work, least = works()[key], min(each.median for each in found.values())
            stage = STAGES[key.partition(".")[0]].short
            cells = [
                "-" if peer not in found
                else f"**{number(found[peer].median)}**" if found[peer].median == least
                else number(found[peer].median)
                for peer in peers
            ]  # fmt: skip
            rows.append([f"{stage}, {work.short}: {work.unit}", *cells])
    return table(["CPU for a unit of work", *(PEERS[peer] for peer in peers)], rows) if rows else []


def details(run: Run, stage: str) -> Iterator[str]:
    """All that is known about a stage's works."""
    for work in STAGES[stage].works:
        measured = run.results.get(f"{stage}.{work.name}", {})
        failed = run.failures.get(f"{stage}.{work.name}", {})
        if measured or failed:
            rows = [row(PEERS[peer], measured[peer]) for peer in PEERS if peer in measured]
            rows += [[PEERS[peer], "failed", *["-"] * 5] for peer in PEERS if peer in failed and peer not in measured]
            head = [f"{work.title}", f"{work.unit}, median", "least", "most", f"{work.each}s/s".replace("GBs", "GB")]
            yield from ["", *table([*head, "p50, ms", "p99, ms"], rows)]
            yield from [f"\n{PEERS[peer]} failed: `{reason.splitlines()[0][:150]}`" for peer, reason in failed.items()]
    absent = {peer: reason for peer, reason in STAGES[stage].absent.items() if peer not in run.missing}
    yield from ["", *(f"Not here: {PEERS[peer]}; {reason}." for peer, reason in absent.items())]


def row(title: str, rounds: Rounds) -> list[str]:
    cost = spread([each.cost for each in rounds])
    return [title, *map(number, cost), *(number(middle(rounds, name)) for name in ("rate", "p50", "p99"))]


def losses(run: Run) -> list[str]:
    """Each work at which a peer costs less than mcproxy, the pure build; the largest loss first."""
    found = []
    for key, work in works().items():
        each = costs(run.results, key)
        others = {peer: cost.median for peer, cost in each.items() if peer not in OURS}
        if OURS[0] not in each or not others:
            continue
        best = min(others, key=others.__getitem__)
        ratio = each[OURS[0]].median / others[best]
        if ratio > NOISE:
            ours = each.get(OURS[1])
            compiled = f", compiled {ours.median / others[best]:.1f}" if ours else ""
            stage = STAGES[key.partition(".")[0]].short
            found.append((-ratio, f"{stage}, {work.short}: {ratio:.1f} times {PEERS[best]}{compiled}"))
    return [text for _, text in sorted(found)]


def growth_table(run: Run) -> list[str]:
    """Each curve as a line."""
    rows = []
    for name, builds in run.growth.items():
        for build, lines in builds.items():
            for line, points in lines.items():
                middles = [(value, spread(rounds).median) for value, rounds in points.items()]
                cells = ", ".join(f"{value:,}: {number(cost)}" for value, cost in middles)
                title = f"{CURVES[name].title}{', ' * bool(line)}{line}, {CURVES[name].unit}"
                rows.append([title, PEERS[build], cells, f"{rises(middles):.2f}"])
    return table(["Grows", "Build", "Cost at each", "last / least"], rows) if rows else []


def circumstances(run: Run) -> list[str]:
    """The machine, the peers, the command."""
    made = run.made
    versions = "; ".join(f"{PEERS[peer]} {version}" for peer, version in run.versions.items() if peer not in OURS)
    ours = [run.versions[peer].removeprefix("mcproxy ") for peer in OURS if peer in run.versions]
    head = (
        f"{made['date']}: {made['processor']}, {made['memory']}, {made['system']}, Python {made['python']}. "
        f"mcproxy {', '.join(ours)}; {versions}. "
        f"{made['rounds']} round{'s' * (made['rounds'] != '1')} of {made['seconds']} s for each work, "
        f"{made['minutes']} minutes in all; "
        f"load average before: {made['load']}."
    )
    return [head, *(f"{PEERS[peer]} was skipped: {reason}." for peer, reason in run.missing.items())]


def tables(run: Run) -> str:
    """For the terminal."""
    lines = [*overview(run, list(works())), "", *growth_table(run)]
    return "\n".join(line for line in lines)


def page(run: Run, plots: list[str]) -> str:
    """docs/bench/README.md."""
    lines = ["# mcproxy beside other proxies", "", "Written by `make bench`: one run on one machine.", ""]
    lines += [*circumstances(run), "", f"    {run.made['command']}", ""]
    lines += [HOW]
    for name, title in PLOTS.items():
        lines += ["", f"![{title}]({name}.svg)"] if name in plots else []
    if found := losses(run):
        lines += ["", "## Where a peer costs less than mcproxy", "", *(f"* {each}" for each in found)]
    if grown := growth_table(run):
        lines += ["", "## How cost grows", "", *grown]
    for stage in STAGES:
        if any(key.startswith(f"{stage}.") for key in [*run.results, *run.failures]):
            picture = ["", f"![{STAGES[stage].title}]({stage}.svg)"] if stage in plots and stage not in PLOTS else []
            lines += ["", f"## {STAGES[stage].title}", *picture, *details(run, stage)]
    return "\n".join(lines).rstrip() + "\n"


def write(run: Run, out: Path) -> list[str]:
    """JSON, plots and the page. Returns the names of the plots; without matplotlib there are none."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(dump(run))
    try:
        from tests.bench import plots
    except ModuleNotFoundError as error:
        print(f"no plots: {error}; pip install -e '.[bench]'", file=sys.stderr)
        drawn = []
    else:
        drawn = plots.draw(run, out)
    (out / "README.md").write_text(page(run, drawn))
    return drawn


def put_into_readme(run: Run, plots: list[str], path: Path) -> None:
    """Replace what is between the two marks."""
    lost = losses(run)
    largest, more = lost[:SHOWN_LOSSES], len(lost) - SHOWN_LOSSES
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines '{BEGIN}' and '{END}'")
    part = [
        "",
        *(line for name in PLOTS if name in plots for line in (f"![{PLOTS[name]}](docs/bench/{name}.svg)", "")),
        *overview(run, list(HEADLINES)),
        "",
        "CPU in µs or s/GB, memory in KB; the least is bold. [docs/bench](docs/bench/README.md) has the rest.",
        "",
        " ".join(circumstances(run)),
        "",
        "Where a peer costs less, the largest loss first: "
        + "; ".join(largest)
        + (f"; and {more} more, which docs/bench names." if more > 0 else "."),
        "",
    ]
    path.write_text(before + begin + "\n".join(part) + end + after)
