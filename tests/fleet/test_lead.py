"""The place of the node that orders certificates."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from mcproxy.fleet import nodes
from mcproxy.fleet.lead import LEAD_GONE, Lead, Replaced
from mcproxy.fleet.nodes import Report
from mcproxy.store.store import Store
from tests.kit.peers import DEADLINE, until

pytestmark = pytest.mark.xdist_group("postgres")


def lead(truth: Store, name: str, version: int = -1) -> Lead:
    """The view of a node that has just written its row."""
    with truth.transaction() as database:
        nodes.claim(database.executable.exec_driver_sql, Report(name, name, 0.0, acme_version=version))
    return Lead(truth, name, str)


def write(truth: Store, by: Lead) -> None:
    with truth.transaction() as database:
        by.fence(database)


def test_one_node_has_the_place_until_it_gives_it_up(truth: Store) -> None:
    one, two = lead(truth, "one"), lead(truth, "two")
    assert one.claim()
    assert one.claim(), "again, after a restart"
    assert not two.claim()
    two.release()
    write(truth, one)
    one.release()
    assert two.claim()


def test_a_node_that_is_gone_is_replaced_and_writes_nothing_more(truth: Store) -> None:
    one, two = lead(truth, "one"), lead(truth, "two")
    assert one.claim()
    with truth.transaction() as database:
        database.executable.exec_driver_sql(f"UPDATE nodes SET seen_at = seen_at - {LEAD_GONE + 1} WHERE name = 'one'")
    assert two.claim()
    with pytest.raises(Replaced):
        write(truth, one)
    write(truth, two)


def test_a_node_that_has_ended_neither_keeps_the_place_nor_is_waited_for(truth: Store) -> None:
    """It has no identity then, and the place has none. They were taken for the same: nobody ordered for 30 s."""
    one, two = lead(truth, "one"), lead(truth, "two")
    assert one.claim()
    one.release()
    with truth.transaction() as database:
        database.executable.exec_driver_sql("UPDATE nodes SET identity = '' WHERE name = 'one'")
    assert two.claim()
    write(truth, two)
    assert two.spreading()() == []


def test_a_node_spreads_what_it_wrote_until_every_living_one_has_it(truth: Store) -> None:
    one = lead(truth, "one")
    lead(truth, "two")
    lead(truth, "three")
    assert one.claim()
    with truth.transaction() as database:
        one.move(database)
    write(truth, one)
    lacking = one.spreading()
    write(truth, one)
    assert sorted(lacking()) == ["three", "two"]
    lead(truth, "two", 2)
    assert lacking() == ["three"], "what was written later is another matter"
    with truth.transaction() as database:
        database.executable.exec_driver_sql("UPDATE nodes SET seen_at = seen_at - 60 WHERE name = 'three'")
    assert lacking() == []


def test_of_nodes_that_come_together_one_has_the_place(truth: Store, url: str) -> None:
    """The other one's transaction fails, which is nothing to log an error for."""
    one = lead(truth, "one")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("UPDATE acme_head SET orderer = 'two'")
        claiming = pool.submit(one.claim)
        with psycopg.connect(url, autocommit=True) as looking:
            until(lambda: looking.execute(waiting).fetchone() == (1,), "the claim to wait")
        other.commit()
        assert not claiming.result(DEADLINE)
