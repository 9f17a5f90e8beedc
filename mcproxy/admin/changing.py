"""The calls that change something. Each converts what it was given, and the writer does the rest."""

from collections.abc import Sequence

import grpc

from mcproxy.admin import convert, mutations
from mcproxy.admin.errors import Busy, InvalidField, NotThere, Unready
from mcproxy.admin.guard import who
from mcproxy.admin.mutations import Decision, only_listener
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.writer import LOCK_WAIT, Outcome, Writer
from mcproxy.certificates.routes import RouteRefused
from mcproxy.change import Change
from mcproxy.model import FirewallRule, Route, RuleKind
from mcproxy.store import history
from mcproxy.table import Table

NO_GEOIP = "country rules need a GeoIP database: set firewall.geoip_db and restart"
LEVELS = ("debug", "info", "warning", "error")
MAX_CLOSED = 1_000  # connections that one call cuts: some 50 ms of the hub, in turns of 3 ms


class Changing:
    """Part of the service."""

    writer: Writer
    plane: DataPlane

    def AddListener(self, request: pb.AddListenerRequest, context: grpc.ServicerContext) -> pb.AddListenerResponse:
        """Add a listener and open it."""
        listener = convert.listener(request.listener)
        decide = mutations.put_listener(listener, exists=False)
        outcome = self._mutate(context, "listener.add", decide, request.expected_generation)
        return pb.AddListenerResponse(generation=outcome.generation)

    def UpdateListener(
        self, request: pb.UpdateListenerRequest, context: grpc.ServicerContext
    ) -> pb.UpdateListenerResponse:
        """Change a listener's settings."""
        listener = convert.listener(request.listener)
        decide = mutations.put_listener(listener, exists=True)
        outcome = self._mutate(context, "listener.update", decide, request.expected_generation)
        return pb.UpdateListenerResponse(generation=outcome.generation)

    def RemoveListener(
        self, request: pb.RemoveListenerRequest, context: grpc.ServicerContext
    ) -> pb.RemoveListenerResponse:
        """Remove a listener with its routes and close it."""
        addr = convert.listen_address("addr", request.addr)
        if not addr:
            raise InvalidField("addr", "is required")
        outcome = self._mutate(context, "listener.remove", mutations.remove_listener(addr), request.expected_generation)
        return pb.RemoveListenerResponse(generation=outcome.generation, removed_routes=len(outcome.changes) - 1)

    def AddRoute(self, request: pb.AddRouteRequest, context: grpc.ServicerContext) -> pb.AddRouteResponse:
        """Add a route."""
        addr, route, warnings = self._route(request.listener, request.route)
        decide = mutations.put_route(addr, route, exists=False)
        outcome = self._mutate(context, "route.add", decide, request.expected_generation)
        return pb.AddRouteResponse(generation=outcome.generation, warnings=warnings)

    def UpdateRoute(self, request: pb.UpdateRouteRequest, context: grpc.ServicerContext) -> pb.UpdateRouteResponse:
        """Replace a route."""
        addr, route, warnings = self._route(request.listener, request.route)
        decide = mutations.put_route(addr, route, exists=True)
        outcome = self._mutate(context, "route.update", decide, request.expected_generation)
        return pb.UpdateRouteResponse(generation=outcome.generation, warnings=warnings)

    def _route(self, listener: str, message: pb.Route) -> tuple[str, Route, Sequence[str]]:
        addr = convert.listen_address("listener", listener)
        route = convert.route(message)
        meant = only_listener(self.writer.table, addr)
        try:
            return meant, route, self.plane.check_route(meant, route)
        except RouteRefused as error:
            raise InvalidField(f"route.{error.key}", error.message) from error

    def RemoveRoute(self, request: pb.RemoveRouteRequest, context: grpc.ServicerContext) -> pb.RemoveRouteResponse:
        """Remove a route."""
        addr = convert.listen_address("listener", request.listener)
        decide = mutations.remove_route(addr, convert.hostname("hostname", request.hostname))
        outcome = self._mutate(context, "route.remove", decide, request.expected_generation)
        return pb.RemoveRouteResponse(generation=outcome.generation)

    def AddFirewallRule(
        self, request: pb.AddFirewallRuleRequest, context: grpc.ServicerContext
    ) -> pb.AddFirewallRuleResponse:
        """Add a rule; with kill, cut whom it matches."""
        rule = convert.rule(request.kind, request.value)
        ttl = convert.ttl(request.ttl_seconds)
        if rule.kind is RuleKind.COUNTRY and not self.plane.status().geoip.path:
            raise Unready(NO_GEOIP)
        decide = mutations.add_rule(rule, ttl, may_exist=request.kill)  # whom it matches is cut either way
        outcome = self._mutate(context, "rule.add", decide, request.expected_generation)
        added = outcome.changes[0].new if outcome.changes else rule
        assert isinstance(added, FirewallRule)
        killed = self.plane.kill_matching(added) if request.kill else 0
        return pb.AddFirewallRuleResponse(generation=outcome.generation, rule=convert.rule_out(added), killed=killed)

    def RemoveFirewallRule(
        self, request: pb.RemoveFirewallRuleRequest, context: grpc.ServicerContext
    ) -> pb.RemoveFirewallRuleResponse:
        """Remove a rule."""
        rule = convert.rule(request.kind, request.value)
        decide = mutations.remove_rule(rule.kind, rule.value)
        outcome = self._mutate(context, "rule.remove", decide, request.expected_generation)
        return pb.RemoveFirewallRuleResponse(generation=outcome.generation)

    def Rollback(self, request: pb.RollbackRequest, context: grpc.ServicerContext) -> pb.RollbackResponse:
        """Make everything as it was at a generation."""

        def decide(table: Table, now: float) -> list[Change]:
            try:
                return history.way_back(self.writer.store, table, request.generation, now)
            except ValueError as error:
                raise InvalidField("generation", error) from error

        action = f"rollback {request.generation}"
        outcome = self._mutate(context, action, decide, request.expected_generation)
        return pb.RollbackResponse(generation=outcome.generation, changes=len(outcome.changes))

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

    def _mutate(self, context: grpc.ServicerContext, action: str, decide: Decision, expected: int) -> Outcome:
        def decide_in_time(table: Table, now: float) -> Sequence[Change]:
            if not context.is_active():
                raise Busy("the deadline passed while other changes were made: try again")
            return decide(table, now)

        remaining = context.time_remaining()
        wait = LOCK_WAIT if remaining is None else max(0.0, min(remaining, LOCK_WAIT))
        return self.writer.mutate(who(context), action, decide_in_time, expected, wait)
