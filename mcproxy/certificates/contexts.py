"""TLS contexts: one for each l7 route towards its clients, one for each CA and offer of ALPN towards backends.

**One context a route.** A session ticket or session id is good only in the context that issued it, because each has
keys and a cache of its own. So no session resumes across routes, not even where two share a certificate (CVE-2025-23419
is what happens otherwise: a session made under the name that asks for no client certificate resumed under the name that
does). Python sets one and the same session id context everywhere, which therefore separates nothing; the keys do.
Within its route a session resumes.

**Built when first needed**, because most of 100,000 routes are not in use at any moment, and kept. `read_again` reads
the files again, all of them or those that were noticed to have changed: what holds the same stays (and its tickets with
it), what has changed is replaced by `take` for the connections to come, and what is broken, has expired or is for
another name leaves the old one in place and says why. A context's ticket keys don't change while it lives, so it is
replaced after TICKET_KEY_SECONDS: stolen keys can't decrypt yesterday's recordings.

**In reserve until the first connection**: the pair that a route began with, which serves where the files can't be used
by then. These are the first routes at the start, and each route that changes; MAX_RESERVED pairs, the latest ones, of
RESERVED_BYTES each at most: some 6 MB in all, of typical ones. A route beyond has only its files. They are held as they
were read: nothing looks into them before they are needed, so a worker without l7 connections has not loaded
cryptography (pem.py).

Everything here happens on the hub's thread, but for `held`, `reserved` and `trusts`, which look something up once and
may be asked by any thread, `reserve`, and `read_again`, which reads files and changes nothing. The hub opens no file: a
file may hang. What has to be read for a connection is read `aside`, while the connection waits and no other one does.
"""

import logging
import ssl
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcproxy.certificates.acme.order import Kept
from mcproxy.certificates.judge import findings
from mcproxy.certificates.pem import Certificate, Pair, Unusable, described, fill, read_pair, trust
from mcproxy.model import BackendProtocol, Reason, Refused, Route, RouteKey, Tls
from mcproxy.notation.name import InvalidName, normalise
from mcproxy.wire.hello import CHALLENGE

log = logging.getLogger(__name__)

TICKET_KEY_SECONDS = 86_400.0  # RFC 8446, 4.6.1 allows tickets of a week; a day is what most sites keep their keys
TICKETS = 1  # each connection leaves what the next one takes; OpenSSL's second one costs 5 % of a connection
SPARE_CONTEXTS = 256  # of routes that are gone, kept until there are as many again; about 100 KB each
MAX_RESERVED = 1000  # pairs that wait for their route's first connection; a typical one takes 6 KB
RESERVED_BYTES = 1 << 15  # of such a pair; a larger one is not held
# Forward secrecy and authenticated encryption only, which is what RFC 9113, section 9.2.2 asks of TLS 1.2 with HTTP/2.
CIPHERS_TLS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
# HTTP knows by itself what is complete, so a FIN without close_notify is an end like any other; without the last one,
# OpenSSL could not send any more either, and a client that half-closes would get no answer.
_OPTIONS = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_IGNORE_UNEXPECTED_EOF

# Runs a function off the hub and returns what it returns. A call under a key that is being worked on shares that.
Aside = Callable[[Hashable, Callable[[], Any]], Any]
_Towards = tuple[str, BackendProtocol]  # a file of CAs, or "" for the system's; and what a backend is offered in ALPN

_OFFERS = {
    BackendProtocol.AUTO: ["h2", "http/1.1"], BackendProtocol.H2: ["h2"], BackendProtocol.HTTP1: ["http/1.1"],
}  # fmt: skip


@dataclass(slots=True, eq=False)
class _Entry:
    route: Route
    certificate: Certificate
    context: ssl.SSLContext
    built: float
    pair: Pair | None = None  # from ACME; what came from files is read again


@dataclass(frozen=True, slots=True)
class _Reserved:
    route: Route
    pair: Pair


@dataclass(frozen=True, slots=True)
class Fresh:
    """What the files in use hold by now."""

    read: Collection[RouteKey]  # whose certificates were read, unchanged ones too
    servers: Mapping[RouteKey, tuple[_Entry, _Entry]]  # what was in use, and what is to take its place
    clients: Mapping["_Towards", ssl.SSLContext]
    problems: Sequence[str]  # what was wrong; there the old one stays in use


def _at_once(_key: Hashable, function: Callable[[], Any]) -> Any:
    return function()


class Contexts:
    """All TLS contexts of one worker."""

    def __init__(
        self, protocols: tuple[str, ...], aside: Aside = _at_once, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`protocols` are those of ALPN, best first; `clock` gives seconds."""
        self._protocols = list(protocols)
        self._aside = aside
        self._clock = clock
        self._servers: dict[RouteKey, _Entry] = {}
        self._clients: dict[_Towards, ssl.SSLContext] = {}
        self._reserve: dict[RouteKey, _Reserved] = {}  # of routes that have had no connection, the oldest first
        self._prune_at = SPARE_CONTEXTS
        self._kept: dict[str, Kept] = {}  # of ACME, by host name
        self._challenges: dict[str, ssl.SSLContext] = {}  # the answers that a CA may ask for

    def __repr__(self) -> str:
        return f"<Contexts servers={len(self._servers)} clients={len(self._clients)}>"

    def server(self, listener: str, route: Route) -> ssl.SSLContext:
        """The context for a route's clients, read first where it is not there. Raises Refused: CERTIFICATE_UNUSABLE."""
        key = (listener, route.hostname)
        entry = self._servers.get(key)
        if route.tls is Tls.ACME:
            pair = self._issued(route)
            if entry is None or entry.pair is not pair:
                entry = self._servers[key] = self._aside((key, pair.digest), lambda: self._built(route, pair))
        if entry is None or not _same_files(entry.route, route):
            try:
                entry = self._aside((key, route.tls_cert, route.tls_key), lambda: self._read(key, route))
            except Unusable as error:
                raise Refused(Reason.CERTIFICATE_UNUSABLE, str(error)) from error
            self._servers[key] = entry
            self._reserve.pop(key, None)
        elif self._clock() - entry.built > TICKET_KEY_SECONDS:
            entry = self._renewed(key, entry)
        return entry.context

    def _issued(self, route: Route) -> Pair:
        """The pair that ACME has brought. Raises Refused: CERTIFICATE_PENDING."""
        kept = self._kept.get(route.hostname)
        if kept is None or kept.pair is None:
            words = kept.words if kept is not None else "nobody orders one: see [acme]"
            raise Refused(Reason.CERTIFICATE_PENDING, f"there is no certificate for {route.hostname} yet: {words}")
        return kept.pair

    def challenge(self, route: Route) -> ssl.SSLContext:
        """The context that answers a CA's challenge for a route. Raises Refused: CHALLENGE_UNEXPECTED."""
        context = self._challenges.get(route.hostname)  # the order may be for another listener's route of this name
        if context is None:
            raise Refused(Reason.CHALLENGE_UNEXPECTED, f"no order for {route.hostname} waits for a challenge")
        return context

    def keep(self, kept: Kept) -> None:
        """Have what ACME has for a name from now on. Any thread may do this.

        A pair that is the one before, and came as a copy, stays the same object: its contexts stay in use.
        """
        name = kept.order.hostname
        before = self._kept.get(name)
        if before is not None and before.pair == kept.pair:
            kept = replace(kept, pair=before.pair)
        if kept.challenge is None:
            self._challenges.pop(name, None)
        else:
            self._challenges[name] = challenge_context(name, kept.challenge)
        self._kept[name] = kept

    def forget(self, hostname: str) -> None:
        """Have nothing of ACME for a name from now on. Any thread may do this."""
        self._kept.pop(hostname, None)
        self._challenges.pop(hostname, None)

    def kept(self, hostname: str) -> Kept | None:
        """What ACME has for a name. Any thread may ask."""
        return self._kept.get(hostname)

    def client(self, route: Route) -> ssl.SSLContext:
        """The context for a route's backend. Raises Refused with CERTIFICATE_UNUSABLE where its CA can't be read."""
        towards = _towards(route)
        context = self._clients.get(towards)
        if context is None:
            try:
                context = self._clients[towards] = self._aside(towards, lambda: client_context(*towards))
            except Unusable as error:
                raise Refused(Reason.CERTIFICATE_UNUSABLE, f"backend_ca: {error}") from error
        return context

    def towards(self, route: Route) -> ssl.SSLContext:
        """The context that the next connection to a route's backend gets. Any thread may ask. Raises Unusable."""
        towards = _towards(route)
        return self._clients.get(towards) or client_context(*towards)

    def files(self) -> set[str]:
        """The files that are in use: chains, keys and CAs. Any thread may ask."""
        routes = [entry.route for entry in list(self._servers.values()) if entry.route.tls is Tls.FILES]
        pairs = {path for route in routes for path in (route.tls_cert, route.tls_key)}
        return pairs | {ca for ca, _ in list(self._clients) if ca}

    def read_again(self, changed: Collection[str] | None = None) -> "Fresh":
        """Read every file that is in use again, or only pairs and CAs that have a file in `changed`.

        Any thread may do this; `take` puts what came of it to use.
        """
        servers: dict[RouteKey, tuple[_Entry, _Entry]] = {}
        clients: dict[_Towards, ssl.SSLContext] = {}
        problems = []
        entries = [
            (key, entry) for key, entry in list(self._servers.items())
            if entry.route.tls is Tls.FILES
            and (changed is None or entry.route.tls_cert in changed or entry.route.tls_key in changed)
        ]  # fmt: skip
        for key, entry in entries:
            try:
                pair = read_pair(entry.route.tls_cert, entry.route.tls_key)
                if pair.digest != entry.certificate.digest:
                    servers[key] = entry, self._rebuilt(entry, pair)
            except Unusable as error:
                problems.append(f"{entry.route.hostname}: {error}; the certificate that was loaded stays in use")
        for towards in list(self._clients):
            if changed is not None and towards[0] not in changed:
                continue
            try:
                fresh = client_context(*towards)
                if changed is None or fresh.get_ca_certs(True) != self._clients[towards].get_ca_certs(True):
                    clients[towards] = fresh
            except Unusable as error:
                problems.append(f"backend_ca: {error}; the CAs that were loaded stay in use")
        return Fresh([key for key, _ in entries], servers, clients, problems)

    def take(self, fresh: "Fresh") -> None:
        """Use what `read_again` has read, but for routes whose context has been replaced or forgotten since."""
        for key, (old, new) in fresh.servers.items():
            if self._servers.get(key) is old:
                self._servers[key] = new
        self._clients.update((key, context) for key, context in fresh.clients.items() if key in self._clients)

    def held(self, listener: str, route: Route) -> Certificate | None:
        """The certificate that a route's clients get whatever its files are by now; None: they would be read first.

        Of a route that has its certificate from ACME; None: there is none yet.
        """
        if route.tls is Tls.ACME:
            kept = self._kept.get(route.hostname)
            return kept.certificate if kept is not None else None
        entry = self._servers.get((listener, route.hostname))
        return entry.certificate if entry is not None and _same_files(entry.route, route) else None

    def reserve(self, routes: Iterable[tuple[str, Route]]) -> None:
        """Hold the pairs of these routes, each with its listener, until their first connection. Any thread may do this.

        Those that have had it, and those whose files can't be read now, are left out.
        """
        read: dict[tuple[str, str], Pair] = {}  # many routes may share a wildcard's
        for listener, route in routes:
            key, files = (listener, route.hostname), (route.tls_cert, route.tls_key)
            if route.tls is not Tls.FILES or self.held(listener, route) is not None:
                continue
            try:
                pair = read[files] = read.get(files) or read_pair(*files)
            except Unusable:  # the judgement of the route and the survey report it
                continue
            if len(pair.chain) + len(pair.key) <= RESERVED_BYTES and self.held(listener, route) is None:
                self._reserve.pop(key, None)
                self._reserve[key] = _Reserved(route, pair)
        for oldest in list(self._reserve)[:-MAX_RESERVED]:
            self._reserve.pop(oldest, None)

    def reserved(self, listener: str, route: Route) -> Pair | None:
        """What serves, if it can be used, where a route's files can't at its first connection. Any thread may ask."""
        found = self._reserve.get((listener, route.hostname))
        return found.pair if found is not None and _same_files(found.route, route) else None

    def trusts(self, ca_path: str) -> bool:
        """Whether backends are verified by the CAs of this file whatever is in it by now."""
        return any(path == ca_path for path, _ in list(self._clients))

    def certificates(self) -> Iterator[tuple[RouteKey, Certificate]]:
        """What is in use, by route."""
        for key, entry in list(self._servers.items()):
            yield key, entry.certificate

    def prune(self, is_kept: Callable[[RouteKey], bool]) -> None:
        """Forget contexts of routes that are gone, if there may be many. Their connections go on."""
        if len(self._servers) > self._prune_at:
            self._servers = {key: entry for key, entry in self._servers.items() if is_kept(key)}
            self._prune_at = SPARE_CONTEXTS + 2 * len(self._servers)

    def _read(self, key: RouteKey, route: Route) -> _Entry:
        """From the files; from what they held before, if that is in reserve and better. Raises Unusable."""
        try:
            fresh = self._built(route, read_pair(route.tls_cert, route.tls_key))
        except Unusable as error:
            if (spare := self._spare(key, route)) is None:
                raise
            problem = str(error)
        else:
            problem = _problem(fresh)
            if not problem or (spare := self._spare(key, route)) is None or _problem(spare):
                return fresh
        log.error("%s: %s; the certificate that was there before is in use", route.hostname, problem)
        return spare

    def _spare(self, key: RouteKey, route: Route) -> _Entry | None:
        """From the pair in reserve, if it can be used."""
        if (pair := self.reserved(key[0], route)) is None:
            return None
        try:
            return self._built(route, pair)
        except Unusable:
            return None

    def _built(self, route: Route, pair: Pair) -> _Entry:
        context = server_context(route, self._protocols, pair)  # which OpenSSL judges first
        return _Entry(route, described(pair), context, self._clock(), pair if route.tls is Tls.ACME else None)

    def _rebuilt(self, entry: _Entry, pair: Pair) -> _Entry:
        """From what the files hold now. Raises Unusable, also where clients took the old one and won't the new."""
        fresh = self._built(entry.route, pair)
        if (problem := _problem(fresh)) and not _problem(entry):
            raise Unusable(problem)
        return fresh

    def _renewed(self, key: RouteKey, entry: _Entry) -> _Entry:
        """With keys of today; the connections that come meanwhile get the old ones."""
        entry.built = self._clock()  # not to try at every connection
        route, pair = entry.route, entry.pair
        try:
            fresh: _Entry = self._aside(
                entry, lambda: self._rebuilt(entry, pair or read_pair(route.tls_cert, route.tls_key))
            )
        except Unusable as error:
            log.error("%s: %s; the certificate that was loaded stays in use", route.hostname, error)
            return entry
        if self._servers.get(key) is entry:
            self._servers[key] = fresh
        return fresh


def _problem(entry: _Entry) -> str:
    """Why clients of a route will refuse its certificate, if they will."""
    found = findings(entry.certificate, entry.route.hostname, time.time())
    return next((str(finding) for finding in found if finding.problem), "")


def _towards(route: Route) -> _Towards:
    return route.backend_ca, route.backend_protocol


def _same_files(one: Route, other: Route) -> bool:
    return (one.tls, one.tls_cert, one.tls_key) == (other.tls, other.tls_cert, other.tls_key)


def server_context(route: Route, protocols: list[str], pair: Pair) -> ssl.SSLContext:
    """A context for the clients of a route: its certificate, its name, TLS 1.2 and 1.3. Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS_1_2)
    context.options |= _OPTIONS
    # All that is left is strong, and the client knows its hardware: one without AES prefers ChaCha20.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(protocols)
    context.num_tickets = TICKETS
    context.sni_callback = _only(route.hostname)
    fill(context, pair)
    return context


def challenge_context(hostname: str, answer: Pair) -> ssl.SSLContext:
    """A context that shows the answer to a challenge, and speaks nothing but its protocol. Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS_1_2)
    context.options |= _OPTIONS
    context.set_alpn_protocols([each.decode() for each in CHALLENGE])
    context.sni_callback = _only(hostname)
    fill(context, answer)
    return context


def _only(hostname: str) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], int | None]:
    """Ends a handshake for another name than the peeked one. They can't differ; if they do, nothing goes."""

    def check(_connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        try:
            if name == hostname or (name is not None and normalise(name) == hostname):
                return None
        except InvalidName:
            log.error("a handshake for %s named %a", hostname, name)
        return int(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)

    return check


def client_context(ca_path: str, protocol: BackendProtocol = BackendProtocol.AUTO) -> ssl.SSLContext:
    """A context for backends: TLS 1.2 and 1.3, verified by `ca_path`, or "" by the system's CAs.

    `protocol` is what is offered in ALPN. Raises Unusable where the file can't be read or holds no CA.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS_1_2)
    # A bare FIN is no close_notify: an answer that ends with the connection must not be cut short unnoticed.
    context.options = (context.options | _OPTIONS) & ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(_OFFERS[protocol])
    if ca_path:
        trust(context, ca_path)
    else:
        context.load_default_certs()
    return context
