"""Mistakes in the configuration file: the place, what is wrong, and what to write, for each."""

from pathlib import Path

import pytest

from mcproxy import diagnosis
from mcproxy.config import Document, load
from mcproxy.document import ConfigError
from tests.kit.program import ROOT

DATABASE = '[database]\npath = "x.db"'
LISTENER = '[[listeners]]\naddr = ":443"'
ROUTE = LISTENER + '\n[[listeners.routes]]\nhostname = "a.test"\nbackend = "b.test:1"'

# What is in the words of a library or of Python, and not of an operator.
FOREIGN = ("Input should", "pydantic", "<class", "None", "True", "False", "<", "tuple", "dict")


def mistakes() -> list[tuple[str, list[str]]]:
    """What is written in tests/mistakes.txt: a file, and what is said about it."""
    lines = [line for line in (ROOT / "tests/mistakes.txt").read_text().splitlines() if not line.startswith("#")]
    found = []
    for block in "\n".join(lines).split("\n\n"):
        said = [line.removeprefix("=> ") for line in block.splitlines() if line.startswith("=> ")]
        text = "\n".join(line for line in block.splitlines() if not line.startswith("=> ")).strip()
        if said:
            whole = text.removeprefix("@bare") if text.startswith("@bare") else f"{text}\n{DATABASE}"
            found.append((whole.replace("@route", ROUTE).replace("@listener", LISTENER), said))
    return found


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "mcproxy.toml"
    path.write_text(text)
    try:
        load(path)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_there_are_mistakes() -> None:
    assert len(mistakes()) > 200


@pytest.mark.parametrize(("text", "said"), mistakes())
def test_each_mistake_has_its_place_and_its_remedy(tmp_path: Path, text: str, said: list[str]) -> None:
    found = problems(tmp_path, text)
    assert len(found) == len(said)
    for problem, expected in zip(found, said, strict=True):
        begin = expected.removesuffix(" ...")
        assert problem == expected or (begin != expected and problem.startswith(begin))


VALUES = ('"text"', '""', "5", "-5", "5.5", "true", "[]", "[5]", '["text"]', "{a = 5}", "2024-01-01", "12:00:00")


def keys() -> list[tuple[str, str]]:
    """Every key of every table, below the table's header."""
    return [
        (table.header, name)
        for table in diagnosis._tables(Document)
        for name, field in table.model.model_fields.items()
        if table.header and not diagnosis._model_in(field.annotation)
    ]


@pytest.mark.parametrize(("header", "name"), keys())
@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_any_type_is_right_or_told_with_its_key(tmp_path: Path, header: str, name: str, value: str) -> None:
    above = LISTENER if header == "[[listeners.routes]]" else ""
    text = f"{above}\n{header}\n{name} = {value}\n" + ("" if header == "[database]" else DATABASE)
    table = header.strip("[]").replace("listeners", "listeners[0]").replace("routes", "routes[0]")
    for problem in problems(tmp_path, text):
        assert problem.startswith(table)
        assert not any(word in problem for word in FOREIGN)
