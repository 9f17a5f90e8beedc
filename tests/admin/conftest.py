"""A running control plane, with a data plane that only remembers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.control_plane import Control, running


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    with running(tmp_path) as made:
        yield made
