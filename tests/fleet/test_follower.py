"""The thread itself: what it does when its work fails. That nodes follow is shown in test_fleet.py."""

import logging
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from mcproxy.fleet.follower import Follower
from mcproxy.fleet.standing import State
from mcproxy.store.errors import Unavailable
from tests.kit.fleet_nodes import Node
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
