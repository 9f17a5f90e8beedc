"""deploy/scripts/install.sh, as a new user would run it, into an empty tree.

The installation runs; a second run changes nothing; the operator's files stay; --uninstall leaves the data.
"""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.peers import connect, free_port, is_reset
from tests.kit.program import ROOT, Program

INSTALL = ROOT / "deploy" / "scripts" / "install.sh"
pytestmark = pytest.mark.xdist_group("install")  # it is installed once, for all of them
TIMEOUT = 900.0  # seconds; what it takes from the package index comes over a network


def install(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [str(INSTALL), "--python", sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's /, on which it was installed."""
    root = tmp_path_factory.mktemp("machine")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    done = install("--root", root)
    assert done.returncode == 0, done.stderr
    return root


def modes(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file but Python's own, with its permissions and the time of its last change."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and "venv" not in path.parts:
            status = path.stat()
            found[str(path.relative_to(folder))] = (stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    return found


def test_what_is_there(tree: Path) -> None:
    found = {name: oct(mode) for name, (mode, _) in modes(tree).items() if not name.startswith("etc/group")}
    units = {f"etc/systemd/system/{unit.name}" for unit in (ROOT / "deploy" / "systemd").iterdir()}
    assert units <= set(found)
    assert found["srv/mcproxy/mcproxy.toml"] == "0o640"
    assert found["srv/mcproxy/bin/backup.sh"] == found["srv/mcproxy/bin/prune-backups.sh"] == "0o755"
    for folder in ("data", "backups"):
        assert stat.S_IMODE((tree / "srv/mcproxy" / folder).stat().st_mode) == 0o700
    scripts = (tree / "srv/mcproxy/venv/bin/mcproxy").read_text()
    assert scripts.startswith("#!/srv/mcproxy/venv/bin/python")
    assert str(tree) not in scripts
    if os.geteuid() == 0:
        assert re.search(
            r"^mcproxy:.*:/srv/mcproxy:/usr/sbin/nologin$", (tree / "etc/passwd").read_text(), re.MULTILINE
        )
        assert (tree / "srv/mcproxy/data").stat().st_uid != 0
        assert (tree / "srv/mcproxy/venv/bin/mcproxy").stat().st_uid == 0


def test_what_was_installed_runs(tree: Path, tmp_path: Path) -> None:
    python, home = tree / "srv/mcproxy/venv/bin/python", tree / "srv/mcproxy"
    port = free_port()
    example = (home / "mcproxy.toml").read_text()
    (tmp_path / "data").mkdir()
    config = tmp_path / "mcproxy.toml"
    config.write_text(example.replace(":443", f"127.0.0.1:{port}"))
    alone = {"PATH": os.environ["PATH"]}  # this tree's code is not on its path
    command: list[str | Path] = [python, "-I", "-m", "mcproxy"]
    checked = subprocess.run(
        [*command, "check", "-c", config], capture_output=True, text=True, env=alone, timeout=60, check=True
    )
    assert checked.stdout.endswith("OK (1 listener, 0 routes)\n")
    with Program(*command, "server", "-c", config, env=alone, cwd=tmp_path) as server:
        server.line("started, generation")
        with connect(port) as client:
            client.sendall(b"no route for anybody yet")
            assert is_reset(client)
        server.process.terminate()
        assert server.wait() == 0


NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"]

# Boots a machine whose files are those of a tree, twice. /run is empty, and nobody but supervisord does anything there.
BOOT_TWICE = """
mount --bind {tree}/srv /srv
for each in etc/passwd etc/group var/log; do mount --bind {tree}/$each /$each; done
for boot in 1 2; do
	mount -t tmpfs tmpfs /run
	{supervisord} -c {main}
	tries=0
	until /srv/mcproxy/venv/bin/mcproxy status; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] || {{ cat /var/log/mcproxy/mcproxy.log; exit 1; }}
		sleep 0.1
	done
	stat -c 'owner %U' /srv/mcproxy/data/admin.sock
	pid=$(cat /run/supervisord.pid)
	kill -TERM $pid
	while kill -0 $pid 2>/dev/null; do sleep 0.1; done
	umount /run
done
"""
SUPERVISORD = """
[supervisord]
logfile=/var/log/supervisord.log
pidfile=/run/supervisord.pid
[include]
files = {tree}/etc/supervisor/conf.d/*.conf
"""


def reachable(scratch: Path) -> str:
    """Commands that let every user run this interpreter, where it is in a home that only its owner may enter."""
    closed = [each for each in Path(sys.base_prefix).parents if not each.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ""
    kept = [each for each in {sys.base_prefix, sys.prefix} if Path(each).is_relative_to(closed[-1])]
    lines = [f"mkdir -p {scratch}{each}; mount --bind {each} {scratch}{each}" for each in kept]
    lines.append(f"mount -t tmpfs -o mode=755 tmpfs {closed[-1]}")
    lines += [f"mkdir -p {each}; mount --bind {scratch}{each} {each}" for each in kept]
    return "\n".join(lines)


def test_it_runs_under_supervisord_after_every_boot(tree: Path, tmp_path: Path) -> None:
    """As shipped it crash-looped: each boot cleared the admin socket's folder below /run, and nobody made it."""
    if os.geteuid() != 0 or subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, and namespaces")
    config = tree / "srv/mcproxy/mcproxy.toml"
    shipped = config.read_text()
    config.write_text(shipped.replace("unix:data/admin.sock", "unix:/run/mcproxy/admin.sock"))
    done = install("--root", tree, "--supervisor")
    assert done.returncode == 0, done.stderr
    assert "only systemd makes folders below /run" in done.stdout, "of a configuration that was shipped once"
    config.write_text(shipped)
    assert stat.S_IMODE((tree / "var/log/mcproxy").stat().st_mode) == 0o750, "the log names every client"
    (tmp_path / "supervisord.conf").write_text(SUPERVISORD.format(tree=tree))
    script = BOOT_TWICE.format(
        tree=tree, main=tmp_path / "supervisord.conf", supervisord=f"{sys.executable} -m supervisor.supervisord"
    )
    command = [*NAMESPACES, "sh", "-euc", f"{reachable(tmp_path)}\n{script}"]
    booted = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert booted.returncode == 0, booted.stdout + booted.stderr
    lines = booted.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines if line.startswith("serving")] == ["serving", "serving"]
    assert [line for line in lines if line.startswith("owner")] == ["owner mcproxy", "owner mcproxy"]


def test_a_second_run_changes_nothing_and_keeps_what_was_written(tree: Path) -> None:
    config = tree / "srv/mcproxy/mcproxy.toml"
    config.write_text(config.read_text() + "# mine\n")
    before = modes(tree)
    done = install("--root", tree)
    assert done.returncode == 0, done.stderr
    assert modes(tree) == before
    assert [line for line in done.stdout.splitlines() if "made" in line or "wrote" in line or "added" in line] == []


def test_a_unit_that_was_changed_is_put_right(tree: Path) -> None:
    unit = tree / "etc/systemd/system/mcproxy.service"
    was = unit.read_text()
    unit.write_text("[Unit]\n")
    done = install("--root", tree)
    assert f"wrote {unit}" in done.stdout
    assert unit.read_text() == was


def test_uninstall_leaves_the_data(tmp_path: Path) -> None:
    home = tmp_path / "opt/proxy"
    for folder in ("venv/bin", "bin", "data", "backups"):
        (home / folder).mkdir(parents=True)
    for file in ("mcproxy.toml", "data/mcproxy.db", "backups/mcproxy-20260101T000000Z.db", "bin/backup.sh"):
        (home / file).touch()
    unit = tmp_path / "etc/systemd/system/mcproxy.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    done = install("--root", tmp_path, "--prefix", "/opt/proxy", "--uninstall")
    assert done.returncode == 0, done.stderr
    left = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert left == {"mcproxy.toml", "data/mcproxy.db", "backups/mcproxy-20260101T000000Z.db"}
    assert not unit.exists()
    again = install("--root", tmp_path, "--prefix", "/opt/proxy", "--uninstall")
    assert again.returncode == 0
    assert "removed" not in again.stdout


@pytest.mark.parametrize(
    "arguments", [["--wrong"], ["--prefix"], ["--prefix", "relative"], ["--prefix", "/"], ["--prefix", "/a b"]]
)
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    done = install("--root", tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(("install.sh: ", "Installs"))
    assert not list(tmp_path.iterdir())


def test_the_scripts_are_sound() -> None:
    scripts = [*ROOT.glob("deploy/**/*.sh"), *ROOT.glob("tests/*.sh")]
    command = [Path(sys.executable).parent / "shellcheck", *scripts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
