"""The streams of Export and Apply: a whole table in many messages.

No gRPC message can carry 100,000 routes, so both are streams of messages that each carry some values. The request of
Apply is checked as a whole: every problem is found, each with the place of its value in the request.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcproxy.admin import convert
from mcproxy.admin.errors import InvalidField, InvalidFields, TooMany
from mcproxy.admin.paging import PAGE
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import Key, Value, listener_key, route_key, rule_key
from mcproxy.document import MAX_DOCUMENT
from mcproxy.table import Table
from mcproxy.words import quoted

MAX_VALUES = 250_000  # in one Apply; each takes about 1 kB while it is decided on


def exported(table: Table) -> Iterator[pb.Values]:
    """The values of a table in messages of one page each; one message even if the table is empty."""
    tables = table.listeners.values()
    yield pb.Values(listeners=[convert.listener_out(each.listener) for each in tables])
    routes = (
        pb.ListedRoute(listener=each.listener.addr, route=convert.route_out(route))
        for each in tables
        for route in each.routes.values()
    )
    rules = map(convert.rule_out, table.firewall.rules())
    while page := list(itertools.islice(routes, PAGE)):
        yield pb.Values(routes=page)
    while some := list(itertools.islice(rules, PAGE)):
        yield pb.Values(rules=some)


@dataclass(frozen=True, slots=True)
class ApplyContents:
    """The received contents of an Apply."""

    options: pb.ApplyOptions
    values: Mapping[Key, Value]
    places: Mapping[Key, str]  # where each value is in the request, as in "routes[17]"


def received(messages: Iterable[pb.ApplyRequest]) -> ApplyContents:
    """The contents of all messages. Raises InvalidField or InvalidFields with every problem, and TooMany."""
    stream = iter(messages)
    first = next(stream, pb.ApplyRequest())
    if not first.HasField("options"):
        raise InvalidField("options", "are required, in the first message")
    taking, size = _Taking(), 0
    for message in itertools.chain([first], stream):
        size += message.ByteSize()
        taking.take(message.values)
        if size > MAX_DOCUMENT or taking.count > MAX_VALUES:
            raise TooMany(f"one apply takes at most {MAX_VALUES} values and {MAX_DOCUMENT >> 20} MiB: apply fewer")
    expected = first.options.values
    if taking.count != expected:
        raise InvalidField(
            "options.values", f"{expected} values were announced and {taking.count} came: send all again"
        )
    if taking.problems:
        raise InvalidFields(taking.problems)
    return ApplyContents(first.options, taking.values, taking.places)


class _Taking:
    """Takes values one after the other, and remembers what is wrong with them."""

    def __init__(self) -> None:
        self.values: dict[Key, Value] = {}
        self.places: dict[Key, str] = {}
        self.problems: list[InvalidField] = []
        self._taken = {"listeners": 0, "routes": 0, "rules": 0}

    @property
    def count(self) -> int:
        """How many values were taken, the invalid ones too."""
        return sum(self._taken.values())

    def take(self, values: pb.Values) -> None:
        """Take the values of one more message."""
        for listener in values.listeners:
            self._put("listeners", "listener", listener, self._listener)
        for route in values.routes:
            self._put("routes", "route", route, self._route)
        for rule in values.rules:
            self._put("rules", "", rule, self._rule)

    def _put(self, kind: str, prefix: str, message: Any, convert_one: Callable[[Any], tuple[Key, Value]]) -> None:
        place = f"{kind}[{self._taken[kind]}]"
        self._taken[kind] += 1
        try:
            key, value = convert_one(message)
        except InvalidField as error:
            name = error.about.removeprefix(prefix).removeprefix(".")
            self.problems.append(InvalidField(f"{place}.{name}" if name else place, error.problem))
            return
        if key in self.values:
            self.problems.append(InvalidField(place, f"the {key} is also {self.places[key]}"))
        self.values[key], self.places[key] = value, place

    def _listener(self, message: pb.Listener) -> tuple[Key, Value]:
        listener = convert.listener(message)
        return listener_key(listener.addr), listener

    def _route(self, message: pb.ListedRoute) -> tuple[Key, Value]:
        addr = convert.listen_address("listener", message.listener)
        if listener_key(addr) not in self.values:
            raise InvalidField("listener", f"there is no listener {quoted(addr)} before it in the request")
        route = convert.route(message.route)
        return route_key(addr, route.hostname), route

    def _rule(self, message: pb.FirewallRule) -> tuple[Key, Value]:
        if message.expires_at:
            raise InvalidField("expires_at", "only permanent rules can be applied: add this one with AddFirewallRule")
        rule = convert.rule(message.kind, message.value)
        return rule_key(rule.kind, rule.value), rule
