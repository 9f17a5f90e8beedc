import pytest

from mcproxy.admin import paging
from mcproxy.admin.errors import InvalidField


@pytest.mark.parametrize(("asked", "given"), [(0, paging.PAGE), (1, 1), (1000, 1000), (1001, 1000), (2**32 - 1, 1000)])
def test_pages_have_a_size_and_a_bound(asked: int, given: int) -> None:
    assert paging.size(asked) == given


def test_a_token_gives_its_position_back() -> None:
    assert paging.texts(paging.token((":443", "a.example.org")), 2) == (":443", "a.example.org")
    assert paging.numbers(paging.token((2**62, 0)), 2) == (2**62, 0)


def test_no_token_is_the_beginning_and_the_end() -> None:
    assert paging.texts("", 2) is None
    assert paging.numbers("", 2) is None
    assert paging.token(None) == ""


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "\u00e9",
        "!!!!",
        "bnVsbA",  # null
        paging.token(["a"]),
        paging.token(["a", "b", "c"]),
        paging.token([1, 2]),
        "A" * (paging.MAX_TOKEN + 1),
        "W" * 100,
    ],
)
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(InvalidField, match="page_token: is not from this server"):
        paging.texts(token, 2)


@pytest.mark.parametrize("position", [["a"], [-1], [1 << 63], [1, 2], [1.5], [None]])
def test_a_position_that_is_no_number_is_refused(position: list[int]) -> None:
    with pytest.raises(InvalidField):
        paging.numbers(paging.token(position), 1)
