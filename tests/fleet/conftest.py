"""A database of a test's own, and nodes on it."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mcproxy.notation.server_url import parse_server_url
from mcproxy.store.postgres import Server, attach, upgrade
from mcproxy.store.store import Store
from tests.kit.fleet_nodes import MakeNode, Node
from tests.kit.postgres import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.create(f"db_{uuid.uuid4().hex}")


@pytest.fixture
def truth(url: str) -> Iterator[Store]:
    """The fleet's database, with its schema."""
    with closing(attach(Server(parse_server_url(url)))) as store:
        upgrade(store)
        yield store


@pytest.fixture
def node(url: str, tmp_path: Path) -> Iterator[MakeNode]:
    """Makes nodes of one fleet."""
    with ExitStack() as stack:

        def make(name: str, **options: object) -> Node:
            return stack.enter_context(closing(Node(url, name, tmp_path, **options)))  # type: ignore[arg-type]

        yield make
