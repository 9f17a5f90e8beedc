"""Certificates of l7 routes: what a chain and its key are good for, and until when; and the CAs of their backends.

`findings` judges what pem.py has read for a route and a moment; `route_findings` looks at the file of CAs too.
`mcproxy check`, the admin API, the start and every reload ask the same questions here, and each answer is a sentence
that names the file and what to do.

`known` and `ca_problem` remember what a file holds, good or bad, until its stamp changes. That a file could
not be read says nothing of what it holds, and ends without the file changing: that is asked again each time.

A certificate's names are its dNSName entries alone: clients have not looked at the common name for years (RFC 9525,
appendix A). The clock is an argument.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mcproxy.certificates import pem
from mcproxy.certificates.pem import Certificate, Unreadable, Unusable
from mcproxy.disk import Stamp
from mcproxy.model import Mode, Route, Tls, warned_from
from mcproxy.words import moment

MAX_KNOWN = 4096  # certificates that are kept in memory once read: a few KB each
MAX_NAMES_SHOWN = 5  # in a sentence; certificates have up to 100 names


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault or a warning about a route's files."""

    problem: bool  # clients will refuse it, or every request will fail; else it is a warning
    message: str
    key: str = "tls_cert"  # of the route, which names the file
    lasting: bool = False  # it holds until somebody changes something, so a log needs it once

    def __str__(self) -> str:
        return self.message


def known(route: Route) -> Certificate | Finding:
    """A route's certificate, or why it can't be used. What was read is read again only if a file has changed."""
    try:
        stamps = pem.both(pem.stamp, route.tls_cert, route.tls_key)
        return _read_once(route.tls_cert, route.tls_key, *stamps)
    except Unreadable as error:
        return Finding(True, str(error), error.key)


@lru_cache(maxsize=MAX_KNOWN)
def _read_once(chain_path: str, key_path: str, *_stamps: Stamp) -> Certificate | Finding:
    try:
        return pem.load(chain_path, key_path)
    except Unreadable:
        raise  # which is not remembered
    except Unusable as error:
        return Finding(True, str(error), error.key)


def ca_problem(path: str) -> str:
    """Why a file of CAs can't be used; "" if it can. What was read is read again only if it has changed."""
    found = _ca_finding(path)
    return str(found) if found is not None and found.problem else ""


def _ca_finding(path: str) -> Finding | None:
    try:
        return _ca_finding_once(path, pem.stamp(path, "backend_ca"))
    except Unreadable as error:
        return Finding(True, str(error), "backend_ca")


@lru_cache(maxsize=MAX_KNOWN)
def _ca_finding_once(path: str, _stamp: Stamp) -> Finding | None:
    try:
        doubt = pem.doubt_about(path)
    except Unreadable:
        raise
    except Unusable as error:
        return Finding(True, str(error), "backend_ca")
    return Finding(False, doubt, "backend_ca", lasting=True) if doubt else None


def findings(certificate: Certificate, hostname: str, now: float) -> Iterator[Finding]:
    """Faults and warnings about using `certificate` for `hostname` at `now` (seconds since the epoch)."""
    path, end = certificate.path, certificate.not_after
    if certificate.unread:
        what = "names" if end else "names and dates"
        yield Finding(
            False,
            f"{path} can be used for TLS, but its {what} could not be read ({certificate.unread}): check them yourself,"
            f" with openssl x509 -noout -text -in {path}",
            lasting=True,
        )
    for fault in certificate.faults:
        yield Finding(False, fault, lasting=True)
    if not end:
        return
    if now >= end:
        yield Finding(True, f"{path} expired on {moment(end)}; renew it")
    elif now < certificate.not_before:
        begin = moment(certificate.not_before)
        yield Finding(True, f"{path} is not valid before {begin}; check its dates and this machine's clock")
    elif now > warned_from(certificate.not_before, end):
        yield Finding(False, f"{path} expires on {moment(end)}, in {(end - now) / 86_400:.1f} days; renew it")
    if not certificate.unread and not certificate.covers(hostname):
        yield Finding(
            True, f"{path} is for {listed(certificate.names)}, not for {hostname}; give one that names {hostname}"
        )


def route_findings(route: Route, read: Certificate | Finding, now: float) -> Iterator[Finding]:
    """Faults and warnings about the files of one l7 route by themselves; `read` is what is `known` of its pair."""
    if isinstance(read, Finding):
        yield read
    else:
        yield from findings(read, route.hostname, now)
    if finding := route_ca_finding(route):
        yield finding


def route_ca_finding(route: Route) -> Finding | None:
    """Faults and warnings about the file of CAs of a route's backend, if it has one."""
    return _ca_finding(route.backend_ca) if route.backend_ca else None


def survey(routes: Iterable[Route], now: float, about: str = "") -> Iterator[tuple[str, Finding]]:
    """All faults and warnings about the files of one listener's routes, each with its host name.

    `about` is the host name of the one route that it is to be about; what other routes' certificates mean to that one
    is reported too.
    """
    loaded: dict[str, Certificate] = {}
    hostnames: list[str] = []
    for route in routes:
        hostnames.append(route.hostname)
        if route.mode is not Mode.L7:
            continue
        if route.tls is Tls.ACME:  # certificates/acme/keeper.py judges its certificate, which is for its name only
            if about in ("", route.hostname):
                for finding in filter(None, (_unorderable(route.hostname), route_ca_finding(route))):
                    yield route.hostname, finding
            continue
        read = known(route)
        if isinstance(read, Certificate):
            loaded[route.hostname] = read
        if about in ("", route.hostname):
            for finding in route_findings(route, read, now):
                yield route.hostname, finding
    yield from coalescing(loaded, hostnames, about)


def _unorderable(hostname: str) -> Finding | None:
    """A doubt whether a CA issues a certificate for a name.

    Public ones issue none for names outside the public DNS, nor for those that are no host names by its rules (CA/B
    Forum, Baseline Requirements for TLS, sections 4.2.2 and 7.1.2.7.12).
    """
    if "." not in hostname:
        why = "has no dot"
    elif "_" in hostname:
        why = "has an underscore"
    else:
        return None
    return Finding(
        False,
        f"{hostname} {why}: public CAs issue no certificate for it; name another one, or use files",
        "tls",
        lasting=True,
    )


def coalescing(
    certificates: Mapping[str, Certificate], hostnames: Iterable[str], about: str = ""
) -> Iterator[tuple[str, Finding]]:
    """Which l7 routes of one listener have a certificate that covers other routes' names too.

    `certificates` are those of the l7 routes by host name, `hostnames` those of all routes, l4 too; each warning comes
    with the host name whose certificate it is. With `about`, only what is between that host name and the others, either
    way. A browser that has an HTTP/2 connection to such a route sends requests for the other names over it (RFC 9113,
    section 9.1.1), gets 421 for each, and needs a second attempt.
    """
    names = _Names(hostnames if certificates else ())
    for hostname, certificate in certificates.items():
        if about in ("", hostname):
            others, count = names.covered(certificate, hostname)
        else:
            others, count = ((about,), 1) if certificate.covers(about) else ((), 0)
        if count:
            yield (
                hostname,
                Finding(
                    False,
                    f"{certificate.path}, the certificate of {hostname}, also covers {listed(others, count)}: browsers"
                    f" will send requests for {'it' if count == 1 else 'them'} over a connection to {hostname} and be"
                    f" answered 421 first; give {hostname} a certificate of its own",
                    lasting=True,
                ),
            )


class _Names:
    """The host names of a listener's routes, to be asked which of them a certificate covers."""

    def __init__(self, hostnames: Iterable[str]) -> None:
        self._children: dict[str, dict[str, None]] = {}  # by what follows the first label
        for hostname in hostnames:
            self._children.setdefault(hostname.partition(".")[2], {})[hostname] = None

    def covered(self, certificate: Certificate, own: str) -> tuple[tuple[str, ...], int]:
        """The first few names that a certificate covers but for its `own`, and how many there are.

        It takes no longer where there are many: thousands of routes may share a wildcard.
        """
        wild = dict.fromkeys(name[2:] for name in certificate.names if name.startswith("*.") and len(name) > 2)
        groups: list[Iterable[str]] = [self._children.get(parent, {}) for parent in wild]
        parents = [(name, name.partition(".")[2]) for name in dict.fromkeys(certificate.names)]
        single = [name for name, parent in parents if parent not in wild and name in self._children.get(parent, {})]
        count = sum(len(self._children.get(parent, {})) for parent in wild) + len(single)
        shown = (name for name in itertools.chain(*groups, single) if name != own)
        known = own in self._children.get(own.partition(".")[2], {})
        return tuple(itertools.islice(shown, MAX_NAMES_SHOWN)), count - (known and certificate.covers(own))


def listed(names: tuple[str, ...], count: int = 0) -> str:
    """The first of `count` names, which are those that are given where it is 0."""
    if not names:
        return "no host name at all"
    left_out = max(count, len(names)) - MAX_NAMES_SHOWN
    more = f" and {left_out} more" if left_out > 0 else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more
