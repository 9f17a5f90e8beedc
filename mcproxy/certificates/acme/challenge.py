"""Keys, requests and the answer to a TLS-ALPN-01 challenge, as PEM.

The answer is a self-signed certificate for the name only, with the digest of the key authorization in a critical
extension, shown to clients that ask for the protocol acme-tls/1 (RFC 8737, section 3). Only the CA looks at it, so its
key is of one kind whatever the account's and the certificate's are.

cryptography is loaded when it is needed: it takes 12 MB, and most servers order no certificates.
"""

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from mcproxy.certificates.pem import Pair

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

ACME_IDENTIFIER = "1.3.6.1.5.5.7.1.31"
VALID_FOR = dt.timedelta(days=1)  # an order's challenge is over within minutes
CLOCK_SKEW = dt.timedelta(hours=1)  # between us and the CA


def new_key() -> str:
    """A private key on P-256."""
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def request_for(hostname: str, key_pem: str) -> bytes:
    """A certificate signing request for one name, DER."""
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    names = x509.SubjectAlternativeName([x509.DNSName(hostname)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return builder.sign(_loaded(key_pem), hashes.SHA256()).public_bytes(Encoding.DER)


def answer(hostname: str, key_authorization: str, now: dt.datetime) -> Pair:
    """The certificate, and its key, that answers a challenge for a name."""
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(key_authorization.encode()).digest()
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=True)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(ACME_IDENTIFIER), b"\x04\x20" + digest), critical=True
        )  # DER
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    what = f"the challenge for {hostname}"
    return Pair(what, what, certificate.public_bytes(Encoding.PEM), private)


def _loaded(key_pem: str) -> "ec.EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    key = load_pem_private_key(key_pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
