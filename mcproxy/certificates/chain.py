"""Whether the certificates of a file belong together: a leaf and those that issued it, or the CAs of a backend.

TLS works with what is said here, for some clients or at a price; so it is only warned of. RFC 8446, section 4.4.2 has
the rules: the server's own certificate first, then each one that issued another, and the root may be left out. Nothing
is said of certificates that cryptography can't read.
"""

import re
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID, NameOID

_INTERMEDIATE = re.compile(
    r"\b(intermediate|issuing|sub(ordinate)?[ -]?ca)\b", re.IGNORECASE
)  # as they call themselves
# What cryptography raises on a certificate that it can't read, at once or when a field is asked for.
UNREADABLE = (
    ValueError, TypeError, NotImplementedError, UnsupportedAlgorithm, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType, x509.InvalidVersion,
)  # fmt: skip


def faults(path: str, chain: Sequence[bytes]) -> tuple[str, ...]:
    """What is superfluous in a chain of DER certificates, or lacks, in sentences; `path` is their file."""
    try:
        read = list(map(x509.load_der_x509_certificate, chain))
        return (*_lacking(path, read), *_superfluous(path, read))
    except UNREADABLE:
        return ()


def _superfluous(path: str, chain: Sequence[x509.Certificate]) -> Iterator[str]:
    linked = list(chain[:1])
    for one in linked:  # which grows meanwhile: a CA may have two certificates, issued by two others
        linked += [each for each in chain if each not in linked and _issued(each, one)]
    for each in chain[1:]:
        if each not in linked:
            yield (
                f"{path} holds a certificate of {named(each.subject)}, which has issued none of the others: remove it"
                " (RFC 8446, section 4.4.2)"
            )
        elif _is_own_issuer(each):
            yield (
                f"{path} holds the root {named(each.subject)}, which clients have or don't trust: remove it, it only"
                " makes each handshake longer (RFC 8446, section 4.4.2)"
            )


def _lacking(path: str, chain: Sequence[x509.Certificate]) -> Iterator[str]:
    """That a leaf stands alone, and was issued by no root as far as it says so itself.

    A CA of one's own may issue without intermediates; a public one never does, and says where its certificate is.
    """
    leaf, issuer = chain[0], named(chain[0].issuer)
    if (
        len(chain) == 1
        and not _is_own_issuer(leaf)
        and (_says_where_its_issuer_is(leaf) or _INTERMEDIATE.search(issuer))
    ):
        yield (
            f"{path} holds only the server's own certificate, and not that of {issuer}, which issued it: clients that"
            " don't have it will refuse the route; append the intermediate certificates that came with it"
        )


def _says_where_its_issuer_is(leaf: x509.Certificate) -> bool:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(each.access_method == AuthorityInformationAccessOID.CA_ISSUERS for each in access)


def no_ca(path: str, certificates: Sequence[bytes]) -> str:
    """Why no backend can be verified by the certificates of a file; "" where one can."""
    try:
        read = list(map(x509.load_der_x509_certificate, certificates))
        if not read or any(_is_own_issuer(each) or _is_ca(each) for each in read):
            return ""
        first, issuer = named(read[0].subject), named(read[0].issuer)
    except UNREADABLE:
        return ""
    return f"{path} holds no CA: {first} may issue no certificates; give the certificate of {issuer}, which issued it"


def named(name: x509.Name) -> str:
    """A subject or issuer in a sentence. Raises one of UNREADABLE."""
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := name.get_attributes_for_oid(kind):
            return str(found[0].value)
    return name.rfc4514_string() or "an issuer without a name"


def read_one(der: bytes) -> x509.Certificate:
    """A certificate. Raises one of UNREADABLE."""
    return x509.load_der_x509_certificate(der)


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """Its dNSName entries, in lower case. Raises what cryptography raises on a damaged extension."""
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return ()
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def _issued(issuer: x509.Certificate, other: x509.Certificate) -> bool:
    if issuer is other or issuer.subject != other.issuer:
        return False
    try:
        other.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False  # it has the name of the issuer, and another key
    except UNREADABLE:
        return True  # signed in a way that can't be looked at here
    return True


def _is_own_issuer(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
