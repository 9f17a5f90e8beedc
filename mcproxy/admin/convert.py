"""Messages <-> values. Input is checked by the rules of the configuration file; errors name the field."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mcproxy import validity
from mcproxy.admin.errors import InvalidField
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import KeyChange, ReloadReport
from mcproxy.certificates.routes import CertificateStatus, Listed, RouteProblem
from mcproxy.change import Change, Key, What
from mcproxy.fleet.nodes import NodeRow
from mcproxy.fleet.standing import Standing
from mcproxy.messages import ConnectionEvent, ConnectionInfo, EventKind, GeoipStatus, Selection, WorkerInfo
from mcproxy.messages import ListenerStatus as PlaneListener
from mcproxy.messages import RouteCounters as PlaneRoute
from mcproxy.model import (
    LISTENER_FIELDS,
    ROUTE_FIELDS,
    Backend,
    FirewallRule,
    Listener,
    Mode,
    Route,
    RuleKind,
    worker_of,
)
from mcproxy.notation import address, name
from mcproxy.notation.duration import MAX_SECONDS
from mcproxy.policy import firewall
from mcproxy.policy.networks import Networks
from mcproxy.settings import Field, Kind, proto_name
from mcproxy.stats import BackendCounters, Spoken
from mcproxy.store import records
from mcproxy.store.history import Revision
from mcproxy.words import quoted

LAG_SHARE = 0.99  # of the looks at a worker's hub found it no later than the lag that is shown
MAX_CHANGES = 1_000  # in one answer, some 500 kB

_KINDS = {pb.RULE_KIND_IP: RuleKind.IP, pb.RULE_KIND_CIDR: RuleKind.CIDR, pb.RULE_KIND_COUNTRY: RuleKind.COUNTRY}
_KINDS_OUT = {kind: number for number, kind in _KINDS.items()}
_EVENTS = {
    EventKind.OPENED: pb.ConnectionEvent.KIND_OPENED,
    EventKind.CLOSED: pb.ConnectionEvent.KIND_CLOSED,
    EventKind.REFUSED: pb.ConnectionEvent.KIND_REFUSED,
}


def _numbers(words: type[StrEnum]) -> dict[Any, Any]:
    values = pb.DESCRIPTOR.enum_types_by_name[words.__name__].values_by_name
    return {word: values[proto_name(word)].number for word in words}


_WORDS = {field.type for field in (*ROUTE_FIELDS, *LISTENER_FIELDS) if field.kind is Kind.WORD}
_WORDS_OUT = {words: _numbers(words) for words in _WORDS}
_WORDS_IN = {words: {number: word for word, number in _WORDS_OUT[words].items()} for words in _WORDS}


def listener(message: pb.Listener) -> Listener:
    """The listener of a message. Raises InvalidField."""
    return Listener(**_judged("listener", LISTENER_FIELDS, _fields_in("listener", message, LISTENER_FIELDS)))


def changed_listener(old: Listener, message: pb.Listener, mask: FieldMask) -> Listener:
    """A listener with those fields of a message that a mask names. Raises InvalidField."""
    named = _named(mask, LISTENER_FIELDS)
    keys = {**_keys(old, LISTENER_FIELDS), **_fields_in("listener", message, named)}
    return Listener(**_judged("listener", LISTENER_FIELDS, keys))


def route(message: pb.Route) -> Route:
    """The route of a message. Raises InvalidField."""
    return Route(**_judged("route", ROUTE_FIELDS, _fields_in("route", message, ROUTE_FIELDS)))


def changed_route(old: Route, message: pb.Route, mask: FieldMask) -> Route:
    """A route with those fields of a message that a mask names. Raises InvalidField."""
    keys = {**_keys(old, ROUTE_FIELDS), **_fields_in("route", message, _named(mask, ROUTE_FIELDS))}
    return Route(**_judged("route", ROUTE_FIELDS, keys))


def _judged(name: str, declared: Sequence[Field], keys: dict[str, Any]) -> dict[str, Any]:
    try:
        return validity.judged(declared, keys)
    except validity.Invalid as error:
        raise InvalidField(".".join([name, *map(str, error.location)]), error) from None


def _keys(value: Listener | Route, declared: Iterable[Field]) -> dict[str, Any]:
    """A value as keys of the configuration file."""
    found = {field.name: getattr(value, field.name) for field in declared}
    return {name: str(each) if isinstance(each, Backend) else each for name, each in found.items()}


def _named(mask: FieldMask, declared: Sequence[Field]) -> list[Field]:
    """The fields that a mask names. Raises InvalidField."""
    identity, *others = declared
    for path in mask.paths:
        if path == identity.name:
            raise InvalidField("update_mask", f"{path} identifies the value, and can't be changed")
        if path not in {field.name for field in others}:
            known = ", ".join(field.name for field in others)
            raise InvalidField("update_mask", f"{quoted(path)} is not a field that can be changed: those are {known}")
    return [field for field in others if field.name in mask.paths]


def _fields_in(name: str, message: Message, declared: Iterable[Field]) -> dict[str, Any]:
    """A message as keys of the configuration file. Raises InvalidField."""
    return {field.name: _in(f"{name}.{field.name}", getattr(message, field.name), field) for field in declared}


def _in(path: str, value: Any, field: Field) -> Any:
    if not value and field.has_default:
        return field.default
    match field.kind:
        case Kind.WORD:
            if value not in _WORDS_IN[field.type]:
                raise InvalidField(path, "is not a value that this server knows")
            return _WORDS_IN[field.type][value]
        case Kind.FILE if not PurePath(value).is_absolute():
            raise InvalidField(path, f"{quoted(value)} must be an absolute path on the server's machine")
        case Kind.NETWORKS | Kind.NODES:
            return tuple(value)
    return value


def _out(field: Field) -> Callable[[Any], Any] | None:
    match field.kind:
        case Kind.BACKEND:
            return str
        case Kind.WORD:
            return _WORDS_OUT[field.type].__getitem__
    return None


# How each field's value becomes a message's, where it isn't the same: a list has 100,000 routes.
_ROUTE_OUT = [(field.name, _out(field)) for field in ROUTE_FIELDS]
_LISTENER_OUT = [(field.name, _out(field)) for field in LISTENER_FIELDS]


def _fields_out(value: Listener | Route, fields: Iterable[tuple[str, Callable[[Any], Any] | None]]) -> dict[str, Any]:
    return {name: out(getattr(value, name)) if out else getattr(value, name) for name, out in fields}


def rule(kind: pb.RuleKind, value: str) -> FirewallRule:
    """A new, permanent rule. Raises InvalidField."""
    if kind not in _KINDS:
        raise InvalidField("kind", "must be ip, cidr or country")
    try:
        return firewall.rule(_KINDS[kind], value)
    except ValueError as error:
        raise InvalidField("value", error) from None


def ttl(seconds: float) -> float:
    """How long a rule lasts; 0: permanent. Raises InvalidField."""
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidField("ttl_seconds", f"must be from 0 (permanent) to {MAX_SECONDS:.0f} (ten years)")
    return seconds


def selection(message: pb.ConnectionFilter, refused: bool = False) -> Selection:
    """The selection of a filter. Raises InvalidField."""
    route = hostname("filter.route", message.route) if message.route else ""
    try:
        clients = Networks.of([message.client]) if message.client else None
    except ValueError as error:
        raise InvalidField("filter.client", error) from None
    return Selection(listen_address("filter.listener", message.listener), route, clients, refused)


def listen_address(field: str, text: str) -> str:
    """A listener's address in canonical form; empty stays empty. Raises InvalidField."""
    try:
        return address.parse_listen(text) if text else ""
    except ValueError as error:
        raise InvalidField(field, error) from None


def hostname(field: str, text: str) -> str:
    """A normalised host name. Raises InvalidField."""
    try:
        return name.normalise(text)
    except ValueError as error:
        raise InvalidField(field, error) from None


def listener_out(value: Listener) -> pb.Listener:
    """A listener's message."""
    return pb.Listener(**_fields_out(value, _LISTENER_OUT))


def route_out(value: Route) -> pb.Route:
    """A route's message."""
    return pb.Route(**_fields_out(value, _ROUTE_OUT))


def rule_out(value: FirewallRule) -> pb.FirewallRule:
    """A rule's message."""
    return pb.FirewallRule(kind=_KINDS_OUT[value.kind], value=value.value, expires_at=value.expires_at or 0.0)


def key_out(key: Key) -> list[str]:
    """A key as the API shows it: an address; a listener and a name; a kind and a value."""
    return [key.name] if key.what is What.LISTENER else [key.scope, key.name]


def change_out(value: Change) -> pb.Change:
    """A change's message."""
    what = value.key.what
    old, new = records.to_json(what, value.old) or "", records.to_json(what, value.new) or ""
    return pb.Change(what=str(what), key=key_out(value.key), old_json=old, new_json=new)


def effect_out(changes: Sequence[Change], risks: Iterable[str] = ()) -> pb.Effect:
    """A mutation's changes and risks as a message."""
    shown = map(change_out, changes[:MAX_CHANGES])
    return pb.Effect(changes=shown, truncated=len(changes) > MAX_CHANGES, risks=risks)


def revision_out(value: Revision) -> pb.Revision:
    """A revision's message."""
    return pb.Revision(
        generation=value.generation,
        sequence=value.sequence,
        at=value.at,
        who=value.who,
        action=value.action,
        what=value.what,
        key=[value.name] if value.what == What.LISTENER else [value.scope, value.name],
        old_json=value.old or "",
        new_json=value.new or "",
        claim=value.said.claim,
        comment=value.said.comment,
        node=value.node,
    )


def listener_status_out(value: PlaneListener, routes: int) -> pb.ListenerStatus:
    """A listener's counters."""
    counted = value.counters
    return pb.ListenerStatus(
        addr=value.addr,
        accepting=value.accepting,
        routes=routes,
        connections=counted.connections,
        accepted=counted.accepted,
        refused=sum(counted.refused.values()),
        refused_by_reason={str(reason): count for reason, count in counted.refused.items()},
        ended={str(end): count for end, count in counted.ended.items()},
        received_bytes=counted.received,
        sent_bytes=counted.sent,
        requests=counted.requests,
        request_ends=counted.request_ends,
    )


def route_counters_out(value: PlaneRoute) -> pb.RouteCounters:
    """A route's counters."""
    counted = value.counters
    return pb.RouteCounters(
        listener=value.listener,
        hostname=value.hostname,
        connections=counted.connections,
        accepted=counted.accepted,
        refused=sum(counted.refused.values()),
        received_bytes=counted.received,
        sent_bytes=counted.sent,
        requests=counted.requests,
        request_ends=counted.request_ends,
        refused_by_reason={str(reason): count for reason, count in counted.refused.items()},
        passed=counted.passed,
        heads=counted.heads,
        waited_seconds=counted.waited,
        backend_connections=_backend_out(counted.backend),
        spoken=_spoken_out(value.spoken) if value.spoken else None,
    )


def _backend_out(value: BackendCounters) -> pb.BackendConnections:
    return pb.BackendConnections(
        made=value.made,
        reused=value.reused,
        retries=value.retries,
        waiting=value.waiting,
        waited_too_long=value.waited_too_long,
        idle=value.idle,
        dead=value.dead,
        poisoned=value.poisoned,
    )


def _spoken_out(value: Spoken) -> pb.Spoken:
    return pb.Spoken(version=value.version, how=value.how, at=value.at)


def certificates_out(values: Iterable[CertificateStatus]) -> list[pb.CertificateStatus]:
    """The certificates' messages."""
    return [
        pb.CertificateStatus(
            listener=each.listener,
            hostname=each.hostname,
            path=each.path,
            not_after=each.not_after,
            not_before=each.not_before,
            unread=each.unread,
        )
        for each in values
    ]


def certificate_out(listener: str, route: Route, value: Listed) -> pb.ListedCertificate:
    """The message of a route's certificate."""
    return pb.ListedCertificate(
        listener=listener,
        hostname=route.hostname,
        source=value.source,
        path=value.path,
        names=value.names,
        issuer=value.issuer,
        not_before=value.not_before,
        not_after=value.not_after,
        problem=value.problem,
        state=value.state,
        next_at=value.next_at,
        failures=value.failures,
        failure=value.failure,
    )


def problems_out(values: Iterable[RouteProblem]) -> list[pb.RouteProblem]:
    """The messages of problems with routes' files."""
    return [
        pb.RouteProblem(listener=each.listener, hostname=each.hostname, key=each.key, message=each.message)
        for each in values
    ]


def reload_out(report: ReloadReport) -> pb.ReloadResponse:
    """A reload's report as a message."""
    return pb.ReloadResponse(
        applied=map(_key_change_out, report.applied),
        needs_restart=map(_key_change_out, report.waiting),
        seed=report.seed,
        problems=report.problems,
    )


def node_out(standing: Standing | None, generation: int) -> pb.NodeStatus | None:
    """A node's standing as a message, with this generation in force; None of a server that is in no fleet."""
    if standing is None:
        return None
    return pb.NodeStatus(
        name=standing.node,
        state=str(standing.state),
        since=standing.since,
        reason=standing.reason,
        generations_behind=standing.behind(generation),
        unbound=standing.unbound,
        cache_problem=standing.cache_problem,
    )


def other_node_out(node: NodeRow) -> pb.Node:
    """The message of a node of the fleet."""
    return pb.Node(
        name=node.name,
        version=node.version,
        generation=node.generation,
        generations_behind=node.behind,
        seconds_behind=node.lacking_for,
        connections=node.connections,
        warnings=node.warnings,
        started_at=node.started_at,
        seen_at=node.seen_at,
        orders_certificates=node.orders,
        state=node.life,
    )


def last_reload_out(report: ReloadReport | None) -> pb.ReloadStatus | None:
    """The last reload's report as a message, if there was one."""
    if report is None:
        return None
    waiting = map(_key_change_out, report.waiting)
    return pb.ReloadStatus(at=report.at, refused=report.refused, problems=report.problems, needs_restart=waiting)


def _key_change_out(change: KeyChange) -> pb.KeyChange:
    return pb.KeyChange(key=change.key, old=change.old, new=change.new)


def geoip_out(value: GeoipStatus) -> pb.GeoipStatus:
    """The GeoIP database's message."""
    return pb.GeoipStatus(path=value.path, built_at=value.built_at)


def worker_out(value: WorkerInfo) -> pb.WorkerStatus:
    """A worker's message."""
    return pb.WorkerStatus(
        number=value.number,
        state=str(value.state),
        pid=value.pid,
        started_at=value.started_at,
        connections=value.connections,
        restarts=value.restarts,
        failure=value.failure,
        lag_seconds=max(min(value.lag.quantile(LAG_SHARE), value.lag.bounds[-1]), value.silence),
    )


def connection_out(value: ConnectionInfo, *, several: bool) -> pb.Connection:
    """A connection's message; `several`: there are several workers."""
    return pb.Connection(
        id=value.id,
        listener=value.listener,
        client=value.client,
        sni=value.sni,
        route=value.route,
        backend=value.backend,
        mode=_WORDS_OUT[Mode][value.mode] if value.mode else pb.MODE_UNSPECIFIED,
        state=value.state,
        started_at=value.started_at,
        received_bytes=value.received,
        sent_bytes=value.sent,
        worker=worker_of(value.id) if several else 0,
    )


def event_out(value: ConnectionEvent, *, several: bool) -> pb.ConnectionEvent:
    """An event's message; `several`: there are several workers."""
    return pb.ConnectionEvent(
        kind=_EVENTS[value.kind],
        at=value.at,
        connection=connection_out(value.connection, several=several),
        reason=str(value.reason),
        end=str(value.end or ""),
        detail=value.detail,
        duration_seconds=value.duration,
    )


def steps_out(steps: Iterable[Any]) -> list[pb.Step]:
    """The messages of an explanation's steps."""
    return [pb.Step(name=step.name, passed=step.passed, detail=step.detail) for step in steps]
