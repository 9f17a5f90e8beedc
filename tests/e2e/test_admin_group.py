"""With grpc.group its members administer without being root, and the audit names each of them."""

import grp
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.kit.program import Server, bounded, environment

# The interpreter may be where only root can read it, so what is needed is loaded before.
AS_SOMEBODY = """
import os, sys
import grpc._channel
from mcproxy.cli import client, routes
from mcproxy.cli.main import main
user, groups = int(sys.argv.pop(1)), [int(sys.argv.pop(1))]
os.setgroups(groups)
os.setresgid(user, user, user)
os.setresuid(user, user, user)
main()
"""
GROUP = grp.getgrnam("daemon")  # which every Debian has, and which owns nothing here
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may pass, unlike pytest's."""
    with TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def run_as(user: int, group: int, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of somebody else."""
    command = [sys.executable, "-c", AS_SOMEBODY, str(user), str(group), *arguments]
    with bounded(*command, "--server", f"unix:{folder}/admin.sock", cwd=folder, env=environment()) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_the_audit_names_the_member(folder: Path) -> None:
    route = {"hostname": "a.test", "backend": "127.0.0.1:1"}
    document = {
        "grpc": {"addr": f"unix:{folder}/admin.sock", "group": GROUP.gr_name},
        "listeners": [{"addr": "127.0.0.1:0", "routes": [route]}],
    }
    with Server(folder, document):
        removal = ("routes", "remove", "a.test", "--comment", "it moved")
        stranger = run_as(NOBODY.pw_uid, NOBODY.pw_gid, folder, *removal)
        assert (stranger.returncode, stranger.stdout) == (3, "")
        assert "the socket belongs to another user" in stranger.stderr
        member = run_as(NOBODY.pw_uid, GROUP.gr_gid, folder, *removal)
        assert (member.returncode, member.stderr) == (0, "")
        history = run_as(NOBODY.pw_uid, GROUP.gr_gid, folder, "routes", "history")
        newest = history.stdout.splitlines()[1].split("\t")
        assert (newest[2], newest[-1]) == (f"user:nobody:{NOBODY.pw_uid}", "it moved")
