"""PEM files into OpenSSL: what it takes is served, and why it doesn't take the rest is said plainly."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
)

from mcproxy.certificates.judge import findings, survey
from mcproxy.certificates.pem import Unreadable, Unusable, fill, load, read_pair, trust
from mcproxy.model import Backend, Mode, Route
from tests.certificates.conftest import Issue
from tests.kit.certificate_files import BORN, DIES, Key


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_good_pair(kind: str, issue: Issue) -> None:
    key: Key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    paths = issue("one.test", "*.TWO.test", key=key)
    loaded = load(*paths)
    assert loaded.names == ("one.test", "*.two.test")
    assert (loaded.not_before, loaded.not_after) == (BORN.timestamp(), DIES.timestamp())
    assert not list(findings(loaded, "one.test", BORN.timestamp()))
    assert load(*paths).digest == loaded.digest


def test_another_key_is_told(issue: Issue, tmp_path: Path) -> None:
    _chain, key = issue("one.test")
    Path(key).rename(tmp_path / "first.key")
    other_chain, _ = issue("one.test")
    with pytest.raises(Unusable, match=r"first\.key is not the key of .*chain\.pem"):
        load(other_chain, str(tmp_path / "first.key"))


def test_an_encrypted_key_is_told(issue: Issue) -> None:
    with pytest.raises(Unusable, match=r"key\.pem is encrypted; store it without a passphrase"):
        load(*issue("one.test", encryption=BestAvailableEncryption(b"secret")))


def test_files_that_are_none(issue: Issue, tmp_path: Path) -> None:
    chain, key = issue("one.test")
    with pytest.raises(Unusable, match=r"absent\.pem can't be read: No such file or directory; check its path"):
        load(str(tmp_path / "absent.pem"), key)
    junk = tmp_path / "junk.pem"
    for content in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        junk.write_bytes(content)
        with pytest.raises(Unusable, match=r"junk\.pem holds no certificate chain"):
            load(str(junk), key)
        with pytest.raises(Unusable, match=r"junk\.pem holds no private key"):
            load(chain, str(junk))
    junk.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(Unusable, match="larger than 1 MiB"):
        load(str(junk), key)


@pytest.mark.parametrize(
    ("content", "certificate", "key"),
    [
        (b" \n", "it is empty; write it again", "it is empty; write it again"),
        (b"junk", "it has no line -----BEGIN CERTIFICATE-----;", "it has no line -----BEGIN PRIVATE KEY-----;"),
        (b"\x30\x82\x01\x02", "it is binary (DER); convert it", "it is binary (DER); convert it"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "what it holds is damaged or of an unknown kind; copy it again from where it was issued (",
            "it holds a block CERTIFICATE instead; is this the right file?",
        ),
        (
            b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
            "it holds a block EC PRIVATE KEY instead; is this the right file?",
            "what it holds is damaged or of an unknown kind; copy it again from where it was issued (",
        ),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "it holds a block CERTIFICATE REQUEST instead; is this the right file?",
            "it holds a block CERTIFICATE REQUEST instead; is this the right file?",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_plainly(
    content: bytes, certificate: str, key: str, issue: Issue, tmp_path: Path
) -> None:
    good_chain, good_key = issue("one.test")
    junk = tmp_path / "junk.pem"
    junk.write_bytes(content)
    for pair, named, says in (
        ((str(junk), good_key), "tls_cert", f"{junk} holds no certificate chain in PEM form: {certificate}"),
        ((good_chain, str(junk)), "tls_key", f"{junk} holds no private key in PEM form: {key}"),
    ):
        with pytest.raises(Unusable) as caught:
            load(*pair)
        assert caught.value.key == named
        assert str(caught.value).startswith(says)
        assert "https://" not in str(caught.value)


def test_a_key_that_openssl_thinks_too_short_is_told_before_anybody_connects(issue: Issue) -> None:
    chain, key = issue("one.test", key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(Unusable, match=r"key is too short to be safe; .* \(OpenSSL: ee key too small\)"):
        load(chain, key)
    route = Route("one.test", Backend("127.0.0.1", 1), Mode.L7, chain, key)
    ((_, finding),) = survey([route], BORN.timestamp())
    assert finding.problem


def test_openssl_may_fail_to_read_what_was_just_read(issue: Issue) -> None:
    class Busy:
        def load_verify_locations(self, _path: str) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        def load_cert_chain(self, _chain: str, _key: str, password: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    chain, key = issue("a.test")
    with pytest.raises(Unreadable, match="Too many open files") as caught:
        trust(Busy(), chain)  # type: ignore[arg-type]
    assert caught.value.key == "backend_ca"
    with pytest.raises(Unreadable, match=f"{chain} or {key} can't be read: Too many open files"):
        fill(Busy(), read_pair(chain, key))  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_never_waited_for(make: Callable[[Path], None], issue: Issue, tmp_path: Path) -> None:
    """A FIFO in a certificate's place stopped the whole data path."""
    make(tmp_path / "it")
    chain, _ = issue("a.test")
    with pytest.raises(
        Unreadable, match="it can't be read: it is not a regular file; give the path of a file"
    ) as caught:
        load(chain, str(tmp_path / "it"))
    assert caught.value.key == "tls_key"
