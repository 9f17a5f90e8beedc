"""The three operations of which migrations consist (schema.py), in the words of SQLAlchemy.

They are alembic's, by its names, and make the same tables. alembic has many more, and loads for them what a server then
keeps for life: at its first start 11 MB, and a sixth of the time.
"""

from sqlalchemy import Column, Connection, MetaData, Table, text
from sqlalchemy.schema import CreateColumn, SchemaItem


class Operations:
    """Changes the schema of a database, in the transaction that its connection is in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made = MetaData()  # a foreign key finds the table that it refers to here

    def __repr__(self) -> str:
        return f"<Operations {self._connection}>"

    def create_table(self, name: str, *items: SchemaItem) -> None:
        """Create a table with these columns, constraints and indices."""
        Table(name, self._made, *items).create(self._connection)

    def add_column(self, table: str, column: "Column[object]") -> None:
        """Add a column to a table; one that can't be null has a default, for the rows that there are."""
        altered = Table(table, MetaData(), column)
        dialect = self._connection.dialect
        name, made = dialect.identifier_preparer.format_table(altered), CreateColumn(column).compile(dialect=dialect)
        statement = f"ALTER TABLE {name} ADD COLUMN {made}"
        self.execute(statement.replace(":", "\\:"))  # which would be a parameter

    def execute(self, statement: str) -> None:
        """Execute a statement of SQL that every database understands."""
        self._connection.execute(text(statement))
