"""The calls that change something. Each converts what it was given, and the writer does the rest."""

from collections.abc import Sequence
from typing import Protocol

import grpc

from mcproxy.admin import caller, convert, mutations, risks
from mcproxy.admin.errors import Busy, InvalidField, NotThere, Unready
from mcproxy.admin.mutations import Decision, only_listener
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.writer import LOCK_WAIT, Outcome, Writer
from mcproxy.certificates.routes import RouteRefused
from mcproxy.change import Change, current, route_key
from mcproxy.model import FirewallRule, Route, RuleKind
from mcproxy.policy.networks import pack
from mcproxy.store import history
from mcproxy.table import Table

NO_GEOIP = "country rules need a GeoIP database: set firewall.geoip_db and restart"
LEVELS = ("debug", "info", "warning", "error")
MAX_CLOSED = 1_000  # connections that one call cuts: some 50 ms of the hub, in turns of 3 ms


class Mutation(Protocol):
    """What the requests of all mutations have in common."""

    @property
    def expected_generation(self) -> int: ...  # noqa: D102

    @property
    def dry_run(self) -> bool: ...  # noqa: D102

    @property
    def comment(self) -> str: ...  # noqa: D102


class Changing:
    """Part of the service."""

    writer: Writer
    plane: DataPlane

    def AddListener(self, request: pb.AddListenerRequest, context: grpc.ServicerContext) -> pb.AddListenerResponse:
        """Add a listener and open it."""
        decide = mutations.put_listener(convert.listener(request.listener), exists=False)
        outcome = self._mutate(context, "listener.add", decide, request)
        return pb.AddListenerResponse(generation=outcome.generation, effect=convert.effect_out(outcome.changes))

    def UpdateListener(
        self, request: pb.UpdateListenerRequest, context: grpc.ServicerContext
    ) -> pb.UpdateListenerResponse:
        """Change a listener's settings."""
        was = None
        if request.update_mask.paths:
            addr = only_listener(self.writer.table, _required("listener.addr", request.listener.addr))
            was = self.writer.table.listeners[addr].listener
            listener = convert.changed_listener(was, request.listener, request.update_mask)
        else:
            listener = convert.listener(request.listener)
        decide = mutations.put_listener(listener, exists=True, was=was)
        outcome = self._mutate(context, "listener.update", decide, request)
        return pb.UpdateListenerResponse(generation=outcome.generation, effect=convert.effect_out(outcome.changes))

    def RemoveListener(
        self, request: pb.RemoveListenerRequest, context: grpc.ServicerContext
    ) -> pb.RemoveListenerResponse:
        """Remove a listener with its routes and close it."""
        addr = _required("addr", request.addr)
        outcome = self._mutate(context, "listener.remove", mutations.remove_listener(addr), request)
        effect = convert.effect_out(outcome.changes, risks.of_changes(outcome.changes) if request.dry_run else ())
        removed_routes = len(outcome.changes) - 1
        return pb.RemoveListenerResponse(generation=outcome.generation, removed_routes=removed_routes, effect=effect)

    def AddRoute(self, request: pb.AddRouteRequest, context: grpc.ServicerContext) -> pb.AddRouteResponse:
        """Add a route."""
        addr = self._listener(request.listener)
        route = convert.route(request.route)
        warnings = self._check(addr, route)
        outcome = self._mutate(context, "route.add", mutations.put_route(addr, route, exists=False), request)
        effect = convert.effect_out(outcome.changes)
        return pb.AddRouteResponse(generation=outcome.generation, warnings=warnings, effect=effect)

    def UpdateRoute(self, request: pb.UpdateRouteRequest, context: grpc.ServicerContext) -> pb.UpdateRouteResponse:
        """Change a route, or replace it."""
        addr, was, mask = self._listener(request.listener), None, request.update_mask
        if mask.paths:
            was = self._present(addr, convert.hostname("route.hostname", request.route.hostname))
            route = convert.changed_route(was, request.route, mask)
        else:
            route = convert.route(request.route)
        warnings = self._check(addr, route)
        outcome = self._mutate(context, "route.update", mutations.put_route(addr, route, exists=True, was=was), request)
        unnamed = request.dry_run and not mask.paths  # a mode that is named is no slip
        effect = convert.effect_out(outcome.changes, risks.of_changes(outcome.changes) if unnamed else ())
        return pb.UpdateRouteResponse(generation=outcome.generation, warnings=warnings, effect=effect)

    def _listener(self, addr: str) -> str:
        return only_listener(self.writer.table, convert.listen_address("listener", addr))

    def _present(self, addr: str, hostname: str) -> Route:
        key = route_key(addr, hostname)
        found = current(self.writer.table, key)
        if not isinstance(found, Route):
            raise NotThere(f"there is no {key}", key)
        return found

    def _check(self, addr: str, route: Route) -> Sequence[str]:
        try:
            return self.plane.check_route(addr, route)
        except RouteRefused as error:
            raise InvalidField(f"route.{error.key}", error.message) from error

    def RemoveRoute(self, request: pb.RemoveRouteRequest, context: grpc.ServicerContext) -> pb.RemoveRouteResponse:
        """Remove a route."""
        addr = convert.listen_address("listener", request.listener)
        decide = mutations.remove_route(addr, convert.hostname("hostname", request.hostname))
        outcome = self._mutate(context, "route.remove", decide, request)
        return pb.RemoveRouteResponse(generation=outcome.generation, effect=convert.effect_out(outcome.changes))

    def AddFirewallRule(
        self, request: pb.AddFirewallRuleRequest, context: grpc.ServicerContext
    ) -> pb.AddFirewallRuleResponse:
        """Add a rule; with kill, cut the connections that it matches."""
        rule = convert.rule(request.kind, request.value)
        ttl = convert.ttl(request.ttl_seconds)
        if rule.kind is RuleKind.COUNTRY and not self.plane.status().geoip.path:
            raise Unready(NO_GEOIP)
        # One that stays for good blocks as it should, so that what it matches is cut either way.
        decide = mutations.add_rule(rule, ttl, may_replace=request.replace, may_stay=request.kill)
        outcome = self._mutate(context, "rule.add", decide, request)
        added = outcome.changes[0].new if outcome.changes else rule
        assert isinstance(added, FirewallRule)
        matching = self.plane.count_matching if request.dry_run else self.plane.kill_matching
        killed = matching(added) if request.kill else 0
        found = risks.of_rule(added, _own(request, context), self.plane.country, killed) if request.dry_run else ()
        effect = convert.effect_out(outcome.changes, found)
        return pb.AddFirewallRuleResponse(
            generation=outcome.generation, rule=convert.rule_out(added), killed=killed, effect=effect
        )

    def RemoveFirewallRule(
        self, request: pb.RemoveFirewallRuleRequest, context: grpc.ServicerContext
    ) -> pb.RemoveFirewallRuleResponse:
        """Remove a rule."""
        rule = convert.rule(request.kind, request.value)
        outcome = self._mutate(context, "rule.remove", mutations.remove_rule(rule.kind, rule.value), request)
        return pb.RemoveFirewallRuleResponse(generation=outcome.generation, effect=convert.effect_out(outcome.changes))

    def Rollback(self, request: pb.RollbackRequest, context: grpc.ServicerContext) -> pb.RollbackResponse:
        """Make everything as it was at a generation."""

        def decide(table: Table, now: float) -> list[Change]:
            try:
                return history.way_back(self.writer.store, table, request.generation, now)
            except ValueError as error:
                raise InvalidField("generation", error) from error

        outcome = self._mutate(context, f"rollback {request.generation}", decide, request)
        effect = convert.effect_out(outcome.changes, risks.of_rollback(outcome.changes) if request.dry_run else ())
        return pb.RollbackResponse(generation=outcome.generation, changes=len(outcome.changes), effect=effect)

    def CloseConnection(
        self,
        request: pb.CloseConnectionRequest,
        context: grpc.ServicerContext,
    ) -> pb.CloseConnectionResponse:
        """Cut a connection."""
        if not self.plane.close_connections([request.id]):
            raise NotThere(f"there is no connection {request.id}: it may have ended")
        return pb.CloseConnectionResponse()

    def CloseConnections(
        self,
        request: pb.CloseConnectionsRequest,
        context: grpc.ServicerContext,
    ) -> pb.CloseConnectionsResponse:
        """Cut several connections."""
        if len(request.ids) > MAX_CLOSED:
            raise InvalidField("ids", f"must be at most {MAX_CLOSED} in one call")
        closed = set(self.plane.close_connections(list(dict.fromkeys(request.ids))))
        return pb.CloseConnectionsResponse(missing=[number for number in request.ids if number not in closed])

    def SetLogLevel(
        self,
        request: pb.SetLogLevelRequest,
        context: grpc.ServicerContext,
    ) -> pb.SetLogLevelResponse:
        """Set the log level until the next start or a reload that finds another one."""
        if request.level not in LEVELS:
            raise InvalidField("level", f"must be one of {', '.join(LEVELS)}")
        self.plane.set_log_level(request.level)
        return pb.SetLogLevelResponse()

    def Reload(self, request: pb.ReloadRequest, context: grpc.ServicerContext) -> pb.ReloadResponse:
        """Read everything again."""
        report = self.plane.reload()
        if report.refused:
            raise Unready(f"{report.refused}, nothing has changed: {'; '.join(report.problems)}")
        return convert.reload_out(report)

    def ReloadGeoip(
        self,
        request: pb.ReloadGeoipRequest,
        context: grpc.ServicerContext,
    ) -> pb.ReloadGeoipResponse:
        """Reopen the GeoIP database."""
        try:
            return pb.ReloadGeoipResponse(geoip=convert.geoip_out(self.plane.reload_geoip()))
        except ValueError as error:
            raise Unready(f"{error}; the old database stays in use") from error

    def ReloadCertificates(
        self,
        request: pb.ReloadCertificatesRequest,
        context: grpc.ServicerContext,
    ) -> pb.ReloadCertificatesResponse:
        """Read every certificate again."""
        try:
            certificates = convert.certificates_out(self.plane.reload_certificates())
        except ValueError as error:
            raise Unready(f"{error}; the old certificates stay in use") from error
        return pb.ReloadCertificatesResponse(certificates=certificates)

    def _mutate(self, context: grpc.ServicerContext, action: str, decide: Decision, request: Mutation) -> Outcome:
        said = caller.said(context, request.comment)
        if request.dry_run:
            return self.writer.plan(decide, request.expected_generation)

        def decide_in_time(table: Table, now: float) -> Sequence[Change]:
            if not context.is_active():
                raise Busy("the deadline passed while other changes were made: try again")
            return decide(table, now)

        remaining = context.time_remaining()
        wait = LOCK_WAIT if remaining is None else max(0.0, min(remaining, LOCK_WAIT))
        who, expected = caller.who(context), request.expected_generation
        return self.writer.mutate(who, action, decide_in_time, expected, wait, said)


def _own(request: pb.AddFirewallRuleRequest, context: grpc.ServicerContext) -> list[bytes]:
    """The packed addresses that are the caller's own. Raises InvalidField."""
    try:
        return [pack(each) for each in (caller.ip(context), request.own_ip) if each]
    except ValueError as error:
        raise InvalidField("own_ip", error) from None


def _required(field: str, addr: str) -> str:
    """A listener's address in canonical form. Raises InvalidField where there is none."""
    if not addr:
        raise InvalidField(field, "is required")
    return convert.listen_address(field, addr)
