"""Commands in a pipe: what one prints, another reads."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import listener
from tests.kit.peers import DEADLINE
from tests.kit.program import Server, environment

NAME = "a.example.org"


def test_an_export_is_edited_and_applied_without_a_file(tmp_path: Path) -> None:
    """Paths of standard input are relative to the current folder."""
    config = {"listeners": [listener({NAME: "127.0.0.1:3000"})], "grpc": {"addr": f"unix:{tmp_path}/admin.sock"}}
    with Server(tmp_path, config) as server:
        server.line("started")

        def mcproxy(*words: str, given: str = "") -> str:
            command = [sys.executable, "-m", "mcproxy", *words]
            variables = environment(MCPROXY_CONFIG=str(tmp_path / "mcproxy.toml"))
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, timeout=DEADLINE, env=variables, check=True,
                cwd=tmp_path,
            )  # fmt: skip
            return done.stdout

        exported = mcproxy("export")
        assert mcproxy("apply", "-", given=exported) == "nothing to change (generation 1)\n"
        moved = mcproxy("apply", "-", given=exported.replace(":3000", ":3001"))
        assert "127.0.0.1:3000 -> 127.0.0.1:3001" in moved
        relative = exported.replace('backend = "127.0.0.1:3000"', 'backend = "unix:here.sock"')
        assert f"unix:{tmp_path}/here.sock" in mcproxy("apply", "-", given=relative)
