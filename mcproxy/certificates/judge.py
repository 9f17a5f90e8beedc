"""Certificates of l7 routes: what a chain and its key are good for, and until when; and the CAs of their backends.

`load` reads the two files and says what is in them, or why they can't be used; `findings` judges what was loaded for a
route and a moment; `route_findings` looks at the file of CAs too. `mcproxy check`, the admin API, the start and every
reload ask the same questions here, and each answer is a sentence that names the file and what to do.

`known` and `ca_problem` remember what a file holds, be it good or bad, until its `_stamp` changes. That a file could
not be read says nothing of what it holds, and ends without the file changing: that is asked again each time.

A certificate's names are its dNSName entries alone: clients have not looked at the common name for years (RFC 9525,
appendix A). The clock is an argument.
"""

import errno
import hashlib
import itertools
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtensionOID

from mcproxy.model import EXPIRY_WARNING, Mode, Route

MAX_FILE_BYTES = 1 << 20  # a long chain takes some 10 KB; more is a wrong file
MAX_KNOWN = 4096  # certificates that are kept in memory once read: a few KB each
MAX_NAMES_SHOWN = 5  # in a sentence; certificates have up to 100 names

T = TypeVar("T")
Stamp = tuple[int, int, int, int]

_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")  # RFC 7468, section 3
_DER_SEQUENCE = b"\x30"  # what certificates and keys begin with in binary form (X.690, section 8.9)
_REMEDIES = {
    errno.ENOENT: "check its path",
    errno.EACCES: "let the user that mcproxy runs as read it",
}
# What OpenSSL refuses at its security level, in its words.
_TOO_WEAK = {
    "EE_KEY_TOO_SMALL": "the certificate's key is too short to be safe; have one made for ECDSA or RSA of 2048 bits",
    "CA_KEY_TOO_SMALL": "the key of a CA in the chain is too short to be safe; have it issued by another CA",
    "CA_MD_TOO_WEAK": "the chain is signed with a hash that is no longer safe; have it issued anew, with SHA-256",
}


class Unusable(ValueError):
    """The files can't be used; the message says why and what to do."""

    def __init__(self, message: str, key: str = "tls_cert") -> None:
        """`key` is that of the route which names the file."""
        super().__init__(message)
        self.key = key


class Unreadable(Unusable):
    """A file could not be read, whatever is in it. It may be readable the next time without having changed."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a route's pair of files holds. Times are seconds since the epoch."""

    path: str
    names: tuple[str, ...]  # in lower case; "*.example.org" covers one label
    not_before: float
    not_after: float
    digest: str  # of both files: whether there is anything new in them

    def covers(self, hostname: str) -> bool:
        """Whether a client that asked for `hostname` (normalised) takes it (RFC 9525, section 6.3)."""
        parent = hostname.partition(".")[2]
        return hostname in self.names or bool(parent and f"*.{parent}" in self.names)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be told about a route's files."""

    problem: bool  # clients will refuse it, or every request will fail; else it is a warning
    message: str
    key: str = "tls_cert"  # of the route, which names the file
    lasting: bool = False  # it holds until somebody changes something, so a log needs it once

    def __str__(self) -> str:
        return self.message


def known(route: Route) -> Certificate | Finding:
    """A route's certificate, or why it can't be used. What was read is read again only if a file has changed."""
    try:
        stamps = _both(_stamp, route.tls_cert, route.tls_key)
        return _read_once(route.tls_cert, route.tls_key, *stamps)
    except Unreadable as error:
        return Finding(True, str(error), error.key)


@lru_cache(maxsize=MAX_KNOWN)
def _read_once(chain_path: str, key_path: str, *_stamps: Stamp) -> Certificate | Finding:
    try:
        return tried(chain_path, key_path)
    except Unreadable:
        raise  # which is not remembered
    except Unusable as error:
        return Finding(True, str(error), error.key)


def stamp(path: str) -> Stamp:
    """What is different once a file has changed, its owner and mode included. Raises OSError."""
    found = Path(path).stat()
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino)


def _stamp(path: str, key: str) -> Stamp:
    try:
        return stamp(path)
    except OSError as error:
        raise _unreadable(path, error, key) from None


def load(chain_path: str, key_path: str) -> Certificate:
    """Read a chain and its key, PEM both. Raises Unusable."""
    chain_bytes, key_bytes = _both(_read, chain_path, key_path)
    try:
        leaf = x509.load_pem_x509_certificates(chain_bytes)[0]
        names = names_of(leaf)
        certified = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        why = _why_no_pem(chain_bytes, b"CERTIFICATE", error)
        raise Unusable(f"{chain_path} holds no certificate chain in PEM form: {why}") from None
    if _public_key(key_bytes, key_path) != certified:
        raise Unusable(
            f"{key_path} is not the key of {chain_path}, whose first certificate must be the server's own;"
            " give the two files that were issued together",
            "tls_key",
        )
    return Certificate(
        chain_path,
        names,
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        hashlib.sha256(hashlib.sha256(chain_bytes).digest() + key_bytes).hexdigest(),
    )


def tried(chain_path: str, key_path: str) -> Certificate:
    """The same, and try whether TLS can be spoken with them. Raises Unusable."""
    certificate = load(chain_path, key_path)
    fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain_path, key_path)
    return certificate


def fill(context: ssl.SSLContext, chain_path: str, key_path: str) -> None:
    """Have `context` show a chain. Raises Unusable, also for what `load` takes and OpenSSL thinks too weak."""
    try:
        context.load_cert_chain(chain_path, key_path, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        why = _TOO_WEAK.get(getattr(error, "reason", ""), "have them issued anew")
        raise Unusable(f"{chain_path} and {key_path} can't be used: {why} (OpenSSL: {_said(error)})") from None
    except OSError as error:
        raise _unreadable(f"{chain_path} or {key_path}", error, "tls_cert") from None


def trust(context: ssl.SSLContext, ca_path: str) -> None:
    """Have `context` verify by the CAs in a file. Raises Unusable."""
    data = _read(ca_path, "backend_ca")
    try:
        context.load_verify_locations(ca_path)
    except ssl.SSLError as error:
        why = _why_no_pem(data, b"CERTIFICATE", error)
        raise Unusable(f"{ca_path} holds no CA certificate in PEM form: {why}", "backend_ca") from None
    except OSError as error:
        raise _unreadable(ca_path, error, "backend_ca") from None


def ca_problem(path: str) -> str:
    """Why a file of CAs can't be used; "" if it can. What was read is read again only if it has changed."""
    try:
        return _ca_problem_once(path, _stamp(path, "backend_ca"))
    except Unreadable as error:
        return str(error)


@lru_cache(maxsize=MAX_KNOWN)
def _ca_problem_once(path: str, _stamp: Stamp) -> str:
    try:
        trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
    except Unreadable:
        raise
    except Unusable as error:
        return str(error)
    return ""


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _read(path: str, key: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error, key) from None
    if len(data) > MAX_FILE_BYTES:
        raise Unusable(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; is this the right file?", key)
    return data


def _both(read: Callable[[str, str], T], chain_path: str, key_path: str) -> tuple[T, T]:
    """What `read` makes of a pair of files. Raises Unreadable naming both where neither can be read."""
    try:
        chain = read(chain_path, "tls_cert")
    except Unreadable as error:
        try:
            read(key_path, "tls_key")
        except Unreadable as other:
            both = f"{error}; and {other}" if key_path != chain_path else str(error)  # one file may hold both
            raise Unreadable(both, error.key) from None
        raise
    return chain, read(key_path, "tls_key")


def _unreadable(path: str, error: OSError, key: str) -> Unreadable:
    remedy = _REMEDIES.get(error.errno or 0, "give the path of a file")
    return Unreadable(f"{path} can't be read: {error.strerror}; {remedy}", key)


def _why_no_pem(data: bytes, wanted: bytes, error: Exception) -> str:
    """Why no PEM block of a kind, such as b"CERTIFICATE", could be read from a file, and what to do."""
    if not data.strip():
        return "it is empty; write it again"
    kinds = _PEM_BLOCK.findall(data)
    if any(kind.endswith(wanted) for kind in kinds):
        said = _said(error)
        return f"what it holds is damaged or of an unknown kind; copy it again from where it was issued ({said})"
    if kinds:
        return f"it holds a block {kinds[0].decode()} instead; is this the right file?"
    if data.startswith(_DER_SEQUENCE):
        return "it is binary (DER); convert it with openssl, or give the file that was issued as PEM"
    return f"it has no line -----BEGIN {wanted.decode()}-----; is this the right file?"


def _said(error: Exception) -> str:
    """What a library says, without its source lines and links."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """Its dNSName entries, in lower case. Raises what cryptography raises on a damaged extension."""
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return ()
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def _public_key(data: bytes, path: str) -> bytes:
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise Unusable(
            f"{path} is encrypted; store it without a passphrase, readable by mcproxy alone", "tls_key"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        why = _why_no_pem(data, b"PRIVATE KEY", error)
        raise Unusable(f"{path} holds no private key in PEM form: {why}", "tls_key") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def findings(certificate: Certificate, hostname: str, now: float) -> Iterator[Finding]:
    """What is to be told about using `certificate` for `hostname` at `now` (seconds since the epoch)."""
    path, end = certificate.path, certificate.not_after
    if now >= end:
        yield Finding(True, f"{path} expired on {day(end)}; renew it and reload")
    elif now < certificate.not_before:
        yield Finding(
            True, f"{path} is not valid before {day(certificate.not_before)}; check its dates and this machine's clock"
        )
    elif end - now < EXPIRY_WARNING:
        yield Finding(False, f"{path} expires on {day(end)}, in {(end - now) / 86_400:.1f} days; renew it and reload")
    if not certificate.covers(hostname):
        yield Finding(
            True, f"{path} is for {listed(certificate.names)}, not for {hostname}; give one that names {hostname}"
        )


def route_findings(route: Route, read: Certificate | Finding, now: float) -> Iterator[Finding]:
    """What is to be told about the files of one l7 route by themselves; `read` is what is `known` of its pair."""
    if isinstance(read, Finding):
        yield read
    else:
        yield from findings(read, route.hostname, now)
    if route.backend_ca and (problem := ca_problem(route.backend_ca)):
        yield Finding(True, problem, "backend_ca")


def survey(routes: Iterable[Route], now: float, about: str = "") -> Iterator[tuple[str, Finding]]:
    """Everything that is to be told about the files of one listener's routes, each with its host name.

    `about` is the host name of the one route that it is to be about; what other routes' certificates mean to that one
    is told too.
    """
    loaded: dict[str, Certificate] = {}
    hostnames: list[str] = []
    for route in routes:
        hostnames.append(route.hostname)
        if route.mode is not Mode.L7:
            continue
        read = known(route)
        if isinstance(read, Certificate):
            loaded[route.hostname] = read
        if about in ("", route.hostname):
            for finding in route_findings(route, read, now):
                yield route.hostname, finding
    yield from coalescing(loaded, hostnames, about)


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


def day(seconds: float) -> str:
    """A point in time in a sentence, to the minute, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
