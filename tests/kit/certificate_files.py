"""Certificates and keys on disk, and a disk that counts what it is asked and fails where a test wants."""

import datetime as dt
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, KeySerializationEncryption, PrivateFormat

BORN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DIES = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_pair(
    folder: Path, names: tuple[str, ...], key: Key, encryption: KeySerializationEncryption
) -> tuple[str, str]:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "common.test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(BORN).not_valid_after(DIES)
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    chain, key_path = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return str(chain), str(key_path)


class Disk:
    """Counts what is asked of files; a call that is in `fails`, with its path, ends with that error number."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fails: dict[tuple[str, str], int] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        for name in ("stat", "open"):
            patch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if name == "open" or isinstance(path, Path):  # stat() of a descriptor says nothing of a path
                self.calls[name, Path(path).name] += 1
            if number := self.fails.get((name, str(path))):
                raise OSError(number, os.strerror(number))
            return function(path, *args, **kwargs)

        return call
