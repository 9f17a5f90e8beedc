"""What tests of l7 share."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mcproxy.certificates.contexts import server_context
from mcproxy.certificates.pem import read_pair
from mcproxy.model import Backend, Mode, Route
from mcproxy.net.read_guard import ReadGuard
from tests.kit.drive_stage import Stage
from tests.kit.lined_stage import LinedStage
from tests.kit.peers import Authority


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(*args: Any, **options: Any) -> Stage:
        made.append(Stage(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def make() -> Iterator[Callable[..., LinedStage]]:
    """Make a stage with lines."""
    made: list[LinedStage] = []

    def build(**options: Any) -> LinedStage:
        made.append(LinedStage(**options))
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture
def guard() -> Iterator[ReadGuard]:
    guard = ReadGuard()
    yield guard
    guard.close()


@pytest.fixture
def server(authority: Authority) -> ssl.SSLContext:
    chain, key = map(str, authority.pair("one.test"))
    route = Route("one.test", Backend("x", 1), Mode.L7, chain, key)
    return server_context(route, ["h2", "http/1.1"], read_pair(chain, key))
