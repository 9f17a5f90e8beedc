"""Apply: makes the table's listeners, routes and rules those of a request, in one mutation.

The checks come before the writer's turn: of the request itself, then of the files of new or changed routes. Then the
decision is made once more, on the table that is in force at that moment.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence

import grpc

from mcproxy.admin import bulk, convert, elsewhere, mutations
from mcproxy.admin.changing import NEEDS_GEOIP
from mcproxy.admin.errors import InvalidField, InvalidFields, TooMany, Unready
from mcproxy.admin.mutate import mutate
from mcproxy.admin.paging import PAGE
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.writer import Mutated, Writer
from mcproxy.change import Change, What, next_table, route_key
from mcproxy.model import FirewallRule, Listener, Route, RuleKind
from mcproxy.table import Table

RECEIVING = 60.0  # seconds for all messages of a request to come: another apply has to wait for them
MAX_WARNINGS = 50  # in one answer; one more says how many there are beside


class Applying:
    """The call that applies a whole request."""

    def __init__(self, writer: Writer, plane: DataPlane) -> None:
        self._writer = writer
        self._plane = plane
        self._one_apply = threading.Lock()  # held by the one that is received and decided on: each may take 250 MB

    def Apply(self, requests: Iterator[pb.ApplyRequest], context: grpc.ServicerContext) -> Iterator[pb.ApplyResponse]:
        """Make the table's values those of the request."""
        if not self._one_apply.acquire(blocking=False):
            raise TooMany("another apply is under way: try again when it has ended")
        try:
            request = self._received(requests, context)
            outcome, warnings = self._apply(request, context)
        finally:
            self._one_apply.release()
        changes, generation, total = iter(outcome.changes), outcome.generation, len(outcome.changes)
        yield pb.ApplyResponse(
            generation=generation, total=total, warnings=warnings, changes=map(convert.change_out, _page(changes))
        )
        while page := _page(changes):
            yield pb.ApplyResponse(generation=generation, total=total, changes=map(convert.change_out, page))

    def _received(self, requests: Iterator[pb.ApplyRequest], context: grpc.ServicerContext) -> bulk.ApplyContents:
        too_slow = threading.Timer(RECEIVING, context.cancel)
        too_slow.start()
        try:
            return bulk.received(requests)
        finally:
            too_slow.cancel()

    def _apply(self, request: bulk.ApplyContents, context: grpc.ServicerContext) -> tuple[Mutated, Sequence[str]]:
        decide = mutations.apply(request.values, request.places, prune=request.options.prune)
        table = self._writer.table
        changes = decide(table, self._writer.clock())
        if any(_is_country(change) for change in changes) and not self._plane.status().geoip.path:
            raise Unready(NEEDS_GEOIP)
        self._refuse_nodes(request, changes)
        warnings = self._judged(request, table, changes)
        outcome = mutate(self._writer, context, "apply", decide, request.options)
        return outcome, [*warnings, *elsewhere.warnings(self._writer, outcome.changes)]

    def _refuse_nodes(self, request: bulk.ApplyContents, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change.new, Listener):
                was = change.old if isinstance(change.old, Listener) else None
                elsewhere.refuse_nodes(self._writer, request.places[change.key], change.new, was)

    def _judged(self, request: bulk.ApplyContents, before: Table, changes: Sequence[Change]) -> Sequence[str]:
        """Judge the files of the routes that are new or changed. Returns warnings. Raises InvalidFields."""
        after = next_table(before, [each for each in changes if each.key.what is not What.RULE], before.generation + 1)
        before, after = self._writer.share(before), self._writer.share(after)  # files are each node's own
        routes = [each.key for each in changes if isinstance(each.new, Route)]
        changed = [(key.scope, key.name) for key in routes if key.scope in after.listeners]
        problems, warnings = self._plane.check_routes(before, after, changed)
        if problems:
            places = [request.places[route_key(each.listener, each.hostname)] for each in problems]
            pairs = zip(places, problems, strict=True)
            raise InvalidFields([InvalidField(f"{place}.{each.key}", each.message) for place, each in pairs])
        more = len(warnings) - MAX_WARNINGS
        return [*warnings[:MAX_WARNINGS], f"and {more} more warnings"] if more > 0 else warnings


def _is_country(change: Change) -> bool:
    return isinstance(change.new, FirewallRule) and change.new.kind is RuleKind.COUNTRY


def _page(changes: Iterator[Change]) -> list[Change]:
    return list(itertools.islice(changes, PAGE))
