"""The commands read [grpc] by themselves: what they make of it must be what config.py makes of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.access import Access, load_access
from mcproxy.config import load_api
from mcproxy.document import ConfigError
from tests.kit.program import toml

_TEXTS = st.sampled_from(["", "a.pem", "/etc//a.pem", "../a b", "unix:a.sock", "unix:", "a.test:9090", "[::1]:1", "\0"])
_ADDRS = st.sampled_from(
    ["a.test:9090", "[::1]:1", "0.0.0.0:99", ":443", "a.test", "unix:a.sock", "unix:/a//b", "unix:", "unix:a\tb", "", 5]
)
_TABLES = st.fixed_dictionaries(
    {},
    optional={
        "addr": _ADDRS,
        "client_cert": _TEXTS | st.just(5),
        "client_key": _TEXTS,
        "server_ca": _TEXTS,
        "tls_cert": _TEXTS,
        "other": st.just([]),
    },
)


def outcome(load: Any, path: Path) -> Any:
    """What loading comes to: the values, or what is wrong."""
    try:
        found = load(path)
    except ConfigError as error:
        return str(error)
    return found and tuple(getattr(found, key) for key in Access.__slots__)


@given(table=_TABLES)
def test_both_say_the_same(table: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "access.toml"
    path.write_text(f"grpc = {toml(table)}\n")
    assert outcome(load_access, path) == outcome(load_api, path)


@pytest.mark.parametrize("text", ["", "grpc = 5", "[grpc]", "[grpc", '[log]\nlvel = 1\n[grpc]\naddr = "unix:a"'])
def test_whatever_else_the_file_has(tmp_path: Path, text: str) -> None:
    (tmp_path / "mcproxy.toml").write_text(text)
    assert outcome(load_access, tmp_path / "mcproxy.toml") == outcome(load_api, tmp_path / "mcproxy.toml")


def test_a_command_loads_no_pydantic(tmp_path: Path) -> None:
    """It took longer to load than all else that a command does."""
    (tmp_path / "mcproxy.toml").write_text(f'[grpc]\naddr = "unix:{tmp_path}/nowhere.sock"\n')
    program = (
        "import sys; from mcproxy.cli.main import main\n"
        f"try: main(['status', '-c', '{tmp_path}/mcproxy.toml'])\n"
        "except SystemExit as end: print(end.code)\n"
        "print(sorted({'pydantic', 'rich.table', 'gevent', 'sqlalchemy', 'mcproxy.config'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["3", "[]"]
