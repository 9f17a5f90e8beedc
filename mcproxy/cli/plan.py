"""Shows changes: + for an added value, ~ for a changed one, field by field, - for a removed one.

+ route new.example.org on :443: backend=127.0.0.1:3002, mode=l4
~ route git.example.org on :443: backend 127.0.0.1:3000 -> 127.0.0.1:3005
- firewall rule ip 192.0.2.7
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import Key, What
from mcproxy.cli import output
from mcproxy.model import LISTENER_FIELDS, ROUTE_FIELDS
from mcproxy.settings import LISTS, Field

Fields = Mapping[str, Any]  # of a value, as the audit has them

_IDENTITY = frozenset({"addr", "hostname", "kind", "value"})  # fields that the key has already
_ALWAYS = frozenset({"mode"})  # shown of something new even if it is the default


def _defaults(declared: Iterable[Field]) -> Fields:
    return {
        field.name: " ".join(field.default) if field.kind in LISTS else field.default
        for field in declared
        if field.has_default
    }


# For what was recorded before a field was there, too.
_DEFAULTS: Mapping[What, Fields] = {
    What.LISTENER: _defaults(LISTENER_FIELDS),
    What.ROUTE: _defaults(ROUTE_FIELDS),
    What.RULE: {"expires_at": None},
}


UNREADABLE_HERE = "unreadable in the database"
UNREADABLE: Fields = {"": UNREADABLE_HERE}  # a value that somebody has written by hand, and not as the audit has it


class Shown(NamedTuple):
    """One change, to be shown."""

    key: Key
    old: Fields | None  # None: it is added
    new: Fields | None  # None: it is removed

    @property
    def sign(self) -> str:
        """The kind of the change, in one character."""
        if self.old is None:
            return "+"
        return "-" if self.new is None else "~"

    def __str__(self) -> str:
        details = ", ".join(self.details())
        return output.clean(f"{self.sign} {self.key}{': ' if details else ''}{details}")

    def details(self) -> list[str]:
        """The fields that are set of an added value, or the fields that change."""
        if UNREADABLE in (self.old, self.new):
            return [UNREADABLE_HERE]
        if self.new is None:
            return []
        defaults = _DEFAULTS[self.key.what]
        if self.old is None:
            own = ((name, value) for name, value in self.new.items() if name not in _IDENTITY)
            return [setting(name, value) for name, value in own if name in _ALWAYS or value != defaults.get(name, "")]
        changed = ((name, self.old.get(name, defaults.get(name)), value) for name, value in self.new.items())
        return [f"{name} {_text(name, old)} -> {_text(name, new)}" for name, old, new in changed if old != new]


def of_messages(changes: Iterable[pb.Change]) -> list[Shown]:
    """The changes of an answer."""
    return [of_revision(each) for each in changes]


def of_revision(each: pb.Change | pb.Revision) -> Shown:
    """One change of an answer or of the audit."""
    return Shown(key_of(each.what, each.key), _fields(each.old_json), _fields(each.new_json))


def _fields(text: str) -> Fields | None:
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return UNREADABLE
    return found if found is None or isinstance(found, dict) else UNREADABLE


def details(changes: Iterable[pb.Change]) -> str:
    """The changed fields, for a sentence that names the value."""
    return output.clean(", ".join(detail for each in of_messages(changes) for detail in each.details()))


def setting(name: str, value: Any) -> str:
    """A field with its value."""
    return f"{name}={_text(name, value)}"


def end(rule: Fields) -> str:
    """When a firewall rule ends."""
    return _text("expires_at", rule["expires_at"])


def key_of(what: str, parts: Sequence[str]) -> Key:
    """The key that the API shows as an address, as a listener and a name, or as a kind and a value."""
    *scope, name = parts
    return Key(What(what), "".join(scope), name)


def summary(changes: Sequence[Shown], *, done: bool = False) -> str:
    """The number of changes of each kind, to be made or `done`."""
    counts = [(sum(each.sign == sign for each in changes), verb) for sign, verb in _VERBS.items()]
    return ", ".join(f"{count} {_DONE[verb]}" if done else f"{count} to {verb}" for count, verb in counts if count)


def as_json(changes: Sequence[Shown]) -> list[dict[str, object]]:
    """The changes for programs."""
    return [
        {
            "change": _VERBS[each.sign],
            "what": str(each.key.what),
            "scope": each.key.scope,
            "name": each.key.name,
            "old": each.old,
            "new": each.new,
        }
        for each in changes
    ]


_VERBS = {"+": "add", "~": "change", "-": "remove"}
_DONE = {"add": "added", "change": "changed", "remove": "removed"}


def _text(name: str, value: Any) -> str:
    """A field's value as the file has it; without quotes where that can't be misread."""
    if name == "expires_at" and isinstance(value, float | int | None):
        return f"until {output.moment(value)}" if value else "permanent"
    plain = isinstance(value, str) and value.isprintable() and not set(value) & set(' ,"')
    return value if plain and value else json.dumps(value, ensure_ascii=False)
