"""Stand-ins for modules, with a package of the test's own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcproxy.later import left_out

USER = "import large\nfrom large import part\nalias = large.double\ndef use(number): return large.double(number)\n"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`large`, which notes that it was loaded, and `its_user`, which imports it."""
    (tmp_path / "large.py").write_text("class part:\n    size = 7\ndef double(number): return 2 * number\n")
    (tmp_path / "its_user.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for each in ("large", "its_user"):
        sys.modules.pop(each, None)


def test_a_module_that_is_left_out_is_not_loaded() -> None:
    with left_out("large"):
        import its_user  # type: ignore[import-not-found]  # noqa: F401
    assert "large" not in sys.modules


@pytest.mark.parametrize("during", [True, False])
def test_its_parts_are_there_once_somebody_uses_them(during: bool) -> None:
    with left_out("large"):
        import its_user

        if during:
            assert its_user.alias(4) == 8
    assert its_user.alias(4) == 8
    assert its_user.part.size == 7
    assert its_user.use(5) == 10
    assert sys.modules["large"].double(1) == 2


def test_what_is_asked_for_behind_the_block_is_the_real_thing() -> None:
    """A library may look for a class of it among an exception's, which a stand-in would fail."""
    with left_out("large"):
        import its_user
    assert isinstance(its_user.large.part(), its_user.large.part)


def test_who_imports_the_name_later_gets_the_module() -> None:
    with left_out("large"):
        import its_user
    import large  # type: ignore[import-not-found]

    assert large.part.size == 7
    assert its_user.large is not large
    assert its_user.large.part is large.part


def test_a_module_that_is_loaded_stays() -> None:
    import large

    with left_out("large"):
        import its_user
    assert its_user.large is large
    assert sys.modules["large"] is large


def test_a_part_that_is_missing_is_an_error() -> None:
    with left_out("large"):
        import its_user
    with pytest.raises(AttributeError, match="triple"):
        its_user.large.triple(1)
