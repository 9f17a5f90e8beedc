"""Everything that is PostgreSQL's own: the driver, its bounds, transactions, the words of its errors.

psycopg 3 is an extra (mcproxy[postgresql]); it is imported when a URL is opened, so that SQLite needs none of it. libpq
reads the URL, so hosts, TLS, password files and services are as it has them.

A transaction sees one snapshot (REPEATABLE READ), as one of SQLite does. Of two that move the generation, the second
waits for the first and then fails with a serialization failure, which is a `Conflict`. A pooler may carry the
connection: nothing is left in its session, neither settings nor prepared statements.

A server may stop without closing a connection, and a network may drop packets. So each wait for it has an end on our
side too (`BoundedConnection`); the server's own limits keep a node that hangs from stopping the others.
"""

import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from mcproxy.notation.server_url import ServerUrl, masked
from mcproxy.store import schema
from mcproxy.store.dataset_alone import dataset
from mcproxy.store.errors import Conflict, Disconnected, NotOurs, StoreError, Unavailable
from mcproxy.store.schema import VERSION_TABLE
from mcproxy.store.store import Store

if TYPE_CHECKING:
    import psycopg

CONNECT_TIMEOUT = 5  # seconds for each host of the URL; one in another continent answers within one
STATEMENT_TIMEOUT = 10.0  # seconds: a whole load of 100,000 routes takes about one
LOCK_TIMEOUT = 5.0  # seconds to wait for the mutations of other nodes, each of which takes milliseconds
IDLE_TIMEOUT = 5.0  # seconds after which the server ends a node's transaction that hangs with the lock in its hands
ANSWER_TIMEOUT = STATEMENT_TIMEOUT + 2.0  # seconds: later than the server's own limit, whose message says more
WAIT_FOR_CONNECTION = 5.0  # seconds that a thread waits for those before it
PROMPT = 5.0  # seconds in which a server that doesn't hang says that it has ended a connection
MIGRATION_TRIES = 5  # of nodes that start together one migrates; the others look again
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}

# The remedy where a database isn't the one that a node has followed.
ANOTHER = (
    "restore a backup into an empty database, or a node's copy (mcproxy database copy); to begin again, stop all nodes "
    "and remove their copies"
)
MISSING = "needs psycopg, the driver of PostgreSQL: pip install 'mcproxy[postgresql]'"

# Classes and codes of SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), codes first.
_KINDS: Final = {
    "40001": Conflict,  # serialization failure
    "40P01": Conflict,  # deadlock
    "23": Conflict,  # a constraint
    "42P07": Conflict,  # a table exists: another node migrated at the same time
    "42701": Conflict,  # so does a column
    "42710": Conflict,  # so does the type of a table's rows, which is made before the table
}
_REMEDIES: Final = {
    "25006": "it is read-only, as a standby is: name the primary, or add target_session_attrs=read-write to the URL",
    "28": "it refuses the login: check user, password (a password file needs mode 0600) and pg_hba.conf",
    "3D000": "it has no such database: create it (createdb), or correct the URL",
    "42501": "the user may not do this: make it the owner of the database",
    "53100": "its disk is full: free some space there",
    "53300": "it has no connection left for us: raise max_connections there",
    "55P03": "another node's change took too long: try again",
    "57014": f"it took longer than {STATEMENT_TIMEOUT:g} s: try again",
    "57P": "it is stopping or starting",
}


# Of a connection that isn't made there is no code, and the server's words are in its own language.
_BY_WORDS: Final = tuple(
    (re.compile(words), remedy)
    for words, remedy in (
        (r'FATAL: +database ".*" does not exist', _REMEDIES["3D000"]),
        (r"FATAL: +(password|no pg_hba|role|.* authentication failed)|no password supplied", _REMEDIES["28"]),
        (r"Connection refused", "nothing listens there: start PostgreSQL, or correct host and port of the URL"),
        (r"failed to resolve host|could not translate host", "its host has no address: correct the URL, or mend DNS"),
        (r"timeout expired|connection timeout", "it doesn't answer: look at its host, and at the network to it"),
    )
)

T = TypeVar("T")


class Server:
    """A server, as the place of a store."""

    certain = False  # a connection that breaks during a commit leaves it unknown

    def __init__(self, url: ServerUrl) -> None:
        self.url = url
        self.notification = ""  # the statement that each mutation ends with; "" where nobody listens
        self._turn = threading.Lock()  # for the one connection: dataset waits for one with a lock in its hands

    def __str__(self) -> str:
        return f"database {self.url}"

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Take turns for the store's connection; turn errors into StoreError."""
        if not self._turn.acquire(timeout=WAIT_FOR_CONNECTION):
            raise Unavailable(f"{self}: our connection was busy for {WAIT_FOR_CONNECTION:g} s: try again")
        try:
            with self.errors():
                yield
        finally:
            self._turn.release()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of SQLAlchemy and psycopg into StoreError, without a value of any row in them."""
        import psycopg  # noqa: PLC0415 - an extra

        try:
            yield
        except DBAPIError as error:
            error.__traceback__ = None  # see sqlite.errors
            raise self._translated(error.orig or error, lost=error.connection_invalidated) from None  # it has values
        except psycopg.Error as error:
            raise self._translated(error) from None

    def before_commit(self, database: dataset.Database) -> None:
        """Have those who listen notified by the commit."""
        if self.notification:
            database.executable.exec_driver_sql(self.notification)

    def keep_private(self) -> bool:
        """Who may read the database is decided there."""
        return False

    def _translated(self, error: BaseException, *, lost: bool = False) -> StoreError:
        code = getattr(error, "sqlstate", None) or ""
        diagnosis = getattr(error, "diag", None)
        said = (diagnosis.message_primary if diagnosis is not None else None) or str(error)
        said = masked(" ".join(" ".join(line for line in said.splitlines() if not line.startswith("\t")).split()))
        if not code and (advice := next((each for words, each in _BY_WORDS if words.search(said)), "")):
            return Unavailable(f"{self}: {advice}: {said}")
        unavailable = Disconnected if lost else Unavailable
        for length in (5, 3, 2):
            if kind := _KINDS.get(code[:length]):
                return kind(f"{self}: another node has changed it: {said} ({code})")
            if remedy := _REMEDIES.get(code[:length]):
                return unavailable(f"{self}: {remedy}: {said} ({code})")
        return unavailable(f"{self}: {said}" + (f" ({code})" if code else ""))


def missing() -> str:
    """Why no URL can be opened by this installation; "" if it can."""
    try:
        import psycopg  # noqa: F401, PLC0415 - an extra
    except ImportError as error:  # psycopg is there and libpq isn't, for example
        return MISSING if isinstance(error, ModuleNotFoundError) else f"{MISSING} ({error})"
    return ""


def connect(url: ServerUrl, name: str = "mcproxy", patience: float = ANSWER_TIMEOUT) -> "psycopg.Connection[Any]":
    """A connection of the driver itself. Raises psycopg.Error and Unavailable.

    `name` is what the server's own lists of connections show; `patience` is in seconds, for each answer.
    """
    if lacking := missing():
        raise Unavailable(f"the URL {lacking}")
    import psycopg  # noqa: PLC0415 - an extra
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        wanted = conninfo_to_dict(url.secret)
    except psycopg.Error:  # whose message quotes what it doesn't understand
        raise Unavailable(f"{Server(url)}: libpq doesn't understand this URL: check its hosts and parameters") from None
    ours = {"connect_timeout": CONNECT_TIMEOUT, "application_name": name, **KEEPALIVE}
    kwargs: dict[str, Any] = {**ours, **wanted}
    return _bounded(patience).connect(autocommit=True, prepare_threshold=None, **kwargs)


def _bounded(patience: float) -> "type[psycopg.Connection[Any]]":
    """The class of connections that wait so many seconds for an answer, and no longer."""
    import psycopg  # noqa: PLC0415 - an extra

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
            return super().wait(_until(gen, patience, self.close), *args, **kwargs)

    return BoundedConnection


def _until(steps: Generator[Any, Any, Any], patience: float, give_up: Callable[[], object]) -> Generator[Any, Any, Any]:
    """The same steps, which fail once one finds nothing ready after so many seconds; the caller wakes it regularly.

    The connection is given up then. Else a rollback would be sent by it next, and its failure would hide this one.
    """
    import psycopg  # noqa: PLC0415 - an extra

    end = time.monotonic() + patience
    ready = None
    while True:
        try:
            wanted = next(steps) if ready is None else steps.send(ready)
        except StopIteration as finished:
            return finished.value
        ready = yield wanted
        if not ready and time.monotonic() > end:
            steps.close()
            give_up()
            raise psycopg.OperationalError(f"the server hasn't answered for {patience:g} s")


def upgrade(store: Store, *, creates: bool = True) -> None:
    """Bring the schema up to date; `creates` one in an empty database.

    Raises NewerSchema and NotOurs without touching the database, and Unavailable.
    """
    for _ in range(MIGRATION_TRIES):
        try:
            found = schema_version(store)
            if found is None:
                refuse_empty(store, creates=creates)
            schema.refuse_newer(found or 0)
            store.migrate(found)
        except Conflict:
            continue
        return
    raise Unavailable(f"{store.place}: other nodes are changing its schema: try again")


def refuse_empty(store: Store, *, creates: bool) -> None:
    """Raise Unavailable for an empty database, unless a node may create its schema."""
    if not creates:
        raise Unavailable(f"{store.place}: it is empty, and this node has a table of its fleet: {ANOTHER}")


def _limits(idle_timeout: float) -> str:
    seconds = {
        "statement_timeout": STATEMENT_TIMEOUT,
        "lock_timeout": LOCK_TIMEOUT,
        "idle_in_transaction_session_timeout": idle_timeout,
    }
    return "; ".join(f"SET LOCAL {name} = {int(limit * 1000)}" for name, limit in seconds.items())


def once_more(call: Callable[[], T], prompt: float = PROMPT) -> T:
    """The result of a call; of a second one where it soon found its connection lost, with nothing committed.

    The second one connects. A server that took longer than `prompt`, in seconds, hangs, and isn't asked twice.
    """
    began = time.monotonic()
    try:
        return call()
    except Disconnected:
        if time.monotonic() - began > prompt:
            raise
    return call()


def attach(
    server: Server, name: str = "mcproxy", idle_timeout: float = IDLE_TIMEOUT, patience: float = ANSWER_TIMEOUT
) -> Store:
    """A store on a server; nothing is asked of it until it is used. Raises Unavailable without the driver.

    `idle_timeout` is in seconds, 0 without end: a transaction that waits for another database takes its time.
    `patience` is as of `connect`.
    """
    limits = _limits(idle_timeout)
    if lacking := missing():
        raise Unavailable(f"the URL {lacking}")
    engine = {
        "creator": lambda: connect(server.url, name, patience),
        "isolation_level": "REPEATABLE READ",
        "hide_parameters": True,  # of statements, in the text of an error
        "pool_size": 1,
        "max_overflow": 0,
    }
    database = dataset.connect("postgresql+psycopg://", ensure_schema=False, row_type=dict, engine_kwargs=engine)
    event.listen(database.engine, "begin", lambda connection: connection.exec_driver_sql(limits))
    return Store(server, database)


def schema_version(store: Store) -> int | None:
    """The schema's version; None if the database has no tables. Raises NotOurs and Unavailable."""
    with store.transaction() as database:
        names = set(database.inspect.get_table_names())
        if not names:
            return None
        if VERSION_TABLE not in names:
            raise NotOurs(f"{store.place} has tables, but not mcproxy's: give it a database of its own")
        found = database.executable.exec_driver_sql(f"SELECT max(version) FROM {VERSION_TABLE}")  # noqa: S608
        return int(found.scalar_one())
