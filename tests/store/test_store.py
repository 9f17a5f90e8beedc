import re
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from mcproxy.change import Change, Provenance, listener_key, route_key, rule_key, table_values
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store import listing
from mcproxy.store.errors import Conflict, Unavailable, UnreadableRow
from mcproxy.store.store import Store, read_table
from mcproxy.table import Table
from tests.kit.control_plane import RULES, SEED, route, store_at
from tests.kit.peers import DEADLINE, until

PROVENANCE = Provenance("a test", "route.add", 2000.0)


def added(name: str) -> Change:
    return Change(route_key(":443", name), None, route(name))


def names(store: Store) -> list[str]:
    return sorted(store.load().listeners[":443"].routes)


def test_what_was_seeded_is_loaded(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        assert table_values(store.load()) == table_values(Table.build(SEED, RULES))
        assert store.load().generation == 1


def test_only_an_empty_database_is_seeded(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "a.db")) as store:
        assert not store.seed([], [], 1.0), "there is nothing to seed with"
        assert store.seed(SEED, RULES, 1.0)
        assert not store.seed([(Listener(":1"), [])], [], 1.0)
        store.apply([Change(key, value, None) for key, value in table_values(store.load()).items()], PROVENANCE, 2)
        assert not store.seed(SEED, RULES, 1.0), "an operator emptied it"
        assert not store.load().listeners


def test_a_change_is_there_after_a_restart(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        store.apply([added("new.example.org")], PROVENANCE, 2)
    with closing(Store.open(tmp_path / "a.db")) as store:
        assert store.load().generation == 2
        assert "new.example.org" in names(store)


def test_a_value_is_replaced(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        old, new = SEED[0][1][0], route("git.example.org", "127.0.0.1:9")
        rule = FirewallRule(RuleKind.IP, "192.0.2.1", 5000.0)
        changes = [
            Change(route_key(":443", "git.example.org"), old, new),
            Change(listener_key(":443"), SEED[0][0], Listener(":443", True, ("10.0.0.0/8",), 3)),
            Change(rule_key("ip", "192.0.2.1"), RULES[0], rule),
        ]
        store.apply(changes, PROVENANCE, 2)
        found = table_values(store.load())
        assert [found[change.key] for change in changes] == [change.new for change in changes]
        assert store.next_expiry() == 5000.0


@pytest.mark.parametrize(
    "changes",
    [
        [added("git.example.org")],
        [added("new.example.org"), Change(route_key(":443", "no.example.org"), route("no.example.org"), None)],
        [added("new.example.org"), Change(route_key(":1", "a.example.org"), None, route("a.example.org"))],
        [Change(route_key(":443", "no.example.org"), route("no.example.org"), route("no.example.org", "1.1.1.1:1"))],
    ],
    ids=["there already", "one of two is not there", "no such listener", "nothing to replace"],
)
def test_a_mutation_that_does_not_fit_leaves_nothing(tmp_path: Path, changes: Sequence[Change]) -> None:
    with store_at(tmp_path / "a.db") as store:
        before = table_values(store.load())
        with pytest.raises(Conflict, match="another process has changed it"):
            store.apply(changes, PROVENANCE, 2)
        assert table_values(store.load()) == before
        store.apply([added("fine.example.org")], PROVENANCE, 2)


@pytest.mark.parametrize("generation", [1, 3])
def test_generations_follow_each_other_without_gap_or_repeat(tmp_path: Path, generation: int) -> None:
    with store_at(tmp_path / "a.db") as store:
        with pytest.raises(Conflict):
            store.apply([added("new.example.org")], PROVENANCE, generation)
        assert "new.example.org" not in names(store)


def test_of_two_processes_only_one_writes_a_generation(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store, closing(Store.open(tmp_path / "a.db")) as other:
        other.apply([added("theirs.example.org")], PROVENANCE, 2)
        with pytest.raises(Conflict, match="restart this one"):
            store.apply([added("ours.example.org")], PROVENANCE, 2)


def test_a_lock_held_by_another_process_is_waited_for_and_then_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with store_at(path), closing(Store.open(path, busy_timeout=0.1)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="another process holds its lock"):
                store.apply([added("new.example.org")], PROVENANCE, 2)
            assert "new.example.org" not in names(store), "readers are not stopped by a writer"
        store.apply([added("new.example.org")], PROVENANCE, 2)
        assert "new.example.org" in names(store)


def test_a_commit_that_fails_leaves_the_connection_usable(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        with pytest.raises(Conflict):
            _break_at_commit(store)
        assert table_values(store.load()) == table_values(Table.build(SEED, RULES))
        store.apply([added("new.example.org")], PROVENANCE, 2)


def test_a_store_that_is_closed_is_written_to_by_no_thread_any_more(tmp_path: Path) -> None:
    """It met a RuntimeError, which looked like a bug; and a transaction that was under way lost its connection."""
    store = Store.open(tmp_path / "a.db")
    store.close()
    with pytest.raises(Unavailable, match="this process has closed it"), store.transaction():
        pass
    with pytest.raises(Unavailable, match="this process has closed it"):
        store.seed(SEED, RULES, 1.0)


def test_closing_a_store_waits_for_the_transaction_that_is_under_way(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    store.seed(SEED, RULES, 1.0)
    with ThreadPoolExecutor(1) as pool:
        with store.transaction() as database:
            database.executable.exec_driver_sql("UPDATE routes SET backend = '127.0.0.1:9'")
            closing_it = pool.submit(store.close)
            until(lambda: "closed" in repr(store), "it to close")
            assert not closing_it.done()
        closing_it.result(DEADLINE)
    routes = read_table(tmp_path / "a.db").listeners[":443"].routes.values()
    assert {str(each.backend) for each in routes} == {"127.0.0.1:9"}, "what was under way is durable"


def _break_at_commit(store: Store) -> None:
    with store.transaction() as database:
        database.executable.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        database.executable.exec_driver_sql("DELETE FROM listeners")  # that routes refer to is noticed by COMMIT


def test_other_threads_do_not_see_what_is_not_committed(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store, ThreadPoolExecutor(1) as pool:
        with store.transaction() as database:
            database.executable.exec_driver_sql("UPDATE routes SET backend = '127.0.0.1:9'")
            before = pool.submit(listing.routes, store, 10).result(DEADLINE)
        after = pool.submit(listing.routes, store, 10).result(DEADLINE)
    assert {str(each.backend) for _, each in before.items} == {"127.0.0.1:3000", "127.0.0.1:3001"}
    assert {str(each.backend) for _, each in after.items} == {"127.0.0.1:9"}


def test_read_table_needs_no_server_and_upgrades_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(Unavailable, match="first start"):
        read_table(path)
    with store_at(path):
        assert read_table(path).generation == 1, "while it is open"
    before = path.read_bytes()
    assert read_table(path).generation == 1
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path]), "no file is left beside it"
    path.write_bytes(b"")
    with pytest.raises(Unavailable, match="next start of the server upgrades it"):
        read_table(path)
    assert path.read_bytes() == b""


def test_a_path_may_have_any_character(tmp_path: Path) -> None:
    folder = tmp_path / "50%41 #?mode=ro"
    folder.mkdir()
    path = folder / "a?b%2F.db"
    with store_at(path) as store:
        store.apply([added("new.example.org")], PROVENANCE, 2)
        assert read_table(path).generation == 2
    assert read_table(path).generation == 2
    assert [each.name for each in folder.iterdir()] == [path.name]
    assert [each.name for each in tmp_path.iterdir()] == [folder.name]


def _remove(path: Path) -> None:
    path.rename(path.with_name("away.db"))


def _replace(path: Path) -> None:
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove_wal(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("damage", [_remove, _replace, _empty, _remove_wal])
def test_a_file_that_is_no_longer_there_takes_no_change(damage: Callable[[Path], None], tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        damage(store.path)
        with pytest.raises(Unavailable, match=r"removed, replaced or emptied|damaged|disk"):
            store.apply([added("new.example.org")], PROVENANCE, 2)


def test_a_file_that_is_put_back_takes_changes_again(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        _remove(store.path)
        with pytest.raises(Unavailable, match=r"a\.db: the file was removed, .*put it back"):
            store.apply([added("new.example.org")], PROVENANCE, 2)
        store.path.with_name("away.db").rename(store.path)
        store.apply([added("new.example.org")], PROVENANCE, 2)
        assert "new.example.org" in names(store)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE routes SET backend = 'nonsense' WHERE hostname = 'git.example.org'",
            'table routes, the row with listener ":443", hostname "git.example.org", column backend can\'t be read: ',
        ),
        ("UPDATE routes SET max_backend_connections = 'x'", "column max_backend_connections can't be read: "),
        ("UPDATE listeners SET trusted_proxies = 'all'", 'row with addr ":443", column trusted_proxies can\'t be read'),
        ("UPDATE firewall_rules SET kind = 'x'", 'table firewall_rules, the row with kind "x", value "'),
        ("UPDATE firewall_rules SET value = 'x'", "column value can't be read: "),
        ("DELETE FROM head", "table head has no row"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(statement: str, says: str, tmp_path: Path) -> None:
    """A start ended with the bare words of what was wrong; the thread that ends rules logged a traceback every 5 s."""
    path = tmp_path / "a.db"
    with store_at(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(statement)
        with pytest.raises(UnreadableRow, match=re.escape(says)) as raised:
            store.load()
        assert "\n" not in str(raised.value)
        pages = (listing.listeners, listing.routes, listing.rules)
        with pytest.raises(UnreadableRow):
            list(map(partial(_page_of, store), pages))


def _page_of(store: Store, page: Callable[[Store, int], object]) -> object:
    return page(store, 10)
