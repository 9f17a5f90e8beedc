"""Every fault that a parser, a backend's side or a budget can find has its line, with status, end and reason.

The faults are found in the code, so that a new one without a row fails here.
"""

import re

import pytest

from mcproxy.lines import requests_json
from tests.kit.fault_plays import Ended, Played
from tests.kit.fault_rows import ROWS, Row
from tests.kit.fault_sites import OTHERWISE, sites
from tests.kit.relay_playbook import Book
from tests.test_lines import ORIGIN


def why(played: Played) -> str:
    """The reason of the connection, of the client's or the backend's."""
    assert not isinstance(played, Ended), "each of those has an exchange"
    core = played.relay if isinstance(played, Book) else played.bridge
    return core.ending.why if core.ending else played.relay.fault if isinstance(played, Book) else played.fault()


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_a_fault_has_its_line(row: Row) -> None:
    """Faults of HTTP/2 clients had no line, and those of HTTP/2 backends no reason."""
    reason = re.compile(re.escape(row.text).replace(r"\*", ".+"))
    played = row.play()
    if row.end is None:
        assert reason.search(why(played))
        return
    found = [each for each in played.records if reason.search(each.why)]
    assert [(each.status, str(each.end)) for each in found] == [(row.status, str(row.end))], played.records
    (line,) = requests_json(ORIGIN)(found, 0.0)
    assert f'"status": {row.status}, "end": "{row.end}"' in line


def test_every_fault_in_the_code_has_a_row() -> None:
    covered = {(row.file, row.text) for row in ROWS}
    assert sites() - covered - OTHERWISE.keys() == set()
    assert OTHERWISE.keys() <= sites(), "what is no longer in the code needs no reason"
