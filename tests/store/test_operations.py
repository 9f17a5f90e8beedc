"""The operations of migrations, beside alembic's, which define them."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations as Alembics
from sqlalchemy import Column, Connection, Integer, String, create_mock_engine

from mcproxy.store import schema, sqlite
from mcproxy.store.operations import Operations


def made(path: Path, make: Any) -> list[dict[str, Any]]:
    """What a file holds of a schema that was made with these operations."""
    with closing(sqlite.connect(path)) as database, database:
        schema.migrate(make(database.executable), None)
        return list(map(dict, database.query("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid")))


def test_the_schema_is_the_one_that_alembic_makes(tmp_path: Path) -> None:
    """Databases that it made are in use: a new one must not differ from them."""
    ours = made(tmp_path / "ours.db", Operations)
    assert ours == made(tmp_path / "alembic.db", lambda connection: Alembics(MigrationContext.configure(connection)))
    assert "audit_by_subject" in {each["name"] for each in ours}


def statements(dialect: str) -> list[str]:
    """The whole schema as a database of this dialect is given it."""
    given: list[str] = []

    def execute(statement: Any, *_args: object, **_options: object) -> None:
        given.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine(f"{dialect}://", execute)
    connection: Any = engine
    schema.migrate(Operations(connection), None)
    return given


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite"])
def test_every_dialect_has_words_for_the_schema(dialect: str) -> None:
    given = "".join(statements(dialect))
    for name in ("listeners", "routes", "firewall_rules", "audit", schema.VERSION_TABLE):
        assert f"CREATE TABLE {name}" in given
    assert "ALTER TABLE audit ADD COLUMN claim VARCHAR(" in given


def test_names_are_quoted_where_they_must_be(tmp_path: Path) -> None:
    with closing(sqlite.connect(tmp_path / "a.db")) as database, database:
        connection: Connection = database.executable
        Operations(connection).create_table("Two Words", Column("order", Integer))
        Operations(connection).add_column("Two Words", Column("group", String(9), nullable=False, server_default="%:x"))
        Operations(connection).execute('INSERT INTO "Two Words" ("order") VALUES (1)')
        assert list(database.query('SELECT * FROM "Two Words"')) == [{"order": 1, "group": "%:x"}]
