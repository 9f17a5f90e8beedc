"""deploy/scripts/publish-metrics.sh: root writes where another user owns the folder, and follows no link there."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.kit.program import ROOT

SCRIPT = ROOT / "deploy" / "scripts" / "publish-metrics.sh"
UNIT = ROOT / "deploy" / "prometheus" / "mcproxy-metrics.service"
NOBODY = 65534


@pytest.fixture
def outer() -> Iterator[Path]:
    """A folder that everybody may pass, which those of pytest are not."""
    with TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def folder(outer: Path) -> Path:
    """The collector's, which belongs to a user without rights, where only root can make that so."""
    made = outer / "collector"
    made.mkdir()
    if os.geteuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    return made


def publish(folder: Path, content: str = "mcproxy_up 1\n") -> int:
    file = folder.parent / "metrics"
    file.write_text(content)
    file.chmod(0o644)
    return subprocess.run([SCRIPT, file, folder], check=False, timeout=60).returncode


def test_the_file_is_whole_and_everybody_reads_it(folder: Path) -> None:
    for content in ("mcproxy_up 1\n", "mcproxy_up 2\n"):
        assert publish(folder, content) == 0
        assert (folder / "mcproxy.prom").read_text() == content
    assert [each.name for each in folder.iterdir()] == ["mcproxy.prom"]
    assert stat.S_IMODE((folder / "mcproxy.prom").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["mcproxy.prom", ".mcproxy.new"])
def test_a_link_of_the_folders_owner_leads_root_nowhere(name: str, folder: Path, outer: Path) -> None:
    """Root's cp wrote through a link at .mcproxy.new, into whatever file the collector's user liked."""
    victim = outer / "shadow"
    victim.write_text("secret")
    (folder / name).symlink_to(victim)
    assert publish(folder) == 0
    assert victim.read_text() == "secret"
    assert not (folder / "mcproxy.prom").is_symlink()


def test_a_folder_that_is_a_link_is_written_as_the_links_owner(outer: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    private = outer / "private"
    private.mkdir(0o755)
    link = outer / "link"
    link.symlink_to(private)
    os.lchown(link, NOBODY, NOBODY)
    assert publish(link) != 0
    assert list(private.iterdir()) == []


def test_the_unit_has_root_do_nothing_else() -> None:
    root = [line for line in UNIT.read_text().splitlines() if "=+" in line]
    assert root == [
        "ExecStartPost=+/srv/mcproxy/bin/publish-metrics.sh /run/mcproxy-metrics.prom /var/lib/prometheus/node-exporter"
    ]
