"""Certificates as some CAs write them, which OpenSSL takes and stricter parsers don't: DER put together by hand."""

import base64
import textwrap
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

ECDSA_SHA256, COMMON_NAME = b"\x2a\x86\x48\xce\x3d\x04\x03\x02", b"\x55\x04\x03"
BASIC_CONSTRAINTS, SAN, POLICIES = b"\x55\x1d\x13", b"\x55\x1d\x11", b"\x55\x1d\x20"
FALSE, NULL = b"\x01\x01\x00", b"\x05\x00"


def der(tag: int, *parts: bytes) -> bytes:
    """One value (X.690, section 8.1)."""
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + body


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE."""
    return der(0x30, *parts)


def name(text: bytes, kind: int = 0x0C) -> bytes:
    """A distinguished name of one common name, as UTF8String; 0x13 is PrintableString."""
    return sequence(der(0x31, sequence(der(0x06, COMMON_NAME), der(kind, text))))


def extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    """One extension."""
    return sequence(der(0x06, oid), critical, der(0x04, value))


def names(*hosts: bytes, uri: bytes = b"") -> bytes:
    """A SAN with these host names and perhaps a URI."""
    entries = [der(0x82, host) for host in hosts] + ([der(0x86, uri)] if uri else [])
    return extension(SAN, sequence(*entries))


def certificate(
    host: str, *, subject: bytes = b"", issuer: bytes = b"", more: bytes = b"", san: bytes = b"", params: bytes = b""
) -> bytes:
    """The PEM of a self-signed certificate and its key: `more` are extensions, `params` those of the signature."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = sequence(der(0x06, ECDSA_SHA256), params)
    subject = subject or name(host.encode())
    signed = sequence(
        der(0xA0, der(0x02, b"\x02")),
        der(0x02, b"\x07"),
        algorithm,
        issuer or subject,
        sequence(der(0x17, b"260101000000Z"), der(0x17, b"461231000000Z")),
        subject,
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der(0xA3, sequence(san or names(host.encode()), more)),
    )
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    whole = sequence(signed, algorithm, der(0x03, b"\x00", signature))
    return pem(whole) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem(content: bytes, label: str = "CERTIFICATE") -> bytes:
    """DER as PEM."""
    body = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


def trusted(host: str) -> bytes:
    """As `openssl x509 -trustout` writes it, with OpenSSL's own data behind the certificate."""
    plain = certificate(host)
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    body, rest = plain.removeprefix(begin).split(end, 1)
    return pem(base64.b64decode(body) + sequence(), "TRUSTED CERTIFICATE") + rest


# By what is odd about it: how it is made for a host name.
ODD: dict[str, Callable[[str], bytes]] = {
    "a * in a PrintableString": lambda host: certificate(host, subject=name(b"*.a.test", 0x13)),
    "an & in a PrintableString": lambda host: certificate(host, subject=name(b"A & B", 0x13)),
    "critical FALSE written out": lambda host: certificate(host, more=extension(BASIC_CONSTRAINTS, sequence(), FALSE)),
    "garbage in certificatePolicies": lambda host: certificate(host, more=extension(POLICIES, b"\xff\xff\xff")),
    "a path length without CA": lambda host: certificate(
        host, more=extension(BASIC_CONSTRAINTS, sequence(der(0x02, b"\x00")))
    ),
    "NULL parameters of ECDSA": lambda host: certificate(host, params=NULL),
    "a bad URI in SAN": lambda host: certificate(host, san=names(host.encode(), uri=b"\xff\xfe not a uri")),
    "BEGIN TRUSTED CERTIFICATE": trusted,
}


def write(path: Path, odd: str, host: str) -> Path:
    """One of these, with its key, in a file."""
    path.write_bytes(ODD[odd](host))
    return path
