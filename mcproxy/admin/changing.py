"""The calls that change listeners, routes and rules. Each converts what it was given; the writer does the rest."""

from collections.abc import Sequence

import grpc

from mcproxy.admin import caller, convert, elsewhere, looking, mutations, risks
from mcproxy.admin.errors import InvalidField, Unready
from mcproxy.admin.mutate import mutate
from mcproxy.admin.mutations import only_listener
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.writer import Writer
from mcproxy.certificates.routes import RouteRefused
from mcproxy.change import Change
from mcproxy.fleet.cutting import WAIT, CutElsewhere
from mcproxy.model import FirewallRule, Listener, Mode, Route, RuleKind, Tls
from mcproxy.policy.networks import pack
from mcproxy.store import history
from mcproxy.table import Table

TO_ANSWER = 1.0  # seconds of a call's deadline that are left when other nodes are no longer waited for
NEEDS_GEOIP = "country rules need a GeoIP database: set firewall.geoip_db and reload"
FILES_ELSEWHERE = "{} is a listener of other nodes, which read the route's files: `mcproxy nodes` shows what they lack"


class Changing:
    """The calls that change listeners, routes and rules."""

    def __init__(self, writer: Writer, plane: DataPlane) -> None:
        self._writer = writer
        self._plane = plane

    def AddListener(self, request: pb.AddListenerRequest, context: grpc.ServicerContext) -> pb.AddListenerResponse:
        """Add a listener and open it."""
        listener = convert.listener(request.listener)
        elsewhere.refuse_nodes(self._writer, "listener", listener, None)
        decide = mutations.put_listener(listener, exists=False)
        outcome = mutate(self._writer, context, "listener.add", decide, request)
        return pb.AddListenerResponse(
            generation=outcome.generation,
            effect=convert.effect_out(outcome.changes),
            warnings=elsewhere.warnings(self._writer, outcome.changes),
        )

    def UpdateListener(
        self, request: pb.UpdateListenerRequest, context: grpc.ServicerContext
    ) -> pb.UpdateListenerResponse:
        """Change a listener's settings."""

        def changed(was: Listener) -> Listener:
            listener = convert.changed_listener(was, request.listener, request.update_mask)
            elsewhere.refuse_nodes(self._writer, "listener", listener, was)
            return listener

        if request.update_mask.paths:
            decide = mutations.change_listener(_required("listener.addr", request.listener.addr), changed)
        else:
            listener = convert.listener(request.listener)
            elsewhere.refuse_nodes(self._writer, "listener", listener, None)
            decide = mutations.put_listener(listener, exists=True)
        outcome = mutate(self._writer, context, "listener.update", decide, request)
        return pb.UpdateListenerResponse(
            generation=outcome.generation,
            effect=convert.effect_out(outcome.changes),
            warnings=elsewhere.warnings(self._writer, outcome.changes),
        )

    def RemoveListener(
        self, request: pb.RemoveListenerRequest, context: grpc.ServicerContext
    ) -> pb.RemoveListenerResponse:
        """Remove a listener with its routes and close it."""
        addr = _required("addr", request.addr)
        outcome = mutate(self._writer, context, "listener.remove", mutations.remove_listener(addr), request)
        effect = convert.effect_out(outcome.changes, risks.of_changes(outcome.changes) if request.dry_run else ())
        removed_routes = len(outcome.changes) - 1
        return pb.RemoveListenerResponse(generation=outcome.generation, removed_routes=removed_routes, effect=effect)

    def AddRoute(self, request: pb.AddRouteRequest, context: grpc.ServicerContext) -> pb.AddRouteResponse:
        """Add a route."""
        addr = self._listener(request.listener)
        route = convert.route(request.route)
        warnings = self._check(addr, route)
        outcome = mutate(self._writer, context, "route.add", mutations.put_route(addr, route, exists=False), request)
        seen = self._look(request, addr, route)
        return pb.AddRouteResponse(
            generation=outcome.generation,
            warnings=[*warnings, *seen.warnings],
            effect=convert.effect_out(outcome.changes),
            backend_http=seen.http,
        )

    def UpdateRoute(self, request: pb.UpdateRouteRequest, context: grpc.ServicerContext) -> pb.UpdateRouteResponse:
        """Change a route, or replace it."""
        addr, mask = self._listener(request.listener), request.update_mask
        checked: dict[Route, Sequence[str]] = {}  # the last one is the route that is made

        def changed(was: Route | None) -> Route:
            """Also at its turn, where another call may have changed the route meanwhile: then it is checked again."""
            route = convert.route(request.route) if was is None else convert.changed_route(was, request.route, mask)
            checked[route] = checked.pop(route) if route in checked else self._check(addr, route)
            return route

        if mask.paths:
            name = convert.hostname("route.hostname", request.route.hostname)
            changed(mutations.present_route(self._writer.table, addr, name))
            decide = mutations.change_route(addr, name, changed)
        else:
            decide = mutations.put_route(addr, changed(None), exists=True)
        outcome = mutate(self._writer, context, "route.update", decide, request)
        route, warnings = list(checked.items())[-1]
        seen = self._look(request, addr, route)
        unnamed = request.dry_run and not mask.paths  # a mode that is named is no slip
        effect = convert.effect_out(outcome.changes, risks.of_changes(outcome.changes) if unnamed else ())
        return pb.UpdateRouteResponse(
            generation=outcome.generation,
            warnings=[*warnings, *seen.warnings],
            effect=effect,
            backend_http=seen.http,
        )

    def _listener(self, addr: str) -> str:
        return only_listener(self._writer.table, convert.listen_address("listener", addr))

    def _check(self, addr: str, route: Route) -> Sequence[str]:
        if addr not in self._writer.served.listeners:  # files are each node's own
            return [FILES_ELSEWHERE.format(addr)] if route.mode is Mode.L7 and route.tls is Tls.FILES else ()
        try:
            return self._plane.check_route(addr, route)
        except RouteRefused as error:
            raise InvalidField(f"route.{error.key}", error.message) from error

    def _look(self, request: pb.AddRouteRequest | pb.UpdateRouteRequest, addr: str, route: Route) -> looking.Seen:
        here = addr in self._writer.served.listeners
        return looking.look(self._plane, route) if here and request.look and not request.dry_run else looking.Seen()

    def RemoveRoute(self, request: pb.RemoveRouteRequest, context: grpc.ServicerContext) -> pb.RemoveRouteResponse:
        """Remove a route."""
        addr = convert.listen_address("listener", request.listener)
        decide = mutations.remove_route(addr, convert.hostname("hostname", request.hostname))
        outcome = mutate(self._writer, context, "route.remove", decide, request)
        return pb.RemoveRouteResponse(generation=outcome.generation, effect=convert.effect_out(outcome.changes))

    def AddFirewallRule(
        self, request: pb.AddFirewallRuleRequest, context: grpc.ServicerContext
    ) -> pb.AddFirewallRuleResponse:
        """Add a rule; with kill, cut the connections that it matches."""
        rule = convert.rule(request.kind, request.value)
        ttl = convert.ttl(request.ttl_seconds)
        if rule.kind is RuleKind.COUNTRY and not self._plane.status().geoip.path:
            raise Unready(NEEDS_GEOIP)
        # One that stays for good blocks as it should, so that what it matches is cut either way.
        decide = mutations.add_rule(rule, ttl, may_replace=request.replace, may_stay=request.kill)
        outcome = mutate(self._writer, context, "rule.add", decide, request)
        added = outcome.changes[0].new if outcome.changes else rule
        assert isinstance(added, FirewallRule)
        matching = self._plane.count_matching if request.dry_run else self._plane.kill_matching
        killed = matching(added) if request.kill else 0
        elsewhere = self._cut_elsewhere(added, outcome.generation, request, context)
        killed += elsewhere.connections
        found = risks.of_rule(added, _own(request, context), self._plane.country, killed) if request.dry_run else ()
        effect = convert.effect_out(outcome.changes, found)
        return pb.AddFirewallRuleResponse(
            generation=outcome.generation, rule=convert.rule_out(added), killed=killed, effect=effect,
            unanswered=elsewhere.unanswered,
        )  # fmt: skip

    def _cut_elsewhere(
        self, rule: FirewallRule, generation: int, request: pb.AddFirewallRuleRequest, context: grpc.ServicerContext
    ) -> CutElsewhere:
        """Have the other nodes of a fleet cut, too, or count in a dry run."""
        if not request.kill or self._writer.standing is None:
            return CutElsewhere(0)
        remaining = context.time_remaining()
        wait = WAIT if remaining is None else min(WAIT, max(remaining - TO_ANSWER, 0.0))
        others = self._writer.others
        self._writer.reach(wait)
        if request.dry_run:
            others.refuse_unless_following()
            return others.cutter.count(rule, wait)
        return others.cutter.ask(rule, generation, wait)

    def RemoveFirewallRule(
        self, request: pb.RemoveFirewallRuleRequest, context: grpc.ServicerContext
    ) -> pb.RemoveFirewallRuleResponse:
        """Remove a rule."""
        rule = convert.rule(request.kind, request.value)
        outcome = mutate(self._writer, context, "rule.remove", mutations.remove_rule(rule.kind, rule.value), request)
        return pb.RemoveFirewallRuleResponse(generation=outcome.generation, effect=convert.effect_out(outcome.changes))

    def Rollback(self, request: pb.RollbackRequest, context: grpc.ServicerContext) -> pb.RollbackResponse:
        """Make everything as it was at a generation."""

        def decide(table: Table, now: float) -> list[Change]:
            try:
                return history.way_back(self._writer.store, table, request.generation, now)
            except ValueError as error:
                raise InvalidField("generation", error) from error

        outcome = mutate(self._writer, context, f"rollback {request.generation}", decide, request)
        effect = convert.effect_out(outcome.changes, risks.of_rollback(outcome.changes) if request.dry_run else ())
        return pb.RollbackResponse(
            generation=outcome.generation,
            changes=len(outcome.changes),
            effect=effect,
            warnings=elsewhere.warnings(self._writer, outcome.changes),
        )


def _own(request: pb.AddFirewallRuleRequest, context: grpc.ServicerContext) -> list[bytes]:
    """The packed addresses that are the caller's own. Raises InvalidField."""
    try:
        return [pack(each) for each in (caller.ip(context), request.own_ip) if each]
    except ValueError as error:
        raise InvalidField("own_ip", error) from None


def _required(field: str, addr: str) -> str:
    """A listener's address in canonical form. Raises InvalidField if there is none."""
    if not addr:
        raise InvalidField(field, "is required")
    return convert.listen_address(field, addr)
