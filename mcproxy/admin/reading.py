"""The calls that only look."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc

from mcproxy import __version__
from mcproxy.admin import bulk, convert, elsewhere, paging
from mcproxy.admin.errors import InvalidField
from mcproxy.admin.explain import explain, firewall_steps
from mcproxy.admin.mutations import only_listener
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import DataPlane
from mcproxy.admin.watching import Watchers
from mcproxy.admin.writer import Writer
from mcproxy.change import What
from mcproxy.messages import Selection, Step
from mcproxy.model import Mode, Reason
from mcproxy.native import BUILD
from mcproxy.policy.networks import pack
from mcproxy.store import acme, history, listing, schema, snapshot
from mcproxy.store.diff import FileSeed, differences
from mcproxy.store.errors import StoreError

MAX_CERTIFICATES = 200  # on a page: each may have to be read, which takes some milliseconds

NOT_HERE = "not_here"  # beside the reasons of refusals: no session begins where nobody listens


class Reading:
    """The calls that only look."""

    def __init__(self, writer: Writer, plane: DataPlane, watchers: Watchers, file: FileSeed) -> None:
        self._writer = writer
        self._plane = plane
        self._watchers = watchers
        self._file = file

    def GetStatus(
        self,
        request: pb.GetStatusRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetStatusResponse:
        """Health, version, counters of each listener."""
        status, table = self._plane.status(), self._writer.table
        routes = {addr: len(compiled.routes) for addr, compiled in table.listeners.items()}
        return pb.GetStatusResponse(
            state=str(status.state),
            version=__version__,
            build=BUILD,
            pid=os.getpid(),
            started_at=status.started_at,
            generation=table.generation,
            schema_version=schema.VERSION,
            routes=sum(routes.values()),
            firewall_rules=len(table.firewall),
            listeners=[convert.listener_status_out(each, routes.get(each.addr, 0)) for each in status.listeners],
            certificates=convert.certificates_out(status.certificates),
            geoip=convert.geoip_out(status.geoip),
            log_level=status.log_level,
            watchers=len(self._watchers),
            problems=convert.problems_out(status.problems),
            file_differences=self._file.differing(table),
            last_reload=convert.last_reload_out(status.last_reload),
            workers=map(convert.worker_out, status.workers),
            node=convert.node_out(self._writer.standing, table.generation),
            exposed_keys=self._exposed_keys(),
        )

    def _exposed_keys(self) -> str:
        with suppress(StoreError):  # of which the calls that need the database speak
            return acme.exposure(self._writer.store)
        return ""

    def ListRouteCounters(
        self,
        request: pb.ListRouteCountersRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListRouteCountersResponse:
        """Counters of the routes that have had a connection."""
        after = paging.texts(request.page_token, 2) or ("", "")
        limit = paging.size(request.page_size)
        counters = self._plane.route_counters()
        found = sorted(
            (each for each in counters if (each.listener, each.hostname) > after),
            key=lambda each: (each.listener, each.hostname),
        )
        shown = found[:limit]
        following = (shown[-1].listener, shown[-1].hostname) if len(found) > limit else None
        return pb.ListRouteCountersResponse(
            routes=map(convert.route_counters_out, shown), next_page_token=paging.token(following)
        )

    def ListListeners(
        self,
        request: pb.ListListenersRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListListenersResponse:
        """Listeners by address."""
        page = listing.listeners(self._writer.store, paging.size(request.page_size), _after(request.page_token))
        return pb.ListListenersResponse(
            listeners=map(convert.listener_out, page.items),
            next_page_token=paging.token(page.following),
            generation=page.generation,
        )

    def ListRoutes(
        self,
        request: pb.ListRoutesRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListRoutesResponse:
        """Routes by listener and name."""
        listener = convert.listen_address("listener", request.listener)
        if listener:
            only_listener(self._writer.table, listener)
        limit, after = paging.size(request.page_size), _after(request.page_token)
        page = listing.routes(self._writer.store, limit, after, listener, request.prefix)
        return pb.ListRoutesResponse(
            routes=[pb.ListedRoute(listener=addr, route=convert.route_out(route)) for addr, route in page.items],
            next_page_token=paging.token(page.following),
            generation=page.generation,
        )

    def ListCertificates(
        self,
        request: pb.ListCertificatesRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListCertificatesResponse:
        """The certificates of l7 routes of this node, by listener and name."""
        limit, after = min(paging.size(request.page_size), MAX_CERTIFICATES), _after(request.page_token)
        page = listing.routes(self._writer.store, limit, after, mode=Mode.L7)
        certificate = self._plane.orders.certificate
        here = self._writer.served.listeners
        mine = [(addr, each) for addr, each in page.items if addr in here]
        found = [convert.certificate_out(addr, each, certificate(addr, each)) for addr, each in mine]
        return pb.ListCertificatesResponse(certificates=found, next_page_token=paging.token(page.following))

    def ListFirewallRules(
        self,
        request: pb.ListFirewallRulesRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListFirewallRulesResponse:
        """Rules by kind and value."""
        limit, after = paging.size(request.page_size), _after(request.page_token)
        page = listing.rules(self._writer.store, limit, after, request.prefix)
        return pb.ListFirewallRulesResponse(
            rules=map(convert.rule_out, page.items),
            next_page_token=paging.token(page.following),
            generation=page.generation,
        )

    def TestFirewall(
        self,
        request: pb.TestFirewallRequest,
        context: grpc.ServicerContext,
    ) -> pb.TestFirewallResponse:
        """Whether the firewall would block an address."""
        packed = _packed(request.ip)
        steps, reason = firewall_steps(self._writer.table, self._plane.country, packed)
        return pb.TestFirewallResponse(
            blocked=reason is not Reason.OK,
            reason=str(reason),
            country=self._plane.country(packed) or "",
            steps=convert.steps_out(steps),
        )

    def Explain(
        self,
        request: pb.ExplainRequest,
        context: grpc.ServicerContext,
    ) -> pb.ExplainResponse:
        """The decision on a connection, step by step."""
        table = self._writer.table
        listener = only_listener(table, convert.listen_address("listener", request.listener))
        packed, hint = _packed(request.ip), self._file.hint
        if absent := elsewhere.absence(self._writer, listener):
            steps = [Step("listener", False, absent)]
            return pb.ExplainResponse(steps=convert.steps_out(steps), reason=NOT_HERE, generation=table.generation)
        found = explain(table, self._plane, listener, request.sni, packed, hint, dial=request.dial)
        return pb.ExplainResponse(
            steps=convert.steps_out(found.steps),
            reason=str(found.reason),
            route=convert.route_out(found.route) if found.route else None,
            generation=table.generation,
        )

    def ListConnections(
        self,
        request: pb.ListConnectionsRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListConnectionsResponse:
        """Live connections, by id."""
        limit = paging.size(request.page_size)
        (after,) = paging.numbers(request.page_token, 1) or (0,)
        found = self._plane.connections(after, limit + 1, self._selection(request.filter))
        following = [found[limit - 1].id] if len(found) > limit else None
        return pb.ListConnectionsResponse(
            connections=[convert.connection_out(each, several=self._several) for each in found[:limit]],
            next_page_token=paging.token(following),
        )

    def WatchConnections(
        self,
        request: pb.WatchConnectionsRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[pb.WatchConnectionsResponse]:
        """Connection events as they come."""
        selection = self._selection(request.filter, request.refused)
        for batch in self._watchers.watch(context, selection.takes_event):
            yield pb.WatchConnectionsResponse(events=[convert.event_out(each, several=self._several) for each in batch])

    @property
    def _several(self) -> bool:
        return self._plane.workers > 1

    def Export(self, request: pb.ExportRequest, context: grpc.ServicerContext) -> Iterator[pb.ExportResponse]:
        """Everything of the table in force."""
        table = self._writer.table
        for values in bulk.exported(table):
            yield pb.ExportResponse(generation=table.generation, values=values)

    def ListRevisions(
        self,
        request: pb.ListRevisionsRequest,
        context: grpc.ServicerContext,
    ) -> pb.ListRevisionsResponse:
        """Revisions, newest first."""
        if request.what and request.what not in set(What):
            raise InvalidField("what", f"must be one of {', '.join(What)}")
        position = paging.numbers(request.page_token, 2)
        before = (position[0], position[1]) if position else None
        limit = paging.size(request.page_size)
        scope = convert.listen_address("listener", request.listener)
        named = request.what == What.ROUTE and request.name
        name = convert.hostname("name", request.name) if named else request.name
        found = history.revisions(self._writer.store, limit + 1, before, request.what, scope, name)
        last = found[limit - 1] if len(found) > limit else None
        return pb.ListRevisionsResponse(
            revisions=map(convert.revision_out, found[:limit]),
            next_page_token=paging.token((last.generation, last.sequence) if last else None),
        )

    def GetDiff(
        self,
        request: pb.GetDiffRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetDiffResponse:
        """The configuration file against the database."""
        found = differences(self._file.seed(), self._writer.table)
        return pb.GetDiffResponse(
            changes=map(convert.change_out, found[: convert.MAX_CHANGES]), truncated=len(found) > convert.MAX_CHANGES
        )

    def CreateSnapshot(
        self,
        request: pb.CreateSnapshotRequest,
        context: grpc.ServicerContext,
    ) -> pb.CreateSnapshotResponse:
        """A verified copy, beside the database."""
        database = self._writer.store.path
        file_name = request.file_name or snapshot.default_name(database, self._writer.clock())
        if Path(file_name).name != file_name or file_name.startswith("."):
            raise InvalidField("file_name", "must be a plain file name: the snapshot is made beside the database")
        taken = snapshot.take(database, database.with_name(file_name))
        return pb.CreateSnapshotResponse(path=str(taken.path), size_bytes=taken.size, generation=taken.generation)

    def GetMetrics(
        self,
        request: pb.GetMetricsRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetMetricsResponse:
        """Prometheus text."""
        from mcproxy.admin import metrics  # noqa: PLC0415 - prometheus_client is 2 MB, and not every server is scraped

        status, routes = self._plane.status(), self._plane.route_counters()
        own = metrics.Own(len(self._watchers), self._writer.store.failures, self._writer.standing)
        return pb.GetMetricsResponse(text=metrics.render(status, routes, self._writer.table, own))

    def _selection(self, message: pb.ConnectionFilter, refused: bool = False) -> Selection:
        """Which connections are meant. Their listener may have been removed while they live; other ones are typos."""
        found, table = convert.selection(message, refused), self._writer.table
        is_gone = found.listener and found.listener not in table.listeners
        if is_gone and not self._plane.connections(0, 1, Selection(found.listener)):
            only_listener(table, found.listener)
        return found


def _after(token: str) -> listing.After | None:
    position = paging.texts(token, 2)
    return None if position is None else (position[0], position[1])


def _packed(ip: str) -> bytes:
    try:
        return pack(ip)
    except ValueError as error:
        raise InvalidField("ip", error) from None
