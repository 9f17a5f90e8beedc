"""dataset, without what it imports for others: alembic, for `Database.op`, and drivers and dialects of SQLAlchemy.

Nothing here uses `op`: migrations have operations.py. The dialect of PostgreSQL is for `Types.json`, a column that no
table of ours has; a fleet's database loads it by its URL. The two would be 13 MB of a server's memory and a tenth of
its start. SQLite's dialect comes with drivers for asyncio and for encrypted files.
"""

from mcproxy.later import left_out

__all__ = ["dataset"]

with left_out(
    "alembic.migration", "alembic.operations", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.sqlite.pysqlcipher",
):  # fmt: skip
    import dataset
    import sqlalchemy.dialects.sqlite  # noqa: F401 - else it would come with the first database, and all of its drivers
