"""What the unit hides from the service, and `check` finds from a shell."""

from pathlib import Path

import pytest

from mcproxy import config
from mcproxy.check.loaded import load
from mcproxy.check.sandbox import check_sandbox
from tests.kit.program import ROOT


def found(folder: Path, *units: Path, **route: str) -> list[str]:
    routes = [{"hostname": "a.test", "backend": "127.0.0.1:1", **route}]
    document = {"database": {"path": "/srv/mcproxy.db"}, "listeners": [{"addr": ":1", "routes": routes}]}
    parsed = config.parse(document, folder / "mcproxy.toml")
    return list(map(str, check_sandbox(parsed, load(parsed)[0], units)))


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A folder of units with ours as it is shipped."""
    (tmp_path / "units").mkdir()
    (tmp_path / "units/mcproxy.service").write_text((ROOT / "deploy/systemd/mcproxy.service").read_text())
    return tmp_path / "units"


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("/tmp/a.sock", "PrivateTmp"), ("/var/tmp/x/a.sock", "PrivateTmp"), ("/home/me/a.sock", "ProtectHome"),
        ("/root/a.sock", "ProtectHome"), ("/run/user/1000/a.sock", "ProtectHome"),
        ("/run/a.sock", ""), ("/tmpfs/a.sock", ""), ("/srv/tmp/a.sock", ""),
    ],
)  # fmt: skip
def test_a_backend_that_only_this_shell_sees(path: str, setting: str, tmp_path: Path, shipped: Path) -> None:
    """The service answered 502, while a check in a shell reached the backend."""
    says = f"listeners[0].routes[0].backend: {path} is hidden from the service by {setting}= in mcproxy.service"
    assert [each.startswith(says) for each in found(tmp_path, shipped, backend=f"unix:{path}")] == [True] * bool(
        setting
    )
    assert found(tmp_path, tmp_path / "none", backend=f"unix:{path}") == [], "no unit is installed"


def test_files_are_hidden_too(tmp_path: Path, shipped: Path) -> None:
    files = {"mode": "l7", "tls_cert": "/home/a.pem", "tls_key": "/root/a.key"}
    assert [each.split(": ")[0] for each in found(tmp_path, shipped, **files)] == [
        "listeners[0].routes[0].tls_cert", "listeners[0].routes[0].tls_key",
    ]  # fmt: skip


def test_what_the_operator_has_changed_counts(tmp_path: Path, shipped: Path) -> None:
    (shipped / "mcproxy.service.d").mkdir()
    (shipped / "mcproxy.service.d/override.conf").write_text("[Service]\nPrivateTmp=no\nProtectHome=read-only\n")
    assert found(tmp_path, shipped, backend="unix:/tmp/a.sock") == []
    assert found(tmp_path, shipped, backend="unix:/home/a.sock") == []
