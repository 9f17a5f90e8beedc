import datetime as dt
import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mcproxy.certificates.acme.challenge import ACME_IDENTIFIER, answer, new_key, request_for
from mcproxy.certificates.contexts import challenge_context
from mcproxy.certificates.pem import certificates_in

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def test_the_answer_is_as_rfc_8737_wants_it() -> None:
    pair = answer("a.test", "token.thumb", NOW)
    (der,) = certificates_in(pair.chain)
    shown = x509.load_der_x509_certificate(der)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("a.test")], "section 3: the name and no other"
    identifier = shown.extensions.get_extension_for_oid(x509.ObjectIdentifier(ACME_IDENTIFIER))
    assert identifier.critical
    # SHA-256 of the key authorization, as an ASN.1 OCTET STRING.
    assert identifier.value.value == bytes([0x04, 32]) + hashlib.sha256(b"token.thumb").digest()  # type: ignore[attr-defined]
    assert shown.not_valid_before_utc < NOW < shown.not_valid_after_utc
    assert "KEY" not in repr(pair)


def test_only_the_protocol_and_the_name_are_answered() -> None:
    context = challenge_context("a.test", answer("a.test", "t.t", dt.datetime.now(dt.UTC)))

    def shake(name: str, *protocols: str) -> str | None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.set_alpn_protocols(list(protocols))
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        asking = client.wrap_bio(to_client, to_server, server_hostname=name)
        serving = context.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(4):
            for side in (asking, serving):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        return asking.selected_alpn_protocol()

    assert shake("a.test", "acme-tls/1") == "acme-tls/1"
    with pytest.raises(ssl.SSLError):
        shake("b.test", "acme-tls/1")
    assert shake("a.test", "h2") is None, "l7/terminate.py comes here for its protocol only"


def test_a_request_is_for_its_name_and_its_key() -> None:
    key = new_key()
    request = x509.load_der_x509_csr(request_for("a.test", key))
    assert request.is_signature_valid
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("a.test")]
    public = request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert new_key() != key
