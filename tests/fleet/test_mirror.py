"""What a node has of the fleet's certificates."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mcproxy.certificates.acme.course import named_pair
from mcproxy.certificates.acme.keeper import ORDERS_AN_HOUR
from mcproxy.certificates.acme.order import CaAccount, Order, State
from mcproxy.certificates.pem import Pair
from mcproxy.fleet.lead import Lead
from mcproxy.fleet.mirror import Mirror
from mcproxy.store.acme import Records
from mcproxy.store.errors import Unavailable, UnreadableRow
from mcproxy.store.store import Store
from tests.kit.acme_stub import Workers
from tests.kit.control_plane import store_at
from tests.kit.peers import Authority

pytestmark = pytest.mark.xdist_group("postgres")

A, B = "a.test", "b.test"
NOW = 1_800_000_000.0


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Store]:
    with store_at(tmp_path / "cache.db") as store:
        yield store


def pair(authority: Authority, hostname: str) -> Pair:
    chain, key = authority.pair(hostname)
    return named_pair(hostname, chain.read_bytes(), key.read_bytes())


class Stage:
    """One node's mirror, and what another node writes."""

    def __init__(self, truth: Store, copy: Store) -> None:
        self.rows = Records(truth, Lead(truth, "orderer", str).move)
        self.workers = Workers()
        self.mirror = Mirror(truth, copy, self.workers, lambda: NOW)


def test_orders_come_without_keys_and_certificates_with_theirs(truth: Store, copy: Store, authority: Authority) -> None:
    stage = Stage(truth, copy)
    issued = pair(authority, A)
    stage.rows.write_issued(Order(A, next_at=9.0), issued, NOW)
    stage.rows.write_order(Order(B, State.ISSUING, "dir", "url", "secret"))
    stage.mirror.sync()
    a, b = stage.workers.names[A], stage.workers.names[B]
    assert (a.pair, a.order.next_at, b.pair) == (issued, 9.0, None)
    assert a.certificate is not None
    assert a.certificate.names == (A,)
    assert b.order == Order(B, State.ISSUING, "dir", "url")
    again = Stage(truth, copy)
    assert again.workers.names == stage.workers.names, "the copy has it, without the database"


def test_only_what_is_new_is_handed_on(truth: Store, copy: Store, authority: Authority) -> None:
    stage = Stage(truth, copy)
    heard: list[int] = []
    stage.rows.write_issued(Order(A), pair(authority, A), NOW)
    stage.mirror.changed = lambda: heard.append(stage.mirror.version)
    stage.mirror.sync()
    stage.mirror.sync()
    before = stage.workers.names[A]
    stage.rows.write_order(Order(B))
    stage.mirror.sync()
    assert stage.workers.names[A] is before
    renewed = replace(pair(authority, A))
    stage.rows.write_issued(Order(A), renewed, NOW)
    stage.mirror.sync()
    assert stage.workers.names[A].pair == renewed
    assert heard == [1, 2, 3]


def test_a_challenge_is_answered_with_a_certificate_of_this_nodes_own(truth: Store, copy: Store) -> None:
    stage = Stage(truth, copy)
    validating = Order(A, State.VALIDATING, challenge="token.thumbprint")
    stage.rows.write_order(validating)
    stage.mirror.sync()
    answer = stage.workers.names[A].challenge
    assert answer is not None
    stage.rows.write_order(replace(validating, next_at=5.0))
    stage.mirror.sync()
    assert stage.workers.names[A].challenge is answer
    assert Stage(truth, copy).workers.names[A].challenge is None, "no order waits for it by the time of a restart"
    stage.rows.write_order(Order(A))
    stage.mirror.sync()
    assert stage.workers.names[A].challenge is None


def test_a_name_without_an_order_is_forgotten(truth: Store, copy: Store, authority: Authority) -> None:
    stage = Stage(truth, copy)
    stage.rows.write_issued(Order(A), pair(authority, A), NOW)
    stage.mirror.sync()
    stage.rows.remove(A, 0.0)
    stage.mirror.sync()
    assert stage.workers.names == {}
    assert Records(copy).certificates() == {}
    stage.rows.take_up([Order(A)])
    stage.mirror.sync()
    assert stage.workers.names[A].pair is not None, "its certificate is still in the database"


def test_a_ca_that_is_left_alone_is_every_names_obstacle(truth: Store, copy: Store) -> None:
    stage = Stage(truth, copy)
    stage.rows.take_up([Order(A)])
    stage.rows.write_account(CaAccount("dir", "key", paused_until=NOW + 60, failures=1, failure="it is away"))
    stage.mirror.sync()
    at = dt.datetime.fromtimestamp(NOW + 60, dt.UTC).strftime("%Y-%m-%d")
    assert stage.workers.names[A].obstacle.startswith(f"it is away; next try at {at}")


def test_a_copy_that_cannot_be_written_is_written_with_the_next_news(
    truth: Store, copy: Store, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(truth, copy)
    with copy.transaction() as database:
        database.executable.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON certificates BEGIN SELECT raise(FAIL, 'full'); END"
        )
    stage.rows.write_issued(Order(A), pair(authority, A), NOW)
    stage.mirror.sync()
    assert stage.workers.names[A].pair is not None, "clients don't wait for a disk"
    assert "the copy of certificates can't be written" in caplog.text
    with copy.transaction() as database:
        database.executable.exec_driver_sql("DROP TRIGGER full")
    stage.mirror.sync()
    assert list(Records(copy).certificates()) == [A]


def test_a_database_that_is_away_changes_nothing(truth: Store, copy: Store) -> None:
    stage = Stage(truth, copy)
    stage.rows.take_up([Order(A)])
    stage.mirror.sync()
    truth.close()
    with pytest.raises(Unavailable):
        stage.mirror.sync()
    stage.mirror.catch_up()
    assert list(stage.workers.names) == [A]


def test_the_budget_of_orders_is_an_obstacle_to_those_that_have_not_begun(truth: Store, copy: Store) -> None:
    stage = Stage(truth, copy)
    stage.rows.write_order(Order(A))
    for number in range(ORDERS_AN_HOUR):
        stage.rows.write_start(Order(B, State.ORDERING, began=NOW - number), NOW - 3600)
    stage.mirror.sync()
    assert stage.workers.names[A].words.startswith("60 orders have begun within an hour")
    assert stage.workers.names[B].words == "its order is ordering"


def test_a_row_that_cannot_be_read_is_named(truth: Store, copy: Store, authority: Authority) -> None:
    """The node logged a traceback at each look."""
    stage = Stage(truth, copy)
    stage.rows.write_issued(Order(A), pair(authority, A), NOW)
    for table, column in (("certificates", "chain"), ("acme_orders", "state")):
        with truth.transaction() as database:
            database.executable.exec_driver_sql(f"UPDATE {table} SET {column} = 'nonsense'")
        with pytest.raises(UnreadableRow, match=f'table {table}, the row with hostname "a.test" can.t be read: '):
            stage.mirror.sync()
