"""Chains and CAs that don't belong together: said of what can be read, silent about what can't."""

import ssl
from itertools import permutations

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from mcproxy.certificates.chain import faults, no_ca
from tests.kit.certificate_files import BORN, DIES

JUNK = b"\x30\x03\x02\x01\x01"


def der(blob: trustme.Blob) -> bytes:
    return ssl.PEM_cert_to_DER_cert(blob.bytes().decode())


ROOT = trustme.CA(organization_name="Root")
MIDDLE = ROOT.create_child_ca()
LOW = MIDDLE.create_child_ca()
OTHER = trustme.CA(organization_name="Other")
LEAF = der(LOW.issue_cert("a.test").cert_chain_pems[0])
root, middle, low, other = (der(each.cert_pem) for each in (ROOT, MIDDLE, LOW, OTHER))
SAME_NAME = der(trustme.CA(organization_name="Root").cert_pem)


@pytest.mark.parametrize("order", list(permutations([low, middle])))
def test_a_chain_in_any_order_is_whole(order: tuple[bytes, ...]) -> None:
    assert faults("f", [LEAF, *order]) == ()


def test_each_one_that_is_superfluous_is_named() -> None:
    found = faults("f", [LEAF, other, low, middle, root, LEAF])
    assert [text.split(", ")[0] for text in found] == ["f holds a certificate of Other", "f holds the root Root"]


def test_a_ca_with_the_issuers_name_and_another_key_is_not_the_issuer() -> None:
    (text,) = faults("f", [middle, SAME_NAME])
    assert "which has issued none" in text


def issued_by(issuer: str, more: list[x509.ExtensionType]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.test")]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key()).serial_number(7).not_valid_before(BORN).not_valid_after(DIES)
    )  # fmt: skip
    for each in more:
        builder = builder.add_extension(each, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def access(method: x509.ObjectIdentifier) -> x509.AuthorityInformationAccess:
    where = x509.UniformResourceIdentifier("http://ca.test/x.crt")
    return x509.AuthorityInformationAccess([x509.AccessDescription(method, where)])


@pytest.mark.parametrize(
    ("issuer", "more", "lacks"),
    [
        ("R11", [access(AuthorityInformationAccessOID.CA_ISSUERS)], True),
        ("R11", [access(AuthorityInformationAccessOID.OCSP)], False),
        ("Our Intermediate 2", [], True),
        ("Corp Issuing CA", [], True),
        ("Our Sub-CA", [], True),
        ("Our CA", [], False),
    ],
)
def test_one_alone_lacks_its_issuer_where_that_is_no_root(
    issuer: str, more: list[x509.ExtensionType], lacks: bool
) -> None:
    found = faults("f", [issued_by(issuer, more)])
    assert [f"not that of {issuer}, which issued it" in text for text in found] == [True] * lacks
    assert faults("f", [issued_by(issuer, more), LEAF]) != found, "then it is not alone"


def test_one_that_issued_itself_lacks_nobody() -> None:
    assert faults("f", [root]) == ()


def test_a_file_of_cas_needs_one() -> None:
    assert no_ca("f", [LEAF]).startswith("f holds no CA: ")
    for some in ([root], [middle], [LEAF, low], []):
        assert no_ca("f", some) == ""


def test_nothing_is_said_of_what_can_not_be_read() -> None:
    for some in ([JUNK], [JUNK, root], [LEAF, JUNK], [b""]):
        assert faults("f", some) == ()
        assert no_ca("f", some) == ""
