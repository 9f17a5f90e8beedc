"""mcproxy beside HAProxy, nginx and Caddy: the same bytes to all, and no difference that isn't meant.

`differences.toml` lists where mcproxy differs from most of them: on purpose, each with its reason, or by a fault that
is to be mended. A row that differs and isn't listed fails, and so does one that no longer does as listed. The
whole table is written to build/differences.txt.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit import differ, differ_peers
from tests.kit.differ_case import STEADY, Case, head
from tests.kit.differ_cases import all_cases
from tests.kit.peers import Authority
from tests.kit.program import ROOT

pytestmark = pytest.mark.xdist_group("differences")

LISTED = Path(__file__).with_name("differences.toml")
TABLE = ROOT / "build" / "differences.txt"
CASES = all_cases()
DRAIN = Case(
    "HTTP/2: a slow reader while the program is told to end", "", "http2", (head(path="/big"),), {"slowly": STEADY}
)
ATTEMPTS = 3  # a loaded machine may let a timeout fire between two steps of a case


@dataclass(frozen=True)
class Listed:
    """A row that differs, as the file has it."""

    outcome: str
    reason: str
    wanted: str = ""  # of a fault: what it is to be
    sometimes: str = ""  # an outcome as good, where the peer's packets race


def entries(section: str) -> dict[str, Listed]:
    """The rows of a section, by case."""
    found: dict[str, Listed] = {}
    for each in tomllib.loads(LISTED.read_text()).get(section, []):
        cases = each.pop("cases", None) or [each.pop("case")]
        for case in cases:
            assert case not in found, f"{case} is listed twice"
            found[case] = Listed(**each)
    return found


INTENDED, TO_BE_MENDED = entries("intended"), entries("to_be_mended")


@dataclass(frozen=True)
class Ran:
    """The programs, and the table so far."""

    peers: dict[str, differ_peers.Peer]
    rows: dict[str, differ.Row]


@pytest.fixture(scope="module")
def ran(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Every case through every program, once."""
    with differ_peers.running(authority, tmp_path_factory.mktemp("peers")) as peers:
        rows = {row.case.name: row for row in differ.run_all(CASES, peers)}
        differ.write(list(rows.values()), TABLE)
        yield Ran(peers, rows)


def complaint(row: differ.Row) -> str:
    """What is wrong with a row; "" if nothing is."""
    name, ours = row.case.name, row.outcomes[differ.OURS]
    fault, meant = TO_BE_MENDED.get(name), INTENDED.get(name)
    if fault and ours != fault.outcome:
        return f"no longer `{fault.outcome}`. If `{ours}` is right, move or remove the row of to_be_mended"
    if meant and ours not in (meant.outcome, meant.sometimes):
        return f"`{ours}`, listed as intended is `{meant.outcome}`"
    if meant and row.same_for_all:
        return "is as in all other programs: remove the row of intended"
    if row.differs and not fault and not meant:
        return f"`{ours}` differs from {row.outcomes}: mend it, or list it in {LISTED.name} with the reason"
    return ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outcome(case: Case, ran: Ran) -> None:
    row = ran.rows[case.name]
    for _ in range(ATTEMPTS - 1):
        if not complaint(row):
            return
        row = differ.run_all([case], ran.peers)[0]
    assert not complaint(row)


def test_each_listed_row_is_a_case_with_a_reason() -> None:
    names = {case.name for case in CASES}
    assert len(names) == len(CASES)
    assert INTENDED.keys() | TO_BE_MENDED.keys() <= names
    assert not INTENDED.keys() & TO_BE_MENDED.keys()
    assert all(len(each.reason.split()) > 3 for each in [*INTENDED.values(), *TO_BE_MENDED.values()])
    assert all(each.wanted for each in TO_BE_MENDED.values())


def test_a_difference_that_is_not_listed_is_found() -> None:
    """Or the rest would prove nothing."""
    case = Case("HTTP/1.1: made up", "", "http1")
    others = {"haproxy": "200 -> -", "nginx": "200 -> -", "caddy": "400 -> -"}
    assert complaint(differ.Row(case, {"mcproxy": "400 -> -", **others}))
    assert not complaint(differ.Row(case, {"mcproxy": "200 -> -", **others}))


def test_a_slow_reader_has_all_when_the_program_ends(ran: Ran) -> None:
    """Last of all: the programs are gone afterwards."""
    row = differ.drained(ran.peers, DRAIN)
    with TABLE.open("a") as table:
        table.write("\n".join(differ.lines(row)) + "\n")
    assert row.outcomes[differ.OURS] == "200"
