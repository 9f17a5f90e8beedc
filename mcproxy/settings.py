"""How the fields of a route and of a listener are declared: once, in model.py, each as one line.

A field carries a `Setting` beside its type and its default. Everything else that has to know the fields reads them from
there: the rows and the audit (store/records.py), the messages of the admin API (admin/convert.py), the keys of the
configuration file with their checks (config.py), the options of the commands (cli/settings.py). Migrations, the proto
and the example file are written by hand; tests/test_settings.py holds them to the declarations.

A new field is a line in model.py, a migration, a line of the proto and its use. How a kind of value is written in each
of those places is said there, once for the kind.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any, get_args

MAX_COUNT = 2**31 - 1  # connections: no machine has more; it fits every column and message that carries it


class Kind(StrEnum):
    """The kind of a field's value: which are valid, and their form in SQL, JSON, protobuf, TOML and options."""

    HOSTNAME = "hostname"  # normalised (notation/name.py); "" where it has that default
    LISTEN = "listen"  # an address to listen on, in canonical form
    BACKEND = "backend"  # a model.Backend; elsewhere its text
    WORD = "word"  # a member of a StrEnum
    FILE = "file"  # an absolute path; "" for none
    SWITCH = "switch"  # a bool, with the default false: the proto can't tell false from nothing said
    COUNT = "count"  # an int, from `Setting.least` to `Setting.most`
    NETWORKS = "networks"  # a tuple of CIDRs in canonical form
    NODES = "nodes"  # a tuple of names of a fleet's nodes, sorted, each once


LISTS = frozenset({Kind.NETWORKS, Kind.NODES})  # those with several texts, in SQL and JSON separated by blanks


@dataclass(frozen=True, slots=True)
class Needs:
    """A condition on another field, without which a field has no meaning."""

    name: str
    value: StrEnum | bool
    demands: str = "needs {}"  # the message when a required field is missing
    otherwise: str = ""  # why the fields have no meaning without it

    def __str__(self) -> str:
        return f"{self.name} = true" if self.value is True else f'{self.name} = "{self.value}"'

    def met(self, values: Mapping[str, Any]) -> bool:
        """True if these values have it."""
        return bool(values[self.name] == self.value)


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of a field, beside its name, its type and its default."""

    kind: Kind
    help: str  # as it follows a colon: without a full stop
    needs: Needs | None = None
    required: bool = False  # must be set where `needs` is met
    option: str = ""  # of the commands, where it isn't the name with dashes
    flag: StrEnum | None = None  # of a word with two values: the one that an option without a value sets
    idle: Needs | None = None  # where this is met, the field has no meaning and isn't required
    listed: bool = True  # `list` shows it, where it isn't the default
    least: int = 0  # of a COUNT; above 0, the proto's 0 stands for the default
    most: int = MAX_COUNT


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field."""

    name: str
    type: type[Any]
    default: Any  # MISSING where it has none
    setting: Setting

    @property
    def kind(self) -> Kind:
        """The kind of its value."""
        return self.setting.kind

    @property
    def has_default(self) -> bool:
        """True if it may be left out."""
        return self.default is not MISSING

    @property
    def option(self) -> str:
        """The option of the commands, without its dashes in front."""
        if self.setting.flag is not None:
            return str(self.setting.flag)
        return self.setting.option or self.name.replace("_", "-")


def fields_of(declaring: type[Any]) -> tuple[Field, ...]:
    """The declared fields of a dataclass, in order."""
    found = []
    for each in fields(declaring):
        of, setting = get_args(each.type)
        found.append(Field(each.name, of, each.default, setting))
    return tuple(found)


def beyond(value: float, least: int, most: int) -> str:
    """What is wrong with a number that is out of its bounds; "" if it isn't."""
    if value < least:
        return bound("at least", least, unlimited=0)
    return bound("at most", most, unlimited=MAX_COUNT) if value > most else ""


def bound(which: str, number: int, unlimited: int) -> str:
    """The message for a number beyond a bound; where that is `unlimited`, 0 is allowed and stands for no limit."""
    return f"must be {which} {number}" + ("; 0 is no limit" if number == unlimited else "")


def proto_name(word: StrEnum) -> str:
    """The name that the proto has for a word: MODE_L7 for "l7" of Mode."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", type(word).__name__)
    return f"{prefix}_{re.sub('[^a-z0-9]', '_', word)}".upper()


def misfit(declared: Sequence[Field], values: Mapping[str, Any]) -> str:
    """What is wrong with the fields together: a required one is not set, or a meaningless one is; "" if nothing."""
    for needs in dict.fromkeys(each.setting.needs for each in declared):
        if needs is None:
            continue
        depending = [each for each in declared if each.setting.needs == needs]
        if needs.met(values):
            idle = [each for each in depending if each.setting.idle is not None and each.setting.idle.met(values)]
            if meaningless := [each.name for each in idle if values[each.name] != each.default]:
                return (
                    f"{' and '.join(meaningless)} can't be set with {idle[0].setting.idle}; leave out one or the other"
                )
            required = [each.name for each in depending if each.setting.required and each not in idle]
            if not all(values[name] for name in required):
                instead = {
                    f", or {each.setting.idle}": None
                    for each in depending
                    if each.setting.idle and each.setting.required
                }
                return f"{needs} {needs.demands.format(' and '.join(required) + ''.join(instead))}"
        elif lost := [each.name for each in depending if values[each.name] != each.default]:
            only = f"{', '.join(lost)} only {'works' if len(lost) == 1 else 'work'} with {needs}"
            return f"{only}; {needs.otherwise}" if needs.otherwise else only
    return ""
