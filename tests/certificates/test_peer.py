"""A certificate in words, whatever a peer shows."""

import ssl
from typing import Any

import pytest
import trustme
from cryptography import x509

from mcproxy.certificates.peer import described


def der(issued: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (["a.test"], {}, "for a.test, by "),
        (["a.test", "*.b.test"], {}, "for a.test, *.b.test, by "),
        ([f"{i}.test" for i in range(9)], {}, "for 0.test, 1.test, 2.test, 3.test, 4.test and 4 more, by "),
        ([], {"common_name": "x"}, "for no host name at all, by "),
    ],
)
def test_names_issuer_and_end(names: list[str], options: dict[str, Any], says: str) -> None:
    words = described(der(trustme.CA(organization_name="Ours").issue_cert(*names, **options)))
    assert words.startswith(f"{says}Ours, until ")
    assert words.endswith("Z")


def test_who_signed_itself() -> None:
    authority = ssl.PEM_cert_to_DER_cert(trustme.CA().cert_pem.bytes().decode())
    assert x509.load_der_x509_certificate(authority).issuer
    assert ", by itself, until " in described(authority)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x30\x03\x02\x01\x01"])
def test_junk(junk: bytes) -> None:
    assert described(junk).startswith("that can't be read (")
