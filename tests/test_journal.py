"""Floods of refusals are cut short and counted; the log's level holds for the lines of connections and requests."""

import json
import logging
from collections.abc import Iterator

import pytest

from mcproxy import journal
from mcproxy.journal import ConnectionLog
from mcproxy.l7.core import ExchangeEnd
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


def test_a_flood_of_requests_that_we_answer_is_cut_short_and_counted(
    chatty: None, caplog: pytest.LogCaptureFixture
) -> None:
    """One connection wrote 60,000 lines a second: each request for another host has an answer of ours, and a line."""
    written: list[str] = []
    stats, now = Stats(), [STARTED]
    lines = ConnectionLog(written.extend, "text", stats, clock=lambda: now[0])
    put = lines.requests(ORIGIN)
    burst = journal.REFUSALS_AT_ONCE
    put([answered(end="answered", status=421)] * (burst + 300))
    put([answered(end="answered", status=502)] * 10)  # each status has a bucket of its own
    put([answered(end="refused", status=0)] * 10)
    put([answered(end="client fault", status=400)] * 10)
    assert len(written) == burst + 30
    now[0] += 1
    lines.requests(ORIGIN)([answered(end="answered", status=421)] * 1_000)  # another connection has no more
    assert len(written) == burst + 30 + journal.REFUSALS_PER_SECOND
    assert stats.lines_left_out == 300 + 900
    lines.report()
    lines.report()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["left out 1200 lines of requests that mcproxy answered itself: answered 421 1200"]


@pytest.mark.parametrize("end", sorted(set(ExchangeEnd) - journal.WITHOUT_BACKEND))
def test_no_line_of_a_request_that_a_backend_got_is_left_out(chatty: None, end: str) -> None:
    written: list[str] = []
    stats = Stats()
    ConnectionLog(written.extend, "text", stats).requests(ORIGIN)(
        [answered(end=end, status=404)] * (3 * journal.REFUSALS_AT_ONCE)
    )
    assert len(written) == 3 * journal.REFUSALS_AT_ONCE
    assert not stats.lines_left_out


def test_the_ends_without_a_backend_are_words_of_the_log() -> None:
    assert {ExchangeEnd.ANSWERED, ExchangeEnd.REFUSED, ExchangeEnd.CLIENT_FAULT} == journal.WITHOUT_BACKEND
