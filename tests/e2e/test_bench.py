"""What `make bench` says about its figures: the plan, medians, tables. Measured is nothing here."""

from pathlib import Path

import pytest

from tests.bench import plan, report
from tests.bench.figures import Done, Figure, Results, Spread, costs, figure, middle, rises, spread
from tests.bench.growth import CURVES
from tests.bench.peers import rules, short
from tests.kit.program import ROOT

RESULTS: Results = {
    "l4.connection": {
        "mcproxy": [Figure(200, 4_000, 1.5, 9.0), Figure(240, 5_000, 2.5, 8.0), Figure(220, 4_500, 2.0, 7.0)],
        "haproxy": [Figure(100, 9_000, 0.5, 1.0)],
    },
    "l4.idle": {"mcproxy": [Figure(14.3)], "haproxy": [Figure(20.0)]},
}
MADE = {
    "date": "2026-01-01", "processor": "one", "memory": "1 GiB", "system": "Linux", "python": "3", "load": "0.1",
    "rounds": "3", "seconds": "1", "minutes": "2", "whole": "True", "command": "python -m tests.bench",
}  # fmt: skip
RUN = report.Run(
    MADE,
    {"mcproxy": "mcproxy 0.1.0 (pure)", "haproxy": "2.6.12"},
    {"envoy": "there is no envoy"},
    RESULTS,
    {"l4.bulk": {"haproxy": "OSError: cut"}},
    {"routes": {"mcproxy": {"": {10: [100.0, 110.0, 90.0], 10_000: [105.0]}}}},
)


def test_a_figure_is_of_a_unit_of_work() -> None:
    done = Done(units=4, seconds=2, used=0.008, latencies=[0.004, 0.001, 0.002, 0.003])
    assert figure(1e6, done) == Figure(cost=2000, rate=2, p50=3, p99=4)
    assert figure(1, Done(2, 1, 1)) == Figure(0.5, 2, None, None)
    with pytest.raises(ValueError, match="no work was done"):
        figure(1, Done(0, 1, 1))


def test_rounds_are_summed_up_by_their_median_least_and_most() -> None:
    assert costs(RESULTS, "l4.connection") == {"mcproxy": Spread(220, 200, 240), "haproxy": Spread(100, 100, 100)}
    assert spread([3, 1]) == Spread(2, 1, 3)
    assert middle(RESULTS["l4.connection"]["mcproxy"], "p99") == 8.0
    assert middle(RESULTS["l4.idle"]["mcproxy"], "rate") is None
    assert rises([(100, 3.0), (10, 2.0)]) == 1.5
    assert rises([(1, 9.0), (2, 2.0)]) == 1


def test_a_round_has_each_work_of_each_peer_that_can_take_part() -> None:
    turns = list(plan.turns([], plan.PEERS))
    assert {(turn.stage, turn.peer) for turn in turns if turn.peer == "go"} == {("l4", "go")}
    assert all(turn.peer != "caddy" for turn in turns if turn.stage == "l4")
    assert {f"{turn.stage}.{work}" for turn in turns for work in turn.works} == set(plan.works())
    assert {turn.peer for turn in plan.turns([], ["envoy"])} == {"envoy"}
    assert set(plan.HEADLINES) <= set(plan.works())


def test_works_and_peers_are_chosen_by_patterns() -> None:
    chosen = list(plan.turns(["l4.b*/go", "tls.full/haproxy", "grpc.*"], ["go", "haproxy"]))
    assert chosen == [
        plan.Turn("l4", "go", ("bulk",)),
        plan.Turn("grpc", "haproxy", ("unary", "stream")),
        plan.Turn("tls", "haproxy", ("full",)),
    ]
    wrong = plan.matches_nothing(["l4.nothing", "*/nobody", "growth.routes", "*/go"], ["growth.routes"])
    assert wrong == ["l4.nothing", "*/nobody"]


def test_a_run_can_be_kept_and_reported_again(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(report.dump(RUN))
    assert report.load(path) == RUN
    page = report.page(RUN, ["l4"])
    assert "| mcproxy | 220 | 200 | 240 | 4,500 | 2.00 | 8.00 |" in page
    assert "l4, connection: 2.2 times HAProxy" in page, "losses are named"
    assert "l4, idle: " not in page, "and only losses"
    assert "HAProxy failed: `OSError: cut`" in page
    assert "Envoy was skipped: there is no envoy." in page
    assert f"| {CURVES['routes'].title}, µs a connection | mcproxy | 10: 100, 10,000: 105 | 1.05 |" in page


def test_the_readme_has_the_part_that_a_run_replaces(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    before, _, rest = text.partition(report.BEGIN)
    _, end, after = rest.partition(report.END)
    assert end
    path = tmp_path / "README.md"
    path.write_text(text)
    for _ in range(2):
        report.put_into_readme(RUN, ["l4", "l7"], path)
    found = path.read_text()
    assert found.startswith(before)
    assert found.endswith(after)
    assert found.count("docs/bench/l4.svg") == 1
    assert "| 220 | **100** |" in found
    path.write_text("nothing")
    with pytest.raises(ValueError, match="has no lines"):
        report.put_into_readme(RUN, ["l4"], path)


def test_rules_are_networks_of_their_own() -> None:
    many = rules(70_000)
    assert many[:2] == ["10.0.0.0/25", "10.0.0.128/26"]
    assert len({each.partition("/")[0] for each in many}) == len(many)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12-1+deb12u4"),
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("envoy  version: f1dd21b16c244bda00edfb5ffce577e12d0d2ec2/1.36.0/Clean/RELEASE/BoringSSL", "1.36.0"),
        ("go version go1.25.3 linux/amd64", "1.25.3"),
    ],
)
def test_versions_are_found_in_what_programs_answer(answer: str, version: str) -> None:
    assert short(answer) == version
