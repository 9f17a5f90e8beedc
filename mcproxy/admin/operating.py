"""The calls that act on the running server and leave no row: closing connections, reloading, the log's level."""

from collections.abc import Sequence

import grpc

from mcproxy.admin import convert
from mcproxy.admin.contract import MAX_CLOSED
from mcproxy.admin.errors import InvalidField, NotThere, Unready
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.writer import REACH, Writer
from mcproxy.fleet.nodes import Life
from mcproxy.model import LOG_LEVELS, Mode, Tls


class Operating:
    """The calls that act on the running server."""

    def __init__(self, writer: Writer, plane: DataPlane) -> None:
        self._writer = writer
        self._plane = plane

    def CloseConnection(
        self,
        request: pb.CloseConnectionRequest,
        context: grpc.ServicerContext,
    ) -> pb.CloseConnectionResponse:
        """Cut a connection."""
        if not self._plane.close_connections([request.id]):
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
        closed = set(self._plane.close_connections(list(dict.fromkeys(request.ids))))
        return pb.CloseConnectionsResponse(missing=[number for number in request.ids if number not in closed])

    def RenewCertificate(
        self,
        request: pb.RenewCertificateRequest,
        context: grpc.ServicerContext,
    ) -> pb.RenewCertificateResponse:
        """Have a certificate ordered now."""
        hostname = convert.hostname("hostname", request.hostname)
        routes = {addr: each.routes.get(hostname) for addr, each in self._writer.table.listeners.items()}
        found = {addr: route for addr, route in routes.items() if route is not None and route.mode is Mode.L7}
        if not found:
            raise NotThere(f"there is no l7 route {hostname}")
        listener = next((addr for addr, route in found.items() if route.tls is Tls.ACME), None)
        if listener is None:
            raise Unready(f"the certificate of {hostname} comes from files: renew them, and they are noticed")
        if lacking := self._plane.orders.lacking():
            raise InvalidField("hostname", f"no certificate can be ordered for {hostname}: {lacking}")
        obstacle = self._plane.orders.renew(hostname)
        return pb.RenewCertificateResponse(
            obstacle=obstacle, hostname=hostname, listener=listener, ordered=not obstacle
        )

    def ListNodes(self, request: pb.ListNodesRequest, context: grpc.ServicerContext) -> pb.ListNodesResponse:
        """The nodes of the fleet."""
        found, now = self._writer.others.nodes(REACH)
        return pb.ListNodesResponse(nodes=map(convert.other_node_out, found), now=now)

    def RemoveNode(self, request: pb.RemoveNodeRequest, context: grpc.ServicerContext) -> pb.RemoveNodeResponse:
        """Forget a node."""
        if request.dry_run:
            return pb.RemoveNodeResponse(risks=self._risks_of_removing(request.name))
        if not self._writer.others.remove_node(request.name, REACH):
            raise _unknown_node(request.name)
        return pb.RemoveNodeResponse()

    def _risks_of_removing(self, name: str) -> Sequence[str]:
        found, now = self._writer.others.nodes(REACH)
        node = next((each for each in found if each.name == name), None)
        if node is None:
            raise _unknown_node(name)
        if node.life not in {Life.RUNNING, Life.STARTING}:
            return ()
        ago = max(now - node.seen_at, 0.0)
        back = "it is listed again after its next report, and until then another node can take its name: stop it first"
        return [f"node {name} is {node.life}, seen {ago:.0f} s ago; {back}"]

    def SetLogLevel(
        self,
        request: pb.SetLogLevelRequest,
        context: grpc.ServicerContext,
    ) -> pb.SetLogLevelResponse:
        """Set the log level until the next start or a reload that finds another one."""
        if request.level not in LOG_LEVELS:
            raise InvalidField("level", f"must be one of {', '.join(LOG_LEVELS)}")
        self._plane.set_log_level(request.level)
        return pb.SetLogLevelResponse()

    def Reload(self, request: pb.ReloadRequest, context: grpc.ServicerContext) -> pb.ReloadResponse:
        """Read everything again."""
        report = self._plane.reload()
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
            return pb.ReloadGeoipResponse(geoip=convert.geoip_out(self._plane.reload_geoip()))
        except ValueError as error:
            raise Unready(f"{error}; the old database stays in use") from error

    def ReloadCertificates(
        self,
        request: pb.ReloadCertificatesRequest,
        context: grpc.ServicerContext,
    ) -> pb.ReloadCertificatesResponse:
        """Read every certificate again."""
        try:
            certificates = convert.certificates_out(self._plane.reload_certificates())
        except ValueError as error:
            raise Unready(f"{error}; the old certificates stay in use") from error
        return pb.ReloadCertificatesResponse(certificates=certificates)


def _unknown_node(name: str) -> NotThere:
    return NotThere(f"there is no node {name}: see `mcproxy nodes`")
