"""Explains the data path's decision step by step, by calling the same functions.

Nothing is counted, and the backend is dialled only on request. Each step passes or fails. The first that refuses the
connection is the last, as it is for a client; behind the route, a step may find that the connection is accepted and its
requests fail.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from mcproxy.certificates.routes import Serving
from mcproxy.change import Key, route_key
from mcproxy.messages import Look, Step
from mcproxy.model import BackendProtocol, FirewallRule, Mode, Reason, Refused, Route, Tls, counted
from mcproxy.notation.name import InvalidName, normalise
from mcproxy.policy import firewall, routing
from mcproxy.policy.networks import unpack
from mcproxy.stats import Spoken
from mcproxy.table import Table
from mcproxy.words import moment


class Asked(Protocol):
    """The part of the data plane that an explanation uses."""

    def country(self, packed: bytes) -> str | None:
        """Return the country of a packed address."""

    def would_enter(self, listener: str, listener_max: int) -> Reason | None:
        """Ask the limits of the whole and the listener."""

    def would_admit(self, packed: bytes) -> Reason | None:
        """Ask the limits of one address."""

    def would_serve(self, listener: str, route: Route) -> Serving:
        """Look at an l7 route's files and at what was loaded of them."""

    def spoken(self, listener: str, route: Route) -> Spoken | None:
        """What a route's backend was found to speak."""

    def look(self, route: Route) -> Look:
        """Connect to a route's backend, and report how it answers."""


_HTTP = {"h2": "HTTP/2", "http/1.1": "HTTP/1.1"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """All steps up to the end, and what they come to."""

    steps: list[Step]
    reason: Reason
    route: Route | None


class _Refusal(Exception):
    """The step that ends it."""

    def __init__(self, step: Step, reason: Reason) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = reason


def explain(
    table: Table, plane: Asked, listener: str, sni: str, packed: bytes, hint: Callable[[Key], str] = lambda _: "",
    *, dial: bool = False,
) -> Explanation:  # fmt: skip
    """Explain a connection to `listener`, one of the table's, from `packed` that asks for `sni`.

    `hint` gives the end of the message for a missing route; with `dial` the backend is dialled too.
    """
    steps: list[Step] = []
    route = None
    reason = Reason.OK
    try:
        for outcome in _walk(table, plane, listener, sni, packed, hint):
            if isinstance(outcome, Route):
                route = outcome
            else:
                steps.append(outcome)
        if dial and route is not None:
            steps.extend(_look(plane.look(route)))
        elif route is not None and route.mode is Mode.L7 and steps[-1].passed:
            steps.append(_http(route, plane.spoken(listener, route)))
    except _Refusal as refusal:
        steps.append(refusal.step)
        reason, route = refusal.reason, None
    return Explanation(steps, reason, route)


def firewall_steps(table: Table, country: Callable[[bytes], str | None], packed: bytes) -> tuple[list[Step], Reason]:
    """The firewall's steps for an address, and its decision."""
    steps: list[Step] = []
    try:
        steps.extend(_firewall(table, country, packed))
    except _Refusal as refusal:
        return [*steps, refusal.step], refusal.reason
    return steps, Reason.OK


def _walk(
    table: Table, plane: Asked, addr: str, sni: str, packed: bytes, hint: Callable[[Key], str]
) -> Iterator[Step | Route]:
    """In the order of the data path."""
    compiled = table.listeners[addr]
    settings = compiled.listener
    header = " behind the PROXY protocol" if settings.proxy_protocol else ""
    routes = counted(len(compiled.routes), "route")
    yield Step("listener", True, f"{addr}{header}, {routes}, generation {table.generation}")
    yield _limit("connection limits", plane.would_enter(addr, settings.max_connections), f"in all and on {addr}")
    yield from _firewall(table, plane.country, packed)
    yield _limit("address limits", plane.would_admit(packed), f"for {unpack(packed)}")
    name, step = _name(sni)
    yield step
    try:
        route = routing.find(compiled.routes, name)
    except Refused as refused:
        raise _Refusal(Step("route", False, refused.detail + hint(route_key(addr, name))), refused.reason) from None
    yield Step("route", True, f"{route.hostname} on {addr}")
    yield Step("backend", True, _backend(route))
    yield Step("mode", True, _mode(route))
    if route.mode is Mode.L7:
        yield from _files(route, plane.would_serve(addr, route))
    yield route


def _look(look: Look) -> Iterator[Step]:
    """The backend's steps. Raises _Refusal if a session would be refused because the backend can't be reached."""
    if look.reason is not Reason.OK:
        *others, last = look.steps
        yield from others
        raise _Refusal(last, look.reason)
    yield from look.steps


def _limit(name: str, reason: Reason | None, where: str) -> Step:
    if reason is not None:
        raise _Refusal(Step(name, False, f"{reason} {where}"), reason)
    return Step(name, True, f"below the limits {where}")


def _firewall(table: Table, country: Callable[[bytes], str | None], packed: bytes) -> Iterator[Step]:
    for tried in table.firewall.explain(packed, country):
        name = f"firewall {tried.kind}"
        if tried.matched is not None:
            detail = f"{tried.subject} is blocked by {tried.matched.value}{until(tried.matched)}"
            raise _Refusal(Step(name, False, detail), firewall.REASONS[tried.kind])
        count = f"{tried.rules} {'rule' if tried.rules == 1 else 'rules'}"
        subject = tried.subject or "unknown country"
        yield Step(name, True, f"{subject} matches none of {count}" if tried.rules else "no rules")


def until(rule: FirewallRule) -> str:
    """When a rule ends, to follow a sentence; "" for a permanent one."""
    if rule.expires_at is None:
        return ""
    return f" until {moment(rule.expires_at)}"


def _name(sni: str) -> tuple[str, Step]:
    if not sni:
        raise _Refusal(Step("name", False, "the client sends no server name"), Reason.SNI_MISSING)
    try:
        name = normalise(sni)
    except InvalidName as invalid:
        raise _Refusal(Step("name", False, str(invalid)), invalid.reason) from None
    return name, Step("name", True, name if name == sni else f"{sni} is taken as {name}")


def _files(route: Route, serving: Serving) -> Iterator[Step]:
    """The files of an l7 route: without its certificate no handshake succeeds; without the CA requests get 502."""
    if serving.refusal:
        raise _Refusal(Step("certificate", False, serving.refusal), serving.reason)
    rejected = [f"clients will refuse it: {reason}" for reason in serving.rejections]
    remarks = "; ".join([*serving.notes, *rejected])
    yield Step("certificate", not rejected, remarks or f"{route.tls_cert} can be served")
    if serving.failure:
        yield Step("backend CA", False, f"requests will be answered 502: {serving.failure}")
    elif route.backend_tls:
        yield Step("backend CA", True, f"verified by {route.backend_ca or 'the CAs of this system'}")


def _http(route: Route, found: Spoken | None) -> Step:
    """What an l7 backend is asked in, as far as it is known without a dial."""
    if route.backend_protocol is not BackendProtocol.AUTO:
        detail = f"{_HTTP[route.backend_protocol]}, as backend_protocol says"
    elif found is None:
        detail = "not found out yet: the first request does, or --dial"
    else:
        at = moment(found.at)
        detail = f"{_HTTP[found.version]} ({found.how}), found {at}"
    return Step("backend HTTP", True, detail)


def _backend(route: Route) -> str:
    header = ", with a PROXY v2 header" if route.send_proxy_protocol else ""
    tls = ", over TLS" if route.backend_tls else ""
    return f"{route.backend}{tls}{header}"


def _mode(route: Route) -> str:
    if route.mode is Mode.L4:
        return f"{route.mode}: passed untouched"
    return f"{route.mode}: TLS ends here, with {'a certificate from ACME' if route.tls is Tls.ACME else route.tls_cert}"
