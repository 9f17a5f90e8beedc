"""What the tests of checks share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcproxy import config
from mcproxy.configuration import Config
from mcproxy.model import Mode

Document = dict[str, Any]
Parse = Callable[[Document], Config]


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    """Reads a document as if it were a file in the test's folder."""
    return lambda document: config.parse({"database": {"path": "x.db"}, **document}, tmp_path / "mcproxy.toml")


def l7_route(certificate: str | Path, key: str | Path, **options: Any) -> Document:
    """A route of the file."""
    return {
        "hostname": "a.test", "backend": "127.0.0.1:9", "mode": Mode.L7.value,
        "tls_cert": str(certificate), "tls_key": str(key), **options,
    }  # fmt: skip
