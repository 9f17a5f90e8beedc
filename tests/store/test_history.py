from pathlib import Path

import pytest

from mcproxy.change import Change, Provenance, Said, listener_key, next_table, route_key, rule_key, table_values
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store import history
from mcproxy.store.errors import UnreadableRow
from mcproxy.store.records import AUDIT
from mcproxy.store.store import Store
from mcproxy.table import Table
from tests.kit.control_plane import SEED, route, store_at

NOW = 10_000.0
NOTHING = Said()


def mutate(store: Store, table: Table, *changes: Change, action: str = "test", said: Said = NOTHING) -> Table:
    generation = table.generation + 1
    store.apply(changes, Provenance("user:ann:7", action, 2000.0 + generation, said), generation)
    return next_table(table, changes, generation)


def some_changes(store: Store) -> list[Table]:
    """A database with a past: every table that it was, by generation from 1."""
    tables = [store.load()]
    ended = FirewallRule(RuleKind.IP, "192.0.2.7", NOW - 1)
    lasting = FirewallRule(RuleKind.IP, "192.0.2.8", NOW + 1)
    old, new = SEED[0][1][0], route("git.example.org", "127.0.0.1:9")
    key = route_key(":443", "git.example.org")
    for changes in (
        [Change(key, old, new)],
        [Change(listener_key(":8443"), None, Listener(":8443"))],
        [Change(route_key(":8443", "a.example.org"), None, route("a.example.org"))],
        [Change(rule_key("ip", each.value), None, each) for each in (ended, lasting)],
        [Change(key, new, None)],
        [Change(rule_key("ip", each.value), each, None) for each in (ended, lasting)],
        [
            Change(route_key(":8443", "a.example.org"), route("a.example.org"), None),
            Change(listener_key(":8443"), Listener(":8443"), None),
        ],
    ):
        tables.append(mutate(store, tables[-1], *changes))
    return tables


def test_every_mutation_says_when_who_what_and_both_values(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        said = Said("bob", "the old one is too small")
        mutate(store, store.load(), Change(route_key(":443", "a.b"), None, route("a.b")), action="route.add", said=said)
        (revision,) = history.revisions(store, 1)
        assert (revision.generation, revision.sequence, revision.at) == (2, 0, 2002.0)
        assert (revision.who, revision.action, str(revision.key)) == ("user:ann:7", "route.add", "route a.b on :443")
        assert revision.said == said
        assert revision.old is None
        assert '"backend":"127.0.0.1:3000"' in (revision.new or "")


def test_pages_are_newest_first_without_gap_or_repeat(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        some_changes(store)
        everything = history.revisions(store, 1000)
        assert everything == sorted(everything, key=lambda r: (-r.generation, -r.sequence))
        found: list[history.Revision] = []
        while batch := history.revisions(store, 2, (found[-1].generation, found[-1].sequence) if found else None):
            found += batch
        assert found == everything


def test_filters(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        some_changes(store)
        assert {r.key.what for r in history.revisions(store, 100, what="route")} == {"route"}
        assert len(history.revisions(store, 100, what="route", scope=":8443")) == 2
        assert [r.generation for r in history.revisions(store, 100, name="git.example.org")] == [6, 2, 1]


def test_the_way_back_leads_to_every_generation(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        tables = some_changes(store)
        for wanted in tables[:-1]:
            present = store.load()
            changes = history.way_back(store, present, wanted.generation, NOW)
            following = mutate(store, present, *changes) if changes else present
            expected = {
                key: value
                for key, value in table_values(wanted).items()
                if not (isinstance(value, FirewallRule) and value.expires_at == NOW - 1)
            }
            assert table_values(following) == expected, wanted.generation
            assert table_values(store.load()) == expected, "memory and disk agree"


def test_a_rollback_can_be_rolled_back(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        before = some_changes(store)[-1]
        back = mutate(store, before, *history.way_back(store, before, 3, NOW))
        again = mutate(store, back, *history.way_back(store, back, before.generation, NOW))
        assert table_values(again) == table_values(before)
        assert again.generation == before.generation + 2


def test_back_to_before_the_seed_is_empty(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        table = store.load()
        assert not table_values(mutate(store, table, *history.way_back(store, table, 0, NOW)))


def test_an_audit_that_begins_later_leads_no_further_back(tmp_path: Path) -> None:
    """A node that joins a fleet copies the last rows only; going back beyond them would have missed changes."""
    with store_at(tmp_path / "x.db") as store:
        present = some_changes(store)[-1]
        with store.transaction() as database:
            database.query(AUDIT.delete().where(AUDIT.c.generation <= 4))
        assert history.way_back(store, present, 4, NOW)
        with pytest.raises(ValueError, match="the changes up to generation 4 are not in this server's audit"):
            history.way_back(store, present, 3, NOW)


@pytest.mark.parametrize("generation", [-1, 1, 2])
def test_there_is_no_way_forward(tmp_path: Path, generation: int) -> None:
    with store_at(tmp_path / "a.db") as store, pytest.raises(ValueError, match=f"no generation {generation} before"):
        history.way_back(store, store.load(), generation, NOW)


@pytest.mark.parametrize(
    ("column", "value"),
    [("old", "{"), ("old", "[]"), ("old", "{}"), ("old", '{"hostname":"a.b","backend":7}'), ("what", "colour")],
)
def test_a_row_that_cannot_be_read_is_listed_and_named_where_it_is_needed(
    column: str, value: str, tmp_path: Path
) -> None:
    with store_at(tmp_path / "a.db") as store:
        table = some_changes(store)[-1]
        with store.transaction() as database:
            database.executable.execute(AUDIT.update().where(AUDIT.c.generation == 2).values({column: value}))
        (row,) = (row for row in history.revisions(store, 100) if row.generation == 2)
        assert getattr(row, column) == value
        with pytest.raises(
            UnreadableRow, match=f"table audit, the row with generation 2, sequence 0, column {column} can't be read: "
        ):
            history.way_back(store, table, 1, NOW)
