"""A route's and a listener's fields are declared once; what is written by hand elsewhere is held to that here."""

import re
import tomllib
from contextlib import closing
from dataclasses import MISSING, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
from sqlalchemy import Boolean, Integer, String, Text

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.model import LISTENER_FIELDS, ROUTE_FIELDS
from mcproxy.settings import LISTS, Field, Kind, Needs, Setting, fields_of, misfit, proto_name
from mcproxy.store.store import Store

EXAMPLE = Path(__file__).parent.parent / "etc" / "mcproxy.toml.example"

DECLARED = [(pb.Route, "routes", ROUTE_FIELDS), (pb.Listener, "listeners", LISTENER_FIELDS)]
EACH = [
    pytest.param(message, table, field, id=f"{table}.{field.name}") for message, table, fs in DECLARED for field in fs
]

COLUMN = {Kind.SWITCH: Boolean, Kind.COUNT: Integer, Kind.LISTEN: String, Kind.WORD: String}  # the others are texts


class Colour(StrEnum):
    RED = "red"
    DEEP_BLUE = "deep-blue/2"


RED = Needs("colour", Colour.RED, "burns, so it needs {}", "only red burns")
LIT = Needs("lit", True)


@dataclass(frozen=True, slots=True)
class Lamp:
    name: Annotated[str, Setting(Kind.HOSTNAME, "its name")]
    colour: Annotated[Colour, Setting(Kind.WORD, "its colour")] = Colour.DEEP_BLUE
    fuel: Annotated[str, Setting(Kind.FILE, "what burns", RED, required=True)] = ""
    wick: Annotated[str, Setting(Kind.FILE, "where", RED, required=True, option="wick-file")] = ""
    lit: Annotated[bool, Setting(Kind.SWITCH, "whether it burns", RED)] = False
    hours: Annotated[int, Setting(Kind.COUNT, "for how long", LIT)] = 8


LAMP = fields_of(Lamp)


def test_fields_are_as_declared() -> None:
    assert [(field.name, field.type, field.default) for field in LAMP] == [
        ("name", str, MISSING),
        ("colour", Colour, Colour.DEEP_BLUE),
        ("fuel", str, ""),
        ("wick", str, ""),
        ("lit", bool, False),
        ("hours", int, 8),
    ]
    assert [field.has_default for field in LAMP] == [False, True, True, True, True, True]
    assert [field.option for field in LAMP] == ["name", "colour", "fuel", "wick-file", "lit", "hours"]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, ""),
        ({"colour": Colour.RED, "fuel": "f", "wick": "w", "lit": True, "hours": 9}, ""),
        ({"colour": Colour.RED, "fuel": "f"}, 'colour = "red" burns, so it needs fuel and wick'),
        ({"fuel": "f"}, 'fuel only works with colour = "red"; only red burns'),
        ({"fuel": "f", "lit": True}, 'fuel, lit only work with colour = "red"; only red burns'),
        ({"hours": 0}, "hours only works with lit = true"),
    ],
)
def test_fields_fit_together(values: dict[str, Any], problem: str) -> None:
    defaults = {field.name: field.default for field in LAMP if field.has_default}
    assert misfit(LAMP, {"name": "x", **defaults, **values}) == problem


def test_words_have_names_in_the_proto() -> None:
    assert [proto_name(word) for word in Colour] == ["COLOUR_RED", "COLOUR_DEEP_BLUE_2"]


@pytest.mark.parametrize(("message", "table", "field"), EACH)
def test_the_proto_has_each_field_with_its_type(
    message: type[pb.Route | pb.Listener], table: str, field: Field
) -> None:
    found = message.DESCRIPTOR.fields_by_name[field.name]
    assert found.is_repeated is (field.kind in LISTS)
    types = {Kind.SWITCH: found.TYPE_BOOL, Kind.COUNT: found.TYPE_UINT32, Kind.WORD: found.TYPE_ENUM}
    assert found.type == types.get(field.kind, found.TYPE_STRING)
    if field.kind is Kind.WORD:
        assert found.enum_type is not None
        first, *words = found.enum_type.values
        assert first.name.endswith("_UNSPECIFIED")
        assert [word.name for word in words] == [proto_name(word) for word in field.type]


def test_no_switch_is_on_by_default() -> None:
    """In proto3 false and nothing said are the same, and what isn't said has the default."""
    switches = [field for _, _, fields in DECLARED for field in fields if field.kind is Kind.SWITCH]
    assert [field.default for field in switches] == [False] * len(switches)


@pytest.mark.parametrize(("message", "table", "fields"), DECLARED)
def test_nothing_else_is_in_the_proto(
    message: type[pb.Route | pb.Listener], table: str, fields: tuple[Field, ...]
) -> None:
    assert [field.name for field in message.DESCRIPTOR.fields] == [field.name for field in fields]


@pytest.mark.parametrize(("message", "table", "fields"), DECLARED)
def test_migrations_made_a_column_for_each_field(
    message: type[pb.Route | pb.Listener], table: str, fields: tuple[Field, ...], tmp_path: Path
) -> None:
    with closing(Store.open(tmp_path / "a.db")) as store, store.transaction() as database:
        columns = {column["name"]: column for column in database.inspect.get_columns(table)}
    assert set(columns) - {field.name for field in fields} == ({"listener"} if table == "routes" else set())
    for field in fields:
        assert isinstance(columns[field.name]["type"], (COLUMN.get(field.kind, Text), String)), field.name
        assert not columns[field.name]["nullable"], field.name


@pytest.mark.parametrize(("message", "table", "field"), EACH)
def test_the_example_file_explains_each_field(message: type[pb.Route | pb.Listener], table: str, field: Field) -> None:
    listeners = tomllib.loads(EXAMPLE.read_text())["listeners"]
    tables = listeners if table == "listeners" else [route for each in listeners for route in each["routes"]]
    assert any(field.name in each for each in tables)
    assert re.search(rf"^ *{field.name} = .* # ", EXAMPLE.read_text(), re.MULTILINE), "no comment says what it does"


@pytest.mark.parametrize(("message", "table", "fields"), DECLARED)
def test_what_a_field_needs_is_a_field(
    message: type[pb.Route | pb.Listener], table: str, fields: tuple[Field, ...]
) -> None:
    types = {field.name: field.type for field in fields}
    assert all(
        isinstance(each.setting.needs.value, types[each.setting.needs.name]) for each in fields if each.setting.needs
    )


@dataclass(frozen=True, slots=True)
class Candle:
    """One whose fuel is either named or comes by itself."""

    name: Annotated[str, Setting(Kind.HOSTNAME, "its name")]
    colour: Annotated[Colour, Setting(Kind.WORD, "its colour", flag=Colour.RED)] = Colour.DEEP_BLUE
    lit: Annotated[bool, Setting(Kind.SWITCH, "whether it burns")] = False
    fuel: Annotated[str, Setting(Kind.FILE, "what burns", LIT, required=True, idle=Needs("colour", Colour.RED))] = ""


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"lit": True, "fuel": "f"}, ""),
        ({"lit": True}, 'lit = true needs fuel, or colour = "red"'),
        ({"lit": True, "colour": Colour.RED}, ""),
        (
            {"lit": True, "colour": Colour.RED, "fuel": "f"},
            'fuel can\'t be set with colour = "red"; leave out one or the other',
        ),
    ],
)
def test_a_field_may_have_no_meaning_beside_another_value(values: dict[str, Any], problem: str) -> None:
    candle = fields_of(Candle)
    defaults = {field.name: field.default for field in candle if field.has_default}
    assert misfit(candle, {"name": "x", **defaults, **values}) == problem
    assert [field.option for field in candle] == ["name", "red", "lit", "fuel"]
