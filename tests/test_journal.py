"""Floods of refusals are cut short and counted; the log's level holds for the lines of connections and requests."""

import json
import logging
from collections.abc import Iterator

import pytest

from mcproxy import journal
from mcproxy.journal import ConnectionLog
from mcproxy.model import End, Reason
from mcproxy.stats import Stats
from tests.test_lines import ORIGIN, STARTED, answered, ended


def flood(lines: ConnectionLog, reason: Reason, count: int, at: float) -> None:
    for _ in range(count):
        lines.put(ended(reason=reason, end=End.REFUSED, started=at, duration=0.0))


@pytest.fixture
def chatty() -> Iterator[None]:
    """The package logs from info on."""
    logger = logging.getLogger("mcproxy")
    before = logger.level
    logger.setLevel("INFO")
    yield
    logger.setLevel(before)


def test_a_flood_of_refusals_is_cut_short_and_counted(chatty: None, caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []
    stats = Stats()
    lines = ConnectionLog(written.extend, "text", stats)
    flood(lines, Reason.HELLO_NOT_TLS, journal.REFUSALS_AT_ONCE + 300, STARTED)
    flood(lines, Reason.ROUTE_UNKNOWN, 10, STARTED)  # each reason has a measure of its own
    assert len(written) == journal.REFUSALS_AT_ONCE + 10
    flood(lines, Reason.OK, 2 * journal.REFUSALS_AT_ONCE, STARTED)
    assert len(written) == 3 * journal.REFUSALS_AT_ONCE + 10
    flood(lines, Reason.HELLO_NOT_TLS, 1000, STARTED + 1)
    assert len(written) == 3 * journal.REFUSALS_AT_ONCE + 10 + journal.REFUSALS_PER_SECOND
    flood(lines, Reason.HELLO_NOT_TLS, 1000, STARTED - 3600)  # the clock was set back: no room is made up
    assert len(written) == 3 * journal.REFUSALS_AT_ONCE + 10 + journal.REFUSALS_PER_SECOND
    left_out = 300 + 900 + 1000
    assert stats.lines_left_out == left_out
    lines.report()
    lines.report()
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"left out {left_out} lines of refused connections: hello_not_tls {left_out}"]


def test_the_level_holds_for_lines_of_connections_too(chatty: None) -> None:
    written: list[str] = []
    lines = ConnectionLog(written.extend, "json", Stats())
    logging.getLogger("mcproxy").setLevel("WARNING")
    lines.put(ended())
    assert written == []
    logging.getLogger("mcproxy").setLevel("INFO")
    lines.put(ended(end=End.OPEN))
    assert json.loads(written[0])["end"] == "open"


def test_the_level_holds_for_requests_too(chatty: None) -> None:
    written: list[str] = []
    put = ConnectionLog(written.extend, "text", Stats()).requests(ORIGIN)
    put([answered(), answered()])
    logging.getLogger("mcproxy").setLevel("ERROR")
    put([answered()])
    assert [" request " in line for line in written] == [True, True]


def test_another_format_holds_for_open_connections_too(chatty: None) -> None:
    written: list[str] = []
    lines = ConnectionLog(written.extend, "text", Stats())
    put = lines.requests(ORIGIN)
    put([answered()])
    lines.write_as("json")
    put([answered()])
    lines.put(ended())
    lines.write_as("text")
    put([answered()])
    assert [line.startswith("{") for line in written] == [False, True, True, False]
    assert json.loads(written[1])["event"] == "request"
