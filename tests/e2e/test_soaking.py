"""A few seconds of `make soak`; growth is seen and ups and downs are not; no failure is explained away."""

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.soak import measure
from tests.soak.faults import Failure, Fault, Faults
from tests.soak.measure import Sample
from tests.soak.run import Soak


def samples(pss: list[float]) -> list[Sample]:
    return [
        Sample(float(i), each, each, 30 + i % 3, 15, 12, 50_000, 600_000, 25_000, i * 10) for i, each in enumerate(pss)
    ]


def test_a_process_that_levels_off_does_not_grow() -> None:
    assert measure.grown(samples([min(50_000 + 1_000 * i, 90_000) for i in range(121)])) == []


def test_a_process_that_leaks_does() -> None:
    found = measure.grown(samples([90_000 + 100 * i for i in range(121)]))
    assert len(found) == 1
    assert found[0].startswith("anonymous grew by 7900 ")


def test_too_few_samples_prove_nothing() -> None:
    with pytest.raises(ValueError, match="too few samples"):
        measure.growth(samples([1.0, 2.0]), "pss")


def test_samples_are_written_as_rows_and_as_a_picture(tmp_path: Path) -> None:
    measure.write_csv(samples([1.0, 2.0]), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        assert [row["pss"] for row in csv.DictReader(file)] == ["1.0", "2.0"]
    measure.write_svg(samples([1.0, 2.0]), tmp_path / "a.svg")
    panels = ET.parse(tmp_path / "a.svg").getroot().findall("{*}polyline")
    assert len(panels) == len(measure.NAMES) - 1
    assert all(len(panel.get("points", "").split()) == 2 for panel in panels)


def test_a_failure_is_explained_by_a_fault_of_its_target_at_its_time_and_by_no_other() -> None:
    fault = Fault("away", frozenset({"a.test"}), 10.0, 20.0)

    def unexplained(target: str, begin: float, end: float) -> bool:
        failure = Failure("l4", frozenset({target, "proxy"}), begin, end, "reset")
        return Faults(injected=[fault], failures=[failure]).unexplained() == [failure]

    assert not unexplained("a.test", 9.0, 11.0)
    assert not unexplained("a.test", 19.0, 30.0)
    assert unexplained("a.test", 8.0, 9.0)
    assert unexplained("a.test", 21.0, 22.0)
    assert unexplained("b.test", 12.0, 13.0)


def test_a_short_run(tmp_path: Path) -> None:
    """Too short to see growth, long enough for every fault to come once."""
    soak = Soak(tmp_path, 12.0)
    soak.run()
    assert soak.done.keys() == {"reload", "mutations", "backend", "restart"}
    assert soak.faults.requests > 20
    assert [each for each in soak.problems if " grew by " not in each] == []
