"""What tests of certificates share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption, NoEncryption

from tests.kit.certificate_files import Key, write_pair

Issue = Callable[..., tuple[str, str]]


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """Writes a chain and its key for these names, and returns their paths."""

    def make(
        *names: str, key: Key | None = None, encryption: KeySerializationEncryption | None = None
    ) -> tuple[str, str]:
        return write_pair(tmp_path, names, key or ec.generate_private_key(ec.SECP256R1()), encryption or NoEncryption())

    return make
