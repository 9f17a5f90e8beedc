"""What end-to-end tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBackend, MakeProxy
from tests.kit.link import Link

MakeLink = Callable[..., Link]


@pytest.fixture
def link(backend: MakeBackend, proxy: MakeProxy, tmp_path: Path) -> Iterator[MakeLink]:
    """Makes a client, a proxy and a backend that are connected."""
    made: list[Link] = []

    def make(kind: str = "tcp", **options: Any) -> Link:
        made.append(Link(backend, proxy, tmp_path, kind, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
