"""The certificate that a peer has shown, in words: whose it is, who signed it, how long it is good for."""

from cryptography import x509

from mcproxy.certificates.chain import UNREADABLE, named, names_of
from mcproxy.certificates.judge import listed
from mcproxy.words import moment


def described(der: bytes) -> str:
    """Its names, issuer and end, as in "for a.test, by R11, until 2027-01-01 12:00:00Z"."""
    try:
        shown = x509.load_der_x509_certificate(der)
        names = names_of(shown)
    except UNREADABLE as error:
        return f"that can't be read ({str(error).splitlines()[0]})"
    return f"for {listed(names)}, by {_issuer(shown)}, until {moment(shown.not_valid_after_utc.timestamp())}"


def _issuer(shown: x509.Certificate) -> str:
    return "itself" if shown.issuer == shown.subject else named(shown.issuer)
