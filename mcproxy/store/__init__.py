"""The database: schema, load, apply, history, snapshot. SQLite waits block, so never called from a greenlet."""
