"""The keys of metadata, which gRPC has rules for; test_guard, test_caller and test_operating test what they are for."""

import pytest

from mcproxy.admin.contract import ABOUT, CLAIM, REFUSED


@pytest.mark.parametrize("key", [REFUSED, ABOUT, CLAIM])
def test_grpc_takes_each_key(key: str) -> None:
    """An upper-case letter would fail each call; keys from "grpc-" on are the library's."""
    assert key == key.lower()
    assert not key.startswith("grpc-")


def test_only_a_key_for_bytes_ends_in_bin() -> None:
    """Text under such a key, or bytes under another one, would fail each call that has it."""
    assert [key for key in (REFUSED, ABOUT, CLAIM) if key.endswith("-bin")] == [CLAIM]
