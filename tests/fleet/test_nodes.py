import time
from pathlib import Path

import pytest

from mcproxy import __version__
from mcproxy.fleet import nodes
from mcproxy.fleet.lead import Lead
from mcproxy.fleet.nodes import ALIVE, Life, Report
from mcproxy.store.errors import NameTaken
from mcproxy.store.store import Store
from tests.kit.control_plane import RULES, SEED, store_at

pytestmark = pytest.mark.xdist_group("postgres")


def claim(truth: Store, report: Report) -> None:
    with truth.transaction() as database:
        nodes.claim(database.executable.exec_driver_sql, report)


def test_a_node_is_listed_as_it_last_wrote(truth: Store) -> None:
    claim(truth, Report("edge2", "b", 0.0))
    claim(truth, Report("edge1", "a", 0.0, 0, 3))
    claim(truth, Report("edge1", "a", 0.0, 0, 5, ("one", "two")))
    (first, second), now = nodes.rows(truth)
    assert first.seen_at <= now
    assert (first.name, first.version, first.connections, first.warnings) == ("edge1", __version__, 5, ["one", "two"])
    assert second.name == "edge2"
    assert first.started_at < first.seen_at >= second.seen_at


def test_the_node_that_orders_certificates_is_marked(truth: Store) -> None:
    claim(truth, Report("edge1", "a", 0.0))
    claim(truth, Report("edge2", "b", 0.0))
    with truth.transaction() as database:
        database.executable.exec_driver_sql("UPDATE nodes SET identity = '' WHERE name = 'edge2'")
    assert [row.orders for row in nodes.rows(truth)[0]] == [False, False], "nobody does, and one has ended clean"
    assert Lead(truth, "a", lambda: "").claim()
    assert [row.orders for row in nodes.rows(truth)[0]] == [True, False]


def test_a_node_is_behind_since_the_first_generation_that_it_lacks(truth: Store) -> None:
    claim(truth, Report("edge1", "a", 0.0))
    truth.seed(SEED, RULES, 5.0)
    (row,), now = nodes.rows(truth)
    assert row.behind == 1
    assert row.lacking_for == pytest.approx(now - 5.0)
    claim(truth, Report("edge1", "a", 0.0, 1))
    (row,), _ = nodes.rows(truth)
    assert (row.behind, row.lacking_for) == (0, 0.0)


def test_a_second_node_of_a_name_is_refused_until_the_first_is_gone(truth: Store) -> None:
    claim(truth, Report("edge1", "a", 0.0))
    with pytest.raises(NameTaken, match="another node named edge1"):
        claim(truth, Report("edge1", "b", 0.0))
    with truth.transaction() as database:
        database.executable.exec_driver_sql(f"UPDATE nodes SET seen_at = seen_at - {nodes.GONE + 1}")
    claim(truth, Report("edge1", "b", 0.0))
    with pytest.raises(NameTaken):
        claim(truth, Report("edge1", "a", 0.0))


def test_a_node_that_was_removed_is_forgotten_and_its_name_is_free(truth: Store) -> None:
    claim(truth, Report("edge1", "a", 0.0))
    assert nodes.remove(truth, "edge1")
    assert not nodes.remove(truth, "edge1")
    claim(truth, Report("edge1", "b", 0.0))


def test_an_identity_is_drawn_at_each_start_and_the_last_ones_are_kept(tmp_path: Path) -> None:
    with store_at(tmp_path / "c.db") as cache:
        first, formerly = nodes.identities(cache, "edge1")
        assert formerly == []
        second, formerly = nodes.identities(cache, "edge1")
        assert (second != first, formerly) == (True, [first])
        for _ in range(nodes.KEPT):
            _, formerly = nodes.identities(cache, "edge1")
        assert len(formerly) == nodes.KEPT
        assert first not in formerly
        assert nodes.identities(cache, "edge2")[1] == [], "a copy that was taken to another node"


def test_a_copy_that_cannot_be_written_keeps_its_last_identity(tmp_path: Path) -> None:
    """Else a full disk would keep a node from starting."""
    with store_at(tmp_path / "c.db") as cache:
        first, _ = nodes.identities(cache, "edge1")
        with cache.transaction() as database:
            full = "CREATE TRIGGER full BEFORE INSERT ON nodes BEGIN SELECT raise(FAIL, 'full'); END"
            database.executable.exec_driver_sql(full)
        assert nodes.identities(cache, "edge1") == (first, [])


def test_of_a_node_and_its_clone_one_is_refused(truth: Store) -> None:
    """Both have the identities of the machine that was copied. The node that had started since has a newer one."""
    claim(truth, Report("edge1", "first", 0.0))
    claim(truth, Report("edge1", "clone", 0.0, formerly=["first"]))
    with pytest.raises(NameTaken, match="one may be a clone"):
        claim(truth, Report("edge1", "first", 0.0))
    with pytest.raises(NameTaken):
        claim(truth, Report("edge1", "later", 0.0, formerly=["first"]))


@pytest.mark.parametrize(
    ("change", "life"),
    [
        ("acme_version = -1", Life.STARTING),
        ("acme_version = 3", Life.RUNNING),
        ("acme_version = -1, identity = ''", Life.FAILED),
        ("acme_version = 3, identity = ''", Life.STOPPED),
        (f"acme_version = -1, started_at = started_at - {ALIVE + 1}, seen_at = seen_at - {ALIVE + 1}", Life.FAILED),
        (f"acme_version = 3, seen_at = seen_at - {ALIVE + 1}", Life.SILENT),
    ],
)
def test_what_became_of_a_node(truth: Store, change: str, life: Life) -> None:
    """Failed starts, and nodes that had ended, stayed in the list like those that run."""
    claim(truth, Report("edge1", "a", time.monotonic()))
    with truth.transaction() as database:
        database.executable.exec_driver_sql(f"UPDATE nodes SET {change}")
    assert [row.life for row in nodes.rows(truth)[0]] == [life]


def test_a_name_is_given_back_by_its_owner_only(truth: Store) -> None:
    mine = Report("edge1", "a", time.monotonic())
    claim(truth, mine)
    nodes.release(truth, Report("edge1", "b", 0.0))
    assert [row.life for row in nodes.rows(truth)[0]] == [Life.STARTING]
    nodes.release(truth, mine)
    assert [row.life for row in nodes.rows(truth)[0]] == [Life.FAILED]
