"""A chain and its key, or a file of CAs, from PEM files into OpenSSL; and why OpenSSL doesn't take them.

What OpenSSL takes is served: it is what shakes hands. cryptography then reads the names and dates for people; it is
stricter, so what it can't read is only not known. Where OpenSSL refuses, both are asked for the reason. It is 12 MB: so
it is loaded, with chain.py, for the first certificate, and a server without l7 routes has none.

Files are read off the hub, once (disk.py), and OpenSSL is given what was read: so what was judged is what is in use.
"""

import base64
import binascii
import errno
import hashlib
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mcproxy import disk

MAX_FILE_BYTES = 1 << 20  # a long chain takes some 10 KB, a system's CAs some 250; more is a wrong file

T = TypeVar("T")

_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")  # RFC 7468, section 3
# The labels that OpenSSL takes for certificates; TRUSTED ones have OpenSSL's own data behind the certificate.
_CERTIFICATE = re.compile(rb"-----BEGIN ((?:TRUSTED |X509 )?CERTIFICATE)-----(.*?)-----END \1-----", re.DOTALL)
_DER_SEQUENCE = b"\x30"  # what certificates and keys begin with in binary form (X.690, section 8.9)
_REMEDIES = {
    errno.ENOENT: "check its path",
    errno.EACCES: "let the user that mcproxy runs as read it",
    errno.ETIMEDOUT: "check the disk that it is on, or move it to a local one",
    errno.EAGAIN: "try again when that has ended, or replace it by renaming",
}
# What OpenSSL refuses at its security level, in its words.
_TOO_WEAK = {
    "EE_KEY_TOO_SMALL": "the certificate's key is too short to be safe; have one made for ECDSA or RSA of 2048 bits",
    "CA_KEY_TOO_SMALL": "the key of a CA in the chain is too short to be safe; have it issued by another CA",
    "CA_MD_TOO_WEAK": "the chain is signed with a hash that is no longer safe; have it issued again, with SHA-256",
}
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


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
    not_after: float  # 0.0: not known
    digest: str  # of both files: whether there is anything new in them
    unread: str = ""  # why its names or dates are not known, though TLS works; "": they are
    faults: tuple[str, ...] = ()  # what the chain lacks, and what doesn't belong into it
    issuer: str = ""  # its name; "": not known

    def covers(self, hostname: str) -> bool:
        """Whether a client that asked for `hostname` (normalised) takes it (RFC 9525, section 6.3)."""
        parent = hostname.partition(".")[2]
        return hostname in self.names or bool(parent and f"*.{parent}" in self.names)


@dataclass(frozen=True, slots=True)
class Pair:
    """A chain and its key as they were read, PEM both."""

    chain_path: str
    key_path: str
    chain: bytes
    key: bytes

    @property
    def digest(self) -> str:
        """Whether two pairs are the same."""
        return hashlib.sha256(hashlib.sha256(self.chain).digest() + self.key).hexdigest()

    def __repr__(self) -> str:
        return f"<Pair {self.chain_path} {self.key_path}>"  # and nothing of the key


def read_pair(chain_path: str, key_path: str) -> Pair:
    """Read both files. Raises Unreadable."""
    return Pair(chain_path, key_path, *both(read, chain_path, key_path))


def load(chain_path: str, key_path: str) -> Certificate:
    """Read a chain and its key, and try whether TLS can be spoken with them. Raises Unusable."""
    return tried(read_pair(chain_path, key_path))


def tried(pair: Pair) -> Certificate:
    """Try whether TLS can be spoken with a pair. Raises Unusable."""
    fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    return described(pair)


def fill(context: ssl.SSLContext, pair: Pair) -> None:
    """Have `context` show a chain. Raises Unusable."""
    with disk.in_memory(pair.chain, pair.chain_path) as chain, disk.in_memory(pair.key, pair.key_path) as key:
        try:
            context.load_cert_chain(chain, key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise _refusal(pair, error) from None
        except OSError as error:
            raise unreadable(f"{pair.chain_path} or {pair.key_path}", error, "tls_cert") from None


def trust(context: ssl.SSLContext, ca_path: str, key: str = "backend_ca") -> bytes:
    """Have `context` verify by the CAs in a file; returns what it holds. `key` names the file. Raises Unusable."""
    data = read(ca_path, key)
    with disk.in_memory(data, ca_path) as copy:
        try:
            context.load_verify_locations(copy)
        except ssl.SSLError as error:
            why = _why_no_pem(data, b"CERTIFICATE", error)
            raise Unusable(f"{ca_path} holds no CA certificate in PEM form: {why}", key) from None
        except OSError as error:
            raise unreadable(ca_path, error, key) from None
    return data


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _refusal(pair: Pair, error: Exception) -> Unusable:
    """Why OpenSSL doesn't take a pair: the chain, the key, or that they don't belong together."""
    chain, key = pair.chain_path, pair.key_path
    if why := _no_chain(pair.chain):
        return Unusable(f"{chain} holds no certificate chain in PEM form: {why}")
    if unusable := _no_key(pair.key, key):
        return unusable
    reason = getattr(error, "reason", None) or ""
    if reason in _MISMATCHES:
        return Unusable(
            f"{key} is not the key of {chain}, whose first certificate must be the server's own;"
            " give the two files that were issued together",
            "tls_key",
        )
    why = _TOO_WEAK.get(reason, "have them issued again")
    return Unusable(f"{chain} and {key} can't be used: {why} (OpenSSL: {_said(error)})")


def _no_chain(data: bytes) -> str:
    """Why OpenSSL reads no certificates there, and what to do; "": it does."""
    try:
        if not certificates_in(data):
            raise ValueError("no whole block")
        with disk.in_memory(data, "") as copy:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(copy)
    except (ssl.SSLError, ValueError) as error:
        return _why_no_pem(data, b"CERTIFICATE", error)
    except OSError:
        pass  # there is no copy in memory here, so that nothing more is known
    return ""


def _no_key(data: bytes, path: str) -> Unusable | None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        load_pem_private_key(data, password=None)
    except TypeError:
        text = f"{path} is encrypted; store it without a passphrase, readable only by mcproxy"
        return Unusable(text, "tls_key")
    except (ValueError, UnsupportedAlgorithm) as error:
        why = _why_no_pem(data, b"PRIVATE KEY", error)
        return Unusable(f"{path} holds no private key in PEM form: {why}", "tls_key")
    return None


def read(path: str, key: str) -> bytes:
    """A file's content. Raises Unreadable, and Unusable where it is too large; `key` is the route's."""
    try:
        return disk.read(path, MAX_FILE_BYTES)
    except disk.TooLarge:
        raise Unusable(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; is this the right file?", key) from None
    except OSError as error:
        raise unreadable(path, error, key) from None


def stamp(path: str, key: str) -> disk.Stamp:
    """What is different once a file has changed. Raises Unreadable."""
    try:
        return disk.stamp(path)
    except OSError as error:
        raise unreadable(path, error, key) from None


def both(read: Callable[[str, str], T], chain_path: str, key_path: str) -> tuple[T, T]:
    """What `read` makes of a pair of files. Raises Unreadable naming both where neither can be read."""
    try:
        chain = read(chain_path, "tls_cert")
    except Unreadable as error:
        try:
            read(key_path, "tls_key")
        except Unreadable as other:
            named = f"{error}; and {other}" if key_path != chain_path else str(error)  # one file may hold both
            raise Unreadable(named, error.key) from None
        raise
    return chain, read(key_path, "tls_key")


def unreadable(what: str, error: OSError, key: str) -> Unreadable:
    """That a file can't be read, why, and what to do."""
    remedy = _REMEDIES.get(error.errno or 0, "give the path of a file")
    return Unreadable(f"{what} can't be read: {error.strerror}; {remedy}", key)


def certificates_in(data: bytes) -> list[bytes]:
    """The certificates of a PEM file as DER, in their order; a damaged block is as long as it decodes."""
    found = []
    for label, body in _CERTIFICATE.findall(data):
        try:
            der = base64.b64decode(body)
        except binascii.Error:
            der = b""
        found.append(_first_value(der) if label.startswith(b"TRUSTED") else der)
    return found


def _first_value(der: bytes) -> bytes:
    """The first value of several in DER: its head says how long it is (X.690, section 8.1.3)."""
    if len(der) < 2 or der[1] < 0x80:
        return der
    octets = der[1] & 0x7F
    return der[: 2 + octets + int.from_bytes(der[2 : 2 + octets], "big")]


def described(pair: Pair) -> Certificate:
    """What messages say of a pair that OpenSSL takes, as far as it can be read."""
    from mcproxy.certificates.chain import UNREADABLE, faults, named, names_of, read_one  # noqa: PLC0415 - see above

    chain = certificates_in(pair.chain)
    names: tuple[str, ...] = ()
    before, after, unread, issuer = 0.0, 0.0, "", ""
    try:
        leaf = read_one(chain[0])
        before, after = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        issuer = named(leaf.issuer)
        names = names_of(leaf)
    except UNREADABLE as error:
        unread = _said(error)
    path = pair.chain_path
    return Certificate(path, names, before, after, pair.digest, unread, faults(path, chain), issuer)


def doubt_about(ca_path: str) -> str:
    """Why no backend can be verified by a file that OpenSSL takes; "": one can. Raises Unusable."""
    from mcproxy.certificates.chain import no_ca  # noqa: PLC0415 - see above

    return no_ca(ca_path, certificates_in(trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca_path)))


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
