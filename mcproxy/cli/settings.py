"""The options of the commands for declared fields (settings.py), and how lists show what is set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from google.protobuf.message import Message

from mcproxy.cli import output
from mcproxy.cli.values import Count, Word
from mcproxy.settings import LISTS, Field, Kind, proto_name

F = TypeVar("F", bound=Callable[..., Any])


RESET = "use the --no- form, or the default, to reset an option"


def options(declared: Iterable[Field]) -> Callable[[F], F]:
    """An option for each of the fields that have a default; it is passed on under the field's name."""

    def decorate(command: F) -> F:
        for field in reversed([each for each in declared if each.has_default]):
            command = click.option(f"--{field.option}", field.name, help=_help(field), **_form(field))(command)
        return command

    return decorate


def _form(field: Field) -> dict[str, Any]:
    match field.kind:
        case Kind.SWITCH:
            return {"is_flag": True}
        case Kind.WORD if field.setting.flag is not None:
            return {"flag_value": str(field.setting.flag), "default": str(field.default)}
        case Kind.WORD:
            return {**_typed(field), "default": str(field.default), "show_default": True}
        case Kind.COUNT:
            return {**_typed(field), "default": field.default, "show_default": True}
    return _typed(field)


def _typed(field: Field) -> dict[str, Any]:
    if field.setting.flag is not None:
        return {"flag_value": str(field.setting.flag), "default": None}
    match field.kind:
        case Kind.WORD:
            return {"type": Word([word.value for word in field.type])}
        case Kind.FILE:
            return {"type": click.Path(path_type=Path)}
        case Kind.COUNT:
            return {"type": Count(field.setting.least, field.setting.most)}
        case Kind.NETWORKS:
            return {"multiple": True, "metavar": "CIDR"}
        case Kind.NODES:
            return {"multiple": True, "metavar": "NODE"}
        case Kind.BACKEND:
            return {"metavar": "BACKEND"}
    return {"metavar": "NAME"}


def changes(declared: Sequence[Field]) -> Callable[[F], F]:
    """An option for each field but the first, which says what is meant, and one to reset it; `named` takes them."""

    def decorate(command: F) -> F:
        for field in reversed(declared[1:]):
            if field.kind is Kind.SWITCH:
                flags = f"--{field.option}/--no-{field.option}"
                command = click.option(flags, field.name, default=None, help=_help(field))(command)
                continue
            if _is_resettable(field):
                reset = click.option(f"--no-{field.option}", _reset(field), is_flag=True, help="Reset it.")
                command = reset(command)
            command = click.option(f"--{field.option}", field.name, help=_help(field), **_typed(field))(command)
        return command

    return decorate


def _is_resettable(field: Field) -> bool:
    """True if an option of its own resets it: a word and a number have a value to say it with."""
    kinds = {Kind.FILE, Kind.HOSTNAME, *LISTS}
    return field.has_default and (field.kind in kinds or field.setting.flag is not None)


def _reset(field: Field) -> str:
    return f"no_{field.name}"


def named(declared: Sequence[Field], options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the options of `changes` set; one that is reset has its default."""
    found: dict[str, Any] = {}
    for field in declared[1:]:
        value, reset = options[field.name], options.get(_reset(field), False)
        if value not in {None, ()} and reset:
            raise click.UsageError(f"--{field.option} and --no-{field.option} exclude each other")
        if value not in {None, ()} or reset:
            found[field.name] = field.default if reset else value
    _exclude(declared, found)
    if not found:
        raise click.UsageError(f"name what to change: {', '.join(f'--{field.option}' for field in declared[1:])}")
    return found


def _exclude(declared: Sequence[Field], named: dict[str, Any]) -> None:
    """Of fields that exclude each other, reset those that were not named: a certificate's files, or ACME.

    So is a flag that loses its meaning by what was named: ACME, which has no value to keep, in a route that becomes l4.
    """
    for field in declared:
        if field.setting.flag and (needs := field.setting.needs) and not needs.met({needs.name: needs.value} | named):
            named.setdefault(field.name, field.default)
        if (idle := field.setting.idle) is None:
            continue
        if named.get(idle.name) == idle.value:
            named.setdefault(field.name, field.default)
        elif named.get(field.name):
            named.setdefault(idle.name, next(each.default for each in declared if each.name == idle.name))


def remedy(declared: Iterable[Field], named: Mapping[str, Any]) -> str:
    """The remedy for fields that lose their meaning by this change; "" if there can't be any."""
    needed = [each.setting.needs for each in declared if each.setting.needs and each.setting.needs.name in named]
    return RESET if any(not needs.met(named) for needs in needed) else ""


def _help(field: Field) -> str:
    text = f"{field.setting.help}."
    if (needs := field.setting.needs) is None:
        return text[0].upper() + text[1:]
    option = needs.name.replace("_", "-")
    return f"With --{option}: {text}" if needs.value is True else f"With --{option} {needs.value}: {text}"


def for_message(declared: Iterable[Field], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as fields of a message. Paths are made absolute, because the server's folder is another one."""
    fields = {field.name: field for field in declared}
    return {name: _sent(fields[name], value) for name, value in options.items() if value is not None}


def _sent(field: Field, value: Any) -> Any:
    match field.kind:
        case Kind.WORD:
            return proto_name(field.type(value))
        case Kind.FILE if value:
            return str(value.absolute())
    return value


def of_value(declared: Iterable[Field], value: Any) -> dict[str, Any]:
    """A value of model.py as fields of a message."""
    return {field.name: _message_value(field, getattr(value, field.name)) for field in declared}


def _message_value(field: Field, value: Any) -> Any:
    match field.kind:
        case Kind.WORD:
            return proto_name(value)
        case Kind.BACKEND:
            return str(value)
    return value


def set_of(declared: Iterable[Field], message: Message) -> Iterator[tuple[Field, Any]]:
    """The fields of a message that are not at their default, with their values in the words of the file."""
    values = output.plain(message)
    for field in declared:
        value = values[field.name]
        if not field.has_default or (tuple(value) if isinstance(value, list) else value) != field.default:
            yield field, value


def shown(declared: Iterable[Field], message: Message, columns: Iterable[str]) -> str:
    """The fields that are set, in the words of the file, but for those with a column of their own."""
    texts = []
    for field, value in set_of(declared, message):
        if field.setting.listed and field.name not in columns:
            texts.append(field.name if value is True else f"{field.name}={value}")
    return " ".join(texts) or "-"
