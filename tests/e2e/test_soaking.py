"""A few seconds of `make soak`; growth is seen and ups and downs are not; no failure is explained away."""

import csv
import socket
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.peers import reset
from tests.soak import measure
from tests.soak.faults import Failure, Fault, Faults
from tests.soak.measure import Sample
from tests.soak.run import STAYS, Soak
from tests.soak.trail import Trail


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


@pytest.mark.parametrize(
    ("end", "seen"), [(reset, "reset by the proxy"), (socket.socket.close, "ended by the proxy"), (id, "open")]
)
def test_a_failure_says_how_its_connection_ended(end: Callable[[socket.socket], object], seen: str) -> None:
    """Both were a RemoteDisconnected of http.client, where Python's `ssl` takes a RST for the end."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
        listening.accept()[0] as server,
    ):
        trail = Trail.of(client)
        trail.step = "waiting"
        trail.served()
        end(server)
        trail.failed(client)
    assert trail.port
    shown = trail.shown(trail.latest + 0.25)
    assert f"port {trail.port}, connected 0." in shown
    assert shown.endswith(f"1 requests answered, the latest 0.25 s ago; failed in waiting; the connection was {seen}")


def line(second: str, level: str, text: str) -> str:
    return f"2026-11-29T06:00:{second}Z {level} {text}\n"


def test_a_failure_is_reported_with_the_lines_of_its_connection_and_the_faults_around_it() -> None:
    now = time.monotonic()
    trail = Trail(40_001, opened=now - 2.0, since="2026-11-29T06:00:08.000Z")
    failed = Failure("HTTP/1.1", frozenset({"a.test", STAYS}), now, now + 1.0, "RemoteDisconnected", trail, "11:00")
    faults = [Fault(f"fault {i}", frozenset({"b.test"}), now - i, now - i + 0.5) for i in (9, 1, 7, 5, 3)]
    soak = Soak(Path(), 1.0)
    soak.faults.failures.append(failed)
    first = line("11.002", "info", 'request id=7 stream=2 client=127.0.0.1:40001 end="client gone"')
    second = line("11.003", "info", "connection id=7 client=127.0.0.1:40001 end=client_reset")
    earlier = line("07.000", "info", "connection id=1 client=127.0.0.1:40001 end=closed")
    another = line("09.000", "info", "connection id=6 client=127.0.0.1:40002 end=closed")
    soak.gather(STAYS, [earlier, another, first])
    soak.gather(STAYS, [first, second])
    soak.gather("another proxy", [line("12.000", "info", "connection id=7 client=127.0.0.1:40001")])
    said = failed.shown(faults).split("\n    ")
    assert said[0] == f"HTTP/1.1 by way of a.test, {STAYS} failed at 11:00 after 1.00 s: RemoteDisconnected"
    assert said[1].startswith("client: port 40001, connected 3.00 s ago, 0 requests answered; ")
    assert said[2:] == [
        "fault: fault 1 (b.test) from -1.00 s to -0.50 s",
        "fault: fault 3 (b.test) from -3.00 s to -2.50 s",
        "fault: fault 5 (b.test) from -5.00 s to -4.50 s",
        "fault: fault 7 (b.test) from -7.00 s to -6.50 s",
        f"proxy: {first.rstrip()}",
        f"proxy: {second.rstrip()}",
    ]


def test_a_defect_that_the_proxy_logs_is_a_problem() -> None:
    """Only what it wrote to its standard error was looked at, where the traceback of a session doesn't go."""
    defect = [line("01.000", "error", "session: bug in <Session 7>"), "  Traceback\n", "  ValueError\n"]
    lines = [line("00.000", "info", 'request id=6 detail="an error of another kind"'), *defect, line("02", "info", "a")]
    soak = Soak(Path(), 1.0)
    soak.gather(STAYS, lines)
    soak.gather(STAYS, lines)
    assert soak.problems == [f"{STAYS}: {''.join(defect).rstrip()}"]


def test_a_short_run(tmp_path: Path) -> None:
    """Too short to see growth, long enough for every fault to come once."""
    soak = Soak(tmp_path, 12.0)
    soak.run()
    assert soak.done.keys() == {"reload", "mutations", "backend", "restart"}
    assert soak.faults.requests > 20
    assert [each for each in soak.problems if " grew by " not in each] == []
