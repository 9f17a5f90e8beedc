"""What tests of l7 share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kit.drive_stage import Stage
from tests.kit.lined_stage import LinedStage


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
