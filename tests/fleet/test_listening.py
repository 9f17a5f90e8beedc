import time
import uuid
from contextlib import closing

import psycopg
import pytest

from mcproxy.fleet.following import NO_MARK
from mcproxy.fleet.listening import Ear, notification
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store import postgres as store_postgres
from mcproxy.store import schema
from mcproxy.store.errors import NotOurs, Unavailable
from tests.kit.peers import DEADLINE, until
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("postgres")


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mcproxy edge1 follower'"


@pytest.fixture
def server(postgres: PostgresServer) -> store_postgres.Server:
    found = store_postgres.Server(parse_server_url(postgres.create(f"db_{uuid.uuid4().hex}")))
    with closing(store_postgres.attach(found)) as store:
        store_postgres.upgrade(store)
    return found


def notify(server: store_postgres.Server, node: str, generation: int | None = None) -> None:
    with psycopg.connect(server.url.secret, autocommit=True) as connection:
        connection.execute(notification(node, generation=generation))


def test_a_poll_finds_generation_schema_and_clock(server: store_postgres.Server) -> None:
    with Ear(server, "edge1") as ear:
        position = ear.poll()
    assert (position.mark, position.schema_version) == (NO_MARK, schema.VERSION)
    assert abs(position.clock.server - time.time()) < DEADLINE, "one machine, one clock; a round trip may take long"


def test_others_wake_a_node_and_its_own_changes_do_not(server: store_postgres.Server) -> None:
    with Ear(server, "edge1") as ear:
        notify(server, "edge1")
        notify(server, "edge2")
        notify(server, "edge2")
        heard = [ear.wait(0.2)]
        while not any(heard):
            heard.append(ear.wait(0.2))
        assert heard[-1]
    with Ear(server, "edge2") as ear:
        notify(server, "edge2")
        assert not ear.wait(0.2)


def test_a_generation_that_a_node_has_does_not_wake_it(server: store_postgres.Server) -> None:
    """A mutation of its own has brought the others' before."""
    with Ear(server, "edge1") as ear:
        notify(server, "edge2", 7)
        assert not ear.wait(0.2, 7)
        notify(server, "edge2", 8)
        until(lambda: ear.wait(0.2, 7))


def test_a_node_may_do_without_notifications(server: store_postgres.Server) -> None:
    with Ear(server, "edge1", notifies=False) as ear:
        assert not ear.notifies
        assert ear.poll().mark == NO_MARK


def test_a_connection_that_is_cut_is_reported(server: store_postgres.Server, postgres: PostgresServer) -> None:
    with Ear(server, "edge1") as ear:
        assert postgres.execute("postgres", CUT) == [(True,)]
        with pytest.raises(Unavailable):
            ear.wait(DEADLINE)


def test_a_database_without_its_generation_is_refused(server: store_postgres.Server) -> None:
    with psycopg.connect(server.url.secret, autocommit=True) as connection:
        connection.execute("DELETE FROM head")
    with Ear(server, "edge1") as ear, pytest.raises(NotOurs, match="restore a backup"):
        ear.poll()
