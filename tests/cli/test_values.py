import click
import pytest

from mcproxy.cli.values import Count, Word


def refusal(kind: Word | Count, value: str) -> str:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(value, None, None)
    return caught.value.message


def test_a_word_of_a_few() -> None:
    words = Word(["l4", "l7"])
    assert words.convert("l7", None, None) == "l7"
    assert refusal(words, "L7") == '"L7" is not one of l4, l7; did you mean l7?'
    assert refusal(words, "tcp") == '"tcp" is not one of l4, l7'


def test_a_whole_number() -> None:
    assert Count(0, 5).convert("5", None, None) == 5
    assert Count(1).convert("9", None, None) == 9
    for value in ("6", "-1", "1.5", "many", ""):
        assert refusal(Count(0, 5), value) == f'"{value}" is not a whole number from 0 to 5'
    assert refusal(Count(1), "0") == '"0" is not a whole number from 1 on'
