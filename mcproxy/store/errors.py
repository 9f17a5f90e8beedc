"""Errors of the database. Every message is one sentence for an operator, with the remedy.

Tested by tests/store/test_schema.py, where they are raised.
"""

from mcproxy.certificates.acme.contract import NotDurable


class StoreError(NotDurable):
    """The database can't do this; nothing in it has changed."""


class NewerSchema(StoreError):
    """A newer mcproxy wrote it."""


class NotOurs(StoreError):
    """The file is not a database, or not one of mcproxy's."""


class Unavailable(StoreError):
    """It can't be read or written now: locked, read-only, disk full, I/O error."""


class UnreadableRow(StoreError):
    """A row is not as mcproxy writes it, since somebody else has written it. The message names it."""


class Disconnected(Unavailable):
    """The connection was lost, and no commit was sent by it: what was to be done has not been done."""


class NameTaken(StoreError):
    """Another node of the fleet has this node's name."""


class Unsure(Unavailable):
    """The connection was lost during a commit: it may or may not have been done."""


class Conflict(StoreError):
    """Another process changed it since it was loaded."""


class Exists(StoreError):
    """A file is in the way of a snapshot."""
