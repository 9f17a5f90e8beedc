"""What a node of a fleet would start with, as `check` finds it on a real PostgreSQL."""

import re
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcproxy.check.check import Checked, check
from mcproxy.check.truth import load_of_fleet
from mcproxy.model import Listener
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store import schema
from mcproxy.store.postgres import Server, attach, upgrade
from mcproxy.store.schema import VERSION_TABLE
from mcproxy.store.store import ListenerRoutes
from tests.check.conftest import Parse
from tests.kit.control_plane import SEED, store_at
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")

NOWHERE = "postgresql://ann@127.0.0.1:1/fleet"
NEEDS = "and this node has no copy of the fleet's table: its first start needs the database"
SEEDED: list[ListenerRoutes] = [
    (Listener(":1"), []),
    (Listener(":2", nodes=("edge2",)), []),
    (Listener(":3", nodes=("edge1",)), []),
]


def found(parse: Parse, url: str, **document: Any) -> tuple[str, Sequence[str]]:
    """The table as `check` words it, "" for none; and the findings."""
    config = parse({"database": {"url": url, "cache": "x.db"}, "node": {"name": "edge1"}, **document})
    loaded, told = load_of_fleet(config, parse_server_url(url))
    return str(loaded or ""), [f"{'' if each.serious else 'warning: '}{each}" for each in told]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.create(f"db_{uuid.uuid4().hex}")


@pytest.fixture
def seeded(url: str) -> str:
    with closing(attach(Server(parse_server_url(url)))) as truth:
        upgrade(truth)
        truth.seed(SEEDED, [], 1.0)
    return url


def test_the_database_counts(parse: Parse, seeded: str, tmp_path: Path) -> None:
    """It was never asked: only the copy was looked at."""
    shown = "2 listeners, 0 routes, and 1 listener of other nodes, generation 1 of the database"
    assert found(parse, seeded) == (shown, [])
    with store_at(tmp_path / "x.db"):
        pass
    assert found(parse, seeded)[0] == shown


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE listeners SET trusted_proxies = 'all'", "column trusted_proxies can't be read: "),
        (f"INSERT INTO {VERSION_TABLE} VALUES ({schema.VERSION + 1})", "run the newer mcproxy"),
        (
            f"DELETE FROM {VERSION_TABLE} WHERE version = {schema.VERSION}",
            f"start of a node upgrades it to {schema.VERSION}",
        ),
        ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "it is empty, and this node has a table of its fleet"),
        ("DELETE FROM head", "table head has no row"),
    ],
)
def test_a_database_that_is_not_as_it_should_be(
    parse: Parse, seeded: str, postgres: PostgresServer, statement: str, says: str, tmp_path: Path
) -> None:
    postgres.execute(seeded.rpartition("/")[2], statement)
    with store_at(tmp_path / "x.db"):
        pass
    shown, (told,) = found(parse, seeded)
    assert shown == f"1 listener, 2 routes, generation 1 of the copy {tmp_path / 'x.db'}"
    assert told.startswith("warning: database.url: ")
    assert says in told


def test_an_empty_database_is_filled_from_the_file(parse: Parse, url: str) -> None:
    shown, (told,) = found(parse, url, listeners=[{"addr": ":1"}])
    assert shown == "1 listener, 0 routes"
    assert told.endswith("is empty: the first start makes its tables, and fills them from this file")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("127.0.0.1:1/fleet", "nothing listens there: start PostgreSQL, or correct host and port of the URL: "),
        ("127.0.0.1:{port}/none", "it has no such database: create it"),
        ("127.0.0.1:{port}/postgres?user=nobody", "it refuses the login: check user, password"),
    ],
)
def test_why_a_node_without_a_copy_would_not_start(
    parse: Parse, postgres: PostgresServer, place: str, says: str
) -> None:
    shown, (told,) = found(parse, f"postgresql://postgres@{place.format(port=postgres.port)}")
    assert not shown
    assert told.startswith("database.url: database postgresql://")
    assert says in told
    assert told.endswith(NEEDS)


def test_another_programs_database_is_a_problem(
    parse: Parse, url: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    postgres.execute(url.rpartition("/")[2], "CREATE TABLE cookies (host TEXT)")
    with store_at(tmp_path / "x.db"):
        pass
    assert re.match(
        "database.url: .* has tables, but not mcproxy's: give it a database of its own", found(parse, url)[1][0]
    )


@pytest.mark.parametrize(
    ("content", "says"), [(b"junk" * 1000, "it is not a SQLite database"), (b"", "")], ids=["junk", "empty"]
)
def test_a_copy_that_cannot_be_used_is_fetched_again(
    parse: Parse, seeded: str, content: bytes, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    shown, told = found(parse, seeded)
    assert shown.endswith("generation 1 of the database")
    again = f"a start moves it to {path}.unusable and fetches it again, which needs the database"
    assert told == ([f"warning: database.cache: the copy {path} can't be used: {says}; {again}"] if says else [])
    assert path.read_bytes() == content


def test_without_the_database_the_copy_is_checked(parse: Parse, tmp_path: Path) -> None:
    with store_at(tmp_path / "x.db", SEED):
        pass
    config = parse({"database": {"url": NOWHERE, "cache": "x.db"}})
    checked: Checked = check(config, lambda: None)
    assert not checked.problems
    assert str(checked.loaded) == f"1 listener, 2 routes, generation 1 of the copy {tmp_path / 'x.db'}"
    ends = f"a start would serve the copy {tmp_path / 'x.db'}, generation 1, and take no changes"
    assert any(str(each).endswith(ends) for each in checked.warnings)
