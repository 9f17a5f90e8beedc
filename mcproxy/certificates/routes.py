"""What the files of l7 routes come to: for the status, for a mutation, for an explanation.

`judge.py` knows what one file holds; here tables are gone through. Everything reads files, so none of it belongs on the
hub; what a file holds is remembered until it changes.
"""

import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mcproxy.certificates.acme.order import Kept, State, kept_out
from mcproxy.certificates.judge import Finding, ca_problem, findings, known, route_findings, survey
from mcproxy.certificates.pem import Certificate, Pair, Unusable, tried
from mcproxy.change import Change, Value
from mcproxy.model import Mode, Reason, Route, Tls
from mcproxy.policy.firewall import Firewall
from mcproxy.table import ListenerTable, Table
from mcproxy.words import moment

# Routes of a listener whose files are looked at when one more comes, and when the status is asked for: what they hold
# is remembered, so that looking again costs one stat() call a file: two a route, three with a CA.
MAX_SURVEYED = 1000
_PENDING = "there is no certificate for {} yet: {}"


class RouteRefused(Exception):
    """A route that must not be: `key` is that of its field, `message` says what is wrong and what to do."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """One certificate of an l7 route, as it is in use."""

    listener: str
    hostname: str
    path: str
    not_after: float  # seconds since the epoch; 0.0: it can't be used, or not be read
    not_before: float = 0.0
    unread: str = ""  # why its names or dates are not known, though it is served
    from_acme: bool = False
    failures: int = 0  # of its order, in a row
    next_at: float = 0.0  # when it is ordered again, or renewed


@dataclass(frozen=True, slots=True)
class RouteProblem:
    """What is wrong with a file of an l7 route: its certificate, its key or the CA of its backend."""

    listener: str
    hostname: str
    key: str  # of the route, which names the file
    message: str  # with the file and what to do


@dataclass(frozen=True, slots=True)
class Listed:
    """The certificate of an l7 route, for a list. Times are seconds since the epoch, 0.0 where they are not known."""

    source: str  # of the certificate: "files" or "acme"
    path: str = ""  # of its chain
    names: Sequence[str] = ()
    issuer: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    problem: str = ""  # why it can't be used, or why clients refuse it
    state: str = ""  # of its order with ACME, as are the following
    next_at: float = 0.0  # when it is tried again, or renewed
    failures: int = 0  # in a row
    failure: str = ""  # the last one's own words, or why no order gets on


@dataclass(frozen=True, slots=True)
class Serving:
    """What an l7 route's files, and what was loaded of them, come to at the next connection."""

    refusal: str = ""  # why its client would be refused
    notes: Sequence[str] = ()  # what else should be known of its certificate
    rejections: Sequence[str] = ()  # why clients will not accept its certificate
    failure: str = ""  # why its requests would be answered 502
    reason: Reason = Reason.CERTIFICATE_UNUSABLE  # of the refusal


def serving(route: Route, held: Certificate | None, *, trusted: bool, reserved: Pair | None = None) -> Serving:
    """What a route's files come to at the next connection.

    What a worker has loaded counts: `held` is its certificate, `trusted` says whether it has the CAs of `backend_ca`.
    `reserved` is what serves where nothing is loaded and the files are broken.
    """
    failure = "" if trusted or not route.backend_ca else ca_problem(route.backend_ca)
    notes, read = [], known(route)
    if isinstance(read, Finding):
        held = held or _usable(reserved)
        if held is None:
            return Serving(read.message)
        notes.append(_stays(read))
        read = held
    elif held is not None and held.digest != read.digest:
        notes.append(f"{route.tls_cert} or its key has changed since it was loaded, and is taken within a minute")
    found = list(findings(held or read, route.hostname, time.time()))
    notes += [str(finding) for finding in found if finding.lasting]
    return Serving("", notes, [str(finding) for finding in found if finding.problem], failure)


def _stays(broken: Finding) -> str:
    return f"{broken}; the certificate that was loaded stays in use"


def _usable(reserved: Pair | None) -> Certificate | None:
    try:
        return tried(reserved) if reserved is not None else None
    except Unusable:
        return None


def listed(route: Route, held: Certificate | None, reserved: Pair | None = None) -> Listed:
    """An l7 route's certificate: the one that a worker has loaded, else the one that it will read.

    Files that are broken by now are its problem even while what was loaded serves, or what is in reserve.
    """
    on_disk = known(route)
    spare = _usable(reserved) if isinstance(on_disk, Finding) else None
    read = held or spare or on_disk
    if isinstance(read, Finding):
        return Listed("files", route.tls_cert, problem=read.message)
    problem = next((str(each) for each in findings(read, route.hostname, time.time()) if each.problem), "")
    if isinstance(on_disk, Finding):
        problem = problem or _stays(on_disk)
    return Listed("files", read.path, read.names, read.issuer, read.not_before, read.not_after, problem)


def acme_routes(table: Table) -> Iterator[tuple[str, Route]]:
    """The first routes that have their certificates from ACME, each with its listener."""
    return ((addr, route) for addr, route in _l7_routes(table) if route.tls is Tls.ACME)


def listed_order(route: Route, kept: Kept | None) -> Listed:
    """The certificate of a route that has it from ACME, and how its order does."""
    if kept is None:
        return Listed("acme", problem=_PENDING.format(route.hostname, "its order begins soon"), state="waiting")
    order, held = kept.order, kept.certificate
    how = (str(order.state), order.next_at, order.failures, order.failure or kept.hindrance(time.time()))
    if kept.is_halted:  # no try comes next
        how = (str(order.state), 0.0, 0, kept.hindrance(time.time()) and kept.words)
    if held is None:
        return Listed("acme", "", (), "", 0.0, 0.0, _PENDING.format(route.hostname, kept.words), *how)
    problem = next((str(each) for each in findings(held, route.hostname, time.time()) if each.problem), "")
    return Listed("acme", "", held.names, held.issuer, held.not_before, held.not_after, problem, *how)


def state_of_order(listener: str, route: Route, kept: Kept | None) -> CertificateStatus:
    """The certificate of a route that has it from ACME, for the status."""
    held = kept.certificate if kept is not None else None
    return CertificateStatus(
        listener, route.hostname, "from ACME", held.not_after if held else 0.0, held.not_before if held else 0.0,
        held.unread if held else "", True, kept.order.failures if kept else 0, kept.order.next_at if kept else 0.0,
    )  # fmt: skip


def order_problem(listener: str, route: Route, kept: Kept | None) -> RouteProblem | None:
    """Why a route's clients are refused, or why its certificate is not renewed."""
    listed = listed_order(route, kept)
    if listed.problem:
        return RouteProblem(listener, route.hostname, "tls", listed.problem)
    if listed.failure and listed.state == State.WAITING:  # a try that is under way may end it
        words = kept.words if kept is not None else ""
        return RouteProblem(listener, route.hostname, "tls", f"the certificate is not renewed: {words}")
    return None


def order_problems(ordered: Sequence[tuple[str, Route, Kept | None]]) -> list[RouteProblem]:
    """The problems of routes that have their certificates from ACME.

    An obstacle to all of them, such as a CA that is away, is named once while no order is due.
    """
    found, now = [each for one in ordered if (each := order_problem(*one)) is not None], time.time()
    met = [(listener, route, kept) for listener, route, kept in ordered if kept is not None and kept.is_general]
    if met and not any(kept.hindrance(now) for _, _, kept in met):
        listener, route, kept = met[0]
        words = f"no certificate from ACME can be renewed now, and none is due: {kept.obstacle}"
        found.append(RouteProblem(listener, route.hostname, "tls", words))
    return found


def serving_order(route: Route, kept: Kept | None, firewall: Firewall, *, trusted: bool) -> Serving:
    """What a route that has its certificate from ACME comes to at the next connection.

    The firewall may keep the CA out.
    """
    listed = listed_order(route, kept)
    failure = "" if trusted or not route.backend_ca else ca_problem(route.backend_ca)
    if kept is None or kept.certificate is None:
        blocked = kept_out(firewall)
        doubt = f"; {blocked}" if blocked and blocked not in listed.problem else ""
        return Serving(f"{listed.problem}{doubt}", reason=Reason.CERTIFICATE_PENDING)
    renewal = f", to be renewed at {moment(listed.next_at)}" if listed.next_at else ""
    notes = [f"by {listed.issuer} until {moment(listed.not_after)}{renewal}"]
    if listed.failure:
        notes = [f"by {listed.issuer} until {moment(listed.not_after)}; not renewed: {kept.words}"]
    return Serving("", notes, [listed.problem] if listed.problem else (), failure)


def check_route(table: Table, listener: str, route: Route) -> Sequence[str]:
    """Judge a route's files, and what the listener's certificates mean to each other then. Raises RouteRefused."""
    compiled = table.listeners.get(listener)
    routes = compiled.routes if compiled else {}
    judged = {**routes, route.hostname: route}.values() if len(routes) <= MAX_SURVEYED else [route]
    found = [finding for _, finding in survey(judged, time.time(), route.hostname)]
    for finding in found:
        if finding.problem:
            raise RouteRefused(finding.key, finding.message)
    return list(map(str, found))


def check_routes(
    before: Table, after: Table, changed: Sequence[tuple[str, str]]
) -> tuple[Sequence[RouteProblem], Sequence[str]]:
    """Judge the files of the first `MAX_SURVEYED` changed routes. What holds for `before` too is left out."""
    problems, warnings, now = list[RouteProblem](), dict[str, None](), time.time()
    for addr, names in _by_listener(changed[:MAX_SURVEYED]).items():
        known_before = {str(finding) for _, finding in _surveyed(before.listeners.get(addr), names, now)}
        for hostname, finding in _surveyed(after.listeners[addr], names, now):
            if not finding.problem:
                warnings.update({str(finding): None} if str(finding) not in known_before else {})
            elif hostname in names:
                problems.append(RouteProblem(addr, hostname, finding.key, finding.message))
    return problems, list(warnings)


def state_of_files(table: Table) -> tuple[list[CertificateStatus], list[RouteProblem]]:
    """Those of the first l7 routes, and what is wrong with them; 0.0 is the expiry of one that can't be used."""
    now, found = time.time(), list[CertificateStatus]()
    problems = list[RouteProblem]()
    for addr, route in _l7_routes(table):
        if route.tls is Tls.ACME:
            continue
        read = known(route)
        begin, end, unread = _dates(read)
        found.append(CertificateStatus(addr, route.hostname, route.tls_cert, end, begin, unread))
        faults = [each for each in route_findings(route, read, now) if each.problem]
        problems += [RouteProblem(addr, route.hostname, each.key, each.message) for each in faults]
    return found, problems


def _dates(read: Certificate | Finding) -> tuple[float, float, str]:
    return (0.0, 0.0, "") if isinstance(read, Finding) else (read.not_before, read.not_after, read.unread)


def _l7_routes(table: Table) -> Iterator[tuple[str, Route]]:
    """The first ones, each with its listener."""
    routes = ((addr, route) for addr, each in table.listeners.items() for route in each.routes.values())
    return itertools.islice(((a, r) for a, r in routes if r.mode is Mode.L7), MAX_SURVEYED)


def first_with_files(table: Table) -> Sequence[tuple[str, Route]]:
    """The first routes that have their certificates from files, each with its listener."""
    return [(addr, route) for addr, route in _l7_routes(table) if route.tls is Tls.FILES]


def with_new_files(changes: Iterable[Change]) -> Sequence[tuple[str, Route]]:
    """The first routes that have other files for their certificate than before, each with its listener."""
    found = (
        (each.key.scope, each.new) for each in changes
        if isinstance(each.new, Route) and each.new.mode is Mode.L7 and each.new.tls is Tls.FILES
        and _files(each.old) != _files(each.new)
    )  # fmt: skip
    return list(itertools.islice(found, MAX_SURVEYED))


def _files(value: Value | None) -> tuple[str, str]:
    return (value.tls_cert, value.tls_key) if isinstance(value, Route) else ("", "")


def _by_listener(routes: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for addr, hostname in routes:
        found.setdefault(addr, set()).add(hostname)
    return found


def _surveyed(compiled: ListenerTable | None, names: Collection[str], now: float) -> Iterator[tuple[str, Finding]]:
    """What is found of a listener's routes; of those of these names only, where it has too many."""
    routes = compiled.routes if compiled else {}
    few = len(routes) <= MAX_SURVEYED
    return survey(routes.values() if few else [routes[name] for name in names if name in routes], now)
