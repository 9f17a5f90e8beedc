"""Which values a declared field may have (settings.py): one check for each kind, for the file and for the admin API.

A check returns the value in its canonical form. It raises ValueError with the message for the operator.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mcproxy.notation import address, name
from mcproxy.policy import networks
from mcproxy.settings import Field, Kind, beyond, misfit
from mcproxy.words import quoted

NODE_FORM = "must have 1 to 64 letters, digits, '-', '_' or '.'"

_NODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Invalid(ValueError):
    """A value that its field can't have, or fields that don't fit together."""

    def __init__(self, location: Sequence[int | str], problem: object) -> None:
        """`location` is the field, and the place within it; it is empty where the fields don't fit together."""
        super().__init__(str(problem))
        self.location = location


def is_node(text: str) -> bool:
    """True if this can be a node's name."""
    return _NODE.fullmatch(text) is not None


def node(text: str) -> str:
    """The name of a fleet's node."""
    if not is_node(text):
        raise ValueError(f"{quoted(text)} is not a node's name, which {NODE_FORM}")
    return text


def file(text: str) -> str:
    """A file's path; "" for none."""
    if "\0" in text:
        raise ValueError("a path can't contain a NUL character; remove it")
    return text


def each_once(names: Sequence[str]) -> tuple[str, ...]:
    """Names in order, each once."""
    return tuple(sorted(set(names)))


# Of a text, and of each text of a list; the values of the other kinds are all valid, or have bounds of their own.
CHECKS: Mapping[Kind, Callable[[str], Any]] = {
    Kind.HOSTNAME: name.normalise,
    Kind.LISTEN: address.parse_listen,
    Kind.BACKEND: address.parse_backend,
    Kind.FILE: file,
    Kind.NETWORKS: networks.canonical_network,
    Kind.NODES: node,
}


def judged(declared: Sequence[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields' values in canonical form; each has the type that its kind has in TOML. Raises Invalid."""
    found = {field.name: _judged(field, values[field.name]) for field in declared}
    if problem := misfit(declared, found):
        raise Invalid((), problem)
    return found


def _judged(field: Field, value: Any) -> Any:
    check = CHECKS.get(field.kind)
    if field.kind is Kind.COUNT:
        if problem := beyond(value, field.setting.least, field.setting.most):
            raise Invalid((field.name,), problem)
        return value
    if check is None or (field.kind is Kind.HOSTNAME and value == field.default == ""):
        return value
    if field.kind in {Kind.NETWORKS, Kind.NODES}:
        checked = tuple(_checked((field.name, i), check, text) for i, text in enumerate(value))
        return each_once(checked) if field.kind is Kind.NODES else checked
    return _checked((field.name,), check, value)


def _checked(location: Sequence[int | str], check: Callable[[str], Any], text: str) -> Any:
    try:
        return check(text)
    except ValueError as error:
        raise Invalid(location, error) from None
