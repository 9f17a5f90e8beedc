"""The thread itself: what it does when its work fails. That nodes follow is shown in test_fleet.py."""

import logging
import time
import uuid
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from mcproxy.certificates.acme.order import Order
from mcproxy.certificates.acme.order import State as OrderState
from mcproxy.fleet.follower import PACE, Follower
from mcproxy.fleet.lead import Lead
from mcproxy.fleet.listening import Topic, notification
from mcproxy.fleet.standing import State
from mcproxy.store.acme import Records
from mcproxy.store.errors import Unavailable
from tests.kit.fleet_nodes import WITHOUT_END, MakeNode, Node, same
from tests.kit.peers import until
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")


@pytest.mark.parametrize("error", [Unavailable("it hangs"), RuntimeError("a bug")])
def test_it_tries_again_after_any_failure(
    error: Exception, postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [error]
    followed: list[int] = []

    def follow() -> None:
        if failures:
            raise failures.pop()
        followed.append(1)

    with closing(Node(postgres.create(f"db_{uuid.uuid4().hex}"), "edge1", tmp_path)) as node:
        node.fleet.unbound[":1"] = "in use"  # so that there is something to do at each poll
        with caplog.at_level(logging.WARNING), closing(Follower(node.fleet, follow)):
            until(lambda: followed)
        assert node.fleet.standing.state is State.FOLLOWING
    assert ("it hangs" in caplog.text) or ("following the fleet's database failed" in caplog.text)


def test_changes_that_come_fast_are_followed_several_at_a_time(node: MakeNode) -> None:
    """Each was read and written to the copy by itself, on every node: ten nodes had no time for 50 a second."""
    one, two = node("edge1"), node("edge2")
    looks: list[float] = []

    def follow() -> None:
        looks.append(time.monotonic())
        two.writer.follow()

    with closing(Follower(two.fleet, follow, WITHOUT_END)):
        until(lambda: two.fleet.standing.state is State.FOLLOWING)
        for number in range(20):
            one.add(f"r{number}.test")
        until(lambda: same(one, two))
    assert all(later - earlier >= PACE for earlier, later in pairwise(looks))


@pytest.mark.parametrize("notifies", [True, False])
def test_orders_and_answers_to_challenges_come_and_the_database_is_told_at_once(
    node: MakeNode, url: str, notifies: bool
) -> None:
    """A node that only polls told it with its next poll, so an order waited until its patience was at an end."""
    one, two = node("edge1", notifies=notifies), node("edge2", notifies=notifies)
    if notifies:
        two.follows()
        until(lambda: two.fleet.standing.state is State.FOLLOWING)
    lead = Lead(one.fleet.truth, "of edge1", lambda: notification("edge1", Topic.CERTIFICATES) if notifies else "")
    order = Order("a.test", OrderState.VALIDATING, challenge="token.thumbprint")
    Records(one.fleet.truth, lead.move).write_order(order)
    if not notifies:
        two.follows()  # it polls once
    until(lambda: "a.test" in two.workers.names and two.workers.names["a.test"].challenge)
    with psycopg.connect(url, autocommit=True) as connection:
        asked = "SELECT acme_version FROM nodes WHERE name = 'edge2'"
        until(lambda: connection.execute(asked).fetchone() == (1,))
