"""The store on a real PostgreSQL, and what only PostgreSQL does."""

import os
import signal
import threading
import uuid
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import psycopg
import pytest

from mcproxy.change import Change, Provenance, Said, listener_key, route_key, rule_key, table_values
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.notation.server_url import ServerUrl, parse_server_url
from mcproxy.store import history, listing, schema
from mcproxy.store.errors import Conflict, Disconnected, NewerSchema, NotOurs, StoreError, Unavailable
from mcproxy.store.postgres import Server, attach, connect, once_more, upgrade
from mcproxy.store.store import Store
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED, route
from tests.kit.peers import DEADLINE, until
from tests.kit.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.xdist_group("postgres")

PROVENANCE = Provenance("a test", "route.add", 2000.0, Said("ann", "why"), "edge1")


LOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def added(name: str) -> Change:
    return Change(route_key(":443", name), None, route(name))


@pytest.fixture
def url(postgres: PostgresServer) -> ServerUrl:
    """The URL of an empty database."""
    return parse_server_url(postgres.create(f"db_{uuid.uuid4().hex}"))


def open_server(url: ServerUrl) -> Store:
    """A store whose schema is up to date."""
    store = attach(Server(url))
    try:
        upgrade(store)
    except BaseException:
        store.close()
        raise
    return store


@pytest.fixture
def store(url: ServerUrl) -> Iterator[Store]:
    """A store with the seed in it."""
    with closing(open_server(url)) as opened:
        assert opened.seed(SEED, RULES, 1.0)
        yield opened


def test_what_was_seeded_is_loaded(store: Store, url: ServerUrl) -> None:
    assert table_values(store.load()) == table_values(Table.build(SEED, RULES))
    with closing(open_server(url)) as again:
        assert again.load().generation == 1
        assert not again.seed(SEED, RULES, 1.0)


def test_each_kind_of_change_is_stored_and_loaded(store: Store) -> None:
    old, new = SEED[0][1][0], route("git.example.org", "127.0.0.1:9")
    rule = FirewallRule(RuleKind.IP, "192.0.2.1", 5000.0)
    changes = [
        added("new.example.org"),
        Change(route_key(":443", "git.example.org"), old, new),
        Change(route_key(":443", "www.example.org"), SEED[0][1][1], None),
        Change(listener_key(":443"), SEED[0][0], Listener(":443", True, ("10.0.0.0/8",), 3)),
        Change(rule_key("ip", "192.0.2.1"), RULES[0], rule),
    ]
    store.apply(changes, PROVENANCE, 2)
    found = table_values(store.load())
    assert [found.get(change.key) for change in changes] == [change.new for change in changes]
    assert store.next_expiry() == 5000.0
    assert listing.ended_rules(store, 5000.0, 10) == [rule]


def test_the_audit_names_the_node(store: Store) -> None:
    store.apply([added("new.example.org")], PROVENANCE, 2)
    (revision,) = history.revisions(store, 1)
    assert (revision.node, revision.said, revision.at) == ("edge1", Said("ann", "why"), 2000.0)
    (back,) = history.way_back(store, store.load(), 1, 0.0)
    assert back == Change(route_key(":443", "new.example.org"), route("new.example.org"), None)


def test_lists_page(store: Store) -> None:
    first = listing.routes(store, 1, prefix="")
    assert [each.hostname for _, each in first.items] == ["git.example.org"]
    assert [each.hostname for _, each in listing.routes(store, 5, first.following).items] == ["www.example.org"]
    assert listing.routes(store, 5, prefix="100%_").items == []


@pytest.mark.parametrize("generation", [1, 3])
def test_generations_follow_each_other_without_gap_or_repeat(store: Store, generation: int) -> None:
    with pytest.raises(Conflict):
        store.apply([added("new.example.org")], PROVENANCE, generation)
    assert store.load().generation == 1


def test_of_two_that_write_a_generation_one_waits_and_is_refused(
    store: Store, url: ServerUrl, postgres: PostgresServer
) -> None:
    with closing(open_server(url)) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction() as database:
            database.executable.exec_driver_sql("UPDATE head SET generation = 2")
            waiting = pool.submit(store.apply, [added("ours.example.org")], PROVENANCE, 2)
            until(lambda: postgres.execute("postgres", LOCKED) != [(0,)])
        with pytest.raises(Conflict, match="40001"):
            waiting.result(DEADLINE)
    assert "ours.example.org" not in store.load().listeners[":443"].routes


def test_nodes_that_start_together_migrate_once(url: ServerUrl) -> None:
    begin = threading.Barrier(4)

    def start() -> int:
        begin.wait(DEADLINE)
        with closing(open_server(url)) as store:
            return store.load().generation

    with ThreadPoolExecutor(4) as pool:
        assert [each.result(DEADLINE) for each in [pool.submit(start) for _ in range(4)]] == [0] * 4
    with closing(attach(Server(url))) as store, store.transaction() as database:
        assert len(list(database.query("SELECT * FROM schema_version"))) == schema.VERSION


def test_a_newer_database_is_refused(store: Store, url: ServerUrl) -> None:
    with store.transaction() as database:
        database.executable.exec_driver_sql(f"INSERT INTO schema_version VALUES ({schema.VERSION + 1})")
    with pytest.raises(NewerSchema, match="run the newer mcproxy"):
        open_server(url)


def test_another_programs_database_is_refused(postgres_url_with_cookies: ServerUrl) -> None:
    with pytest.raises(NotOurs, match="give it a database of its own"):
        open_server(postgres_url_with_cookies)


@pytest.fixture
def postgres_url_with_cookies(url: ServerUrl) -> ServerUrl:
    with psycopg.connect(url.secret, autocommit=True) as connection:
        connection.execute("CREATE TABLE cookies (host TEXT)")
    return url


def test_a_node_has_one_connection_however_many_threads_ask(store: Store, postgres: PostgresServer) -> None:
    """dataset waits for a free connection with a lock in its hands that the thread which has it wants, too."""
    with ThreadPoolExecutor(8) as pool:
        assert {each.generation for each in pool.map(lambda _: store.load(), range(40))} == {1}
    counted = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{str(store.place).rpartition('/')[2]}'"
    assert postgres.execute("postgres", counted) == [(1,)]


def test_a_connection_that_the_server_ended_is_replaced(store: Store, postgres: PostgresServer) -> None:
    name = str(store.place).rpartition("/")[2]
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    assert postgres.execute("postgres", ended) == [(True,)]
    with pytest.raises(Unavailable, match=r"is stopping or starting: terminating connection|57P01|closed"):
        store.load()
    assert store.load().generation == 1


@pytest.mark.parametrize(
    "text", ["postgresql://ann:s3cret@127.0.0.1:1/x", "postgresql://127.0.0.1:1/x?password=s3cret"]
)
def test_no_message_has_the_password(text: str) -> None:
    url = parse_server_url(text)
    with closing(attach(Server(url))) as store:
        with pytest.raises(Unavailable, match="refused") as caught:
            store.load()
        for shown in (str(caught.value), repr(store), repr(store.place), repr(url), str(url)):
            assert "s3cret" not in shown
            assert "***" in shown or shown is str(caught.value)


def test_a_url_that_libpq_refuses_is_not_quoted() -> None:
    url = parse_server_url("postgresql://ann:s3cret@h/x?no_such_parameter=1")
    with pytest.raises(Unavailable, match="doesn't understand this URL") as caught:
        open_server(url)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_hangs_is_given_up() -> None:
    """A stopped process keeps its connections open: only our own clock ends such a wait."""
    with postgres_server() as server, closing(connect(parse_server_url(server.url()), patience=0.2)) as connection:
        (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(psycopg.OperationalError, match="hasn't answered for"):
                connection.execute("SELECT 1")
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_hangs_in_a_transaction_is_said_to_hang(url: ServerUrl) -> None:
    """The rollback that followed hid it: "another command is already in progress"."""
    with (
        closing(attach(Server(url), patience=0.5)) as store,
        pytest.raises(Disconnected, match=r"hasn't answered for 0\.5 s$"),
        store.transaction() as database,
    ):
        database.executable.exec_driver_sql("SELECT pg_sleep(60)")


def test_what_takes_long_to_be_lost_is_not_asked_for_twice() -> None:
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise Disconnected("a restart")
        return len(calls)

    assert once_more(call) == 2
    calls.clear()
    with pytest.raises(Disconnected):
        once_more(call, prompt=-1.0)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)", "took longer than"),
        ("SELECT * FROM no_such_table", r"\(42P01\)"),
        ("SET TRANSACTION READ ONLY; UPDATE head SET generation = 7", "target_session_attrs"),
    ],
)
def test_errors_say_what_to_do(store: Store, statement: str, words: str) -> None:
    with pytest.raises(Unavailable, match=words), store.transaction() as database:
        database.executable.exec_driver_sql(statement)
    assert store.failures == 1
    assert store.load().generation == 1


class Marker:
    """Something of a caller's."""


def test_an_error_leaves_nothing_to_the_collector(store: Store, no_collector: None) -> None:
    """SQLAlchemy's errors are cycles with all frames up to the caller's.

    Calls of the admin API lived on with them, until gRPC refused every further one of their connection.
    """
    seen: list[weakref.ref[Marker]] = []

    def fails() -> None:
        ours = Marker()
        seen.append(weakref.ref(ours))
        with suppress(StoreError), store.transaction() as database:
            database.executable.exec_driver_sql("SELECT * FROM no_such_table")

    fails()
    assert seen[0]() is None
