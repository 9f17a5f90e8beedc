"""The tests of the data path, under a build that mypyc has compiled.

    python tests/compiled.py --compile
    python tests/compiled.py [TEST...]

The first copies the tree to build/compiled and compiles it there in place, without optimisation; the second runs the
tests of the pure rooms and some with sockets there. Most unit tests of net and l7/sockets are left out: their
stand-ins for other parts are no instances of compiled classes. Returns 1 where something fails, and 0 where there is no
C compiler, or nothing that it could compile against.

What such a run finds are the places where mypyc's Python is another one: an annotation of a library that isn't true
raises TypeError, and a tuple whose type has a length is taken apart, so `is` never finds it again.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPY = ROOT / "build" / "compiled"
TIMEOUT = 1800.0  # seconds for each step; a loaded machine needs some 120, at a low priority many times as much

TESTS = (
    "tests/test_native.py", "tests/test_ledger.py", "tests/test_stats.py", "tests/test_table.py", "tests/notation",
    "tests/policy", "tests/wire", "tests/l7/http2", "tests/l7/relay", "tests/l7/bridge",
    "tests/l7/sockets/test_channel.py", "tests/net/test_read_guard.py",
    "tests/e2e/test_half_close.py", "tests/e2e/test_http2_sessions.py", "tests/e2e/test_key_updates.py",
    "tests/e2e/test_pairings.py", "tests/e2e/test_routing.py",
)  # fmt: skip


def copy() -> None:
    """Make the copy, of the files that git knows or would, where they are there."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    shutil.rmtree(COPY, ignore_errors=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)


def run(*command: str, **variables: str) -> bool:
    """Whether a command in the copy succeeds, with the copy's code before that of the environment."""
    env = {**os.environ, "PYTHONPATH": str(COPY), **variables}
    return subprocess.run([sys.executable, *command], cwd=COPY, env=env, check=False, timeout=TIMEOUT).returncode == 0


def missing() -> str:
    """What mypyc needs and this machine doesn't have, or ""."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "" if shutil.which(compiler) and header.exists() else f"{compiler} or {header}"


def compile_copy() -> bool:
    """Make the copy, compiled; whether that succeeds."""
    copy()
    with (COPY / "build.log").open("w") as log:
        built = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            cwd=COPY, env={**os.environ, "MCPROXY_COMPILE": "1", "MCPROXY_COMPILE_LEVEL": "0"},
            stdout=log, stderr=subprocess.STDOUT, check=False, timeout=TIMEOUT,
        )  # fmt: skip
    if built.returncode != 0:
        print((COPY / "build.log").read_text())
    return built.returncode == 0


def test(tests: Sequence[str]) -> bool:
    """Whether these tests pass in the copy, which has to be a compiled one."""
    quick = ["-q", "-p", "no:cacheprovider", "-n", "auto", "--maxprocesses", "8", "--dist", "loadgroup"]
    return run("-c", "from mcproxy.native import COMPILED; assert COMPILED") and run("-m", "pytest", *quick, *tests)


def main() -> int:
    """Compile or test."""
    if lacks := missing():
        print(f"nothing is compiled, for want of {lacks}")
        return 0
    arguments = sys.argv[1:]
    done = compile_copy() if arguments == ["--compile"] else test(arguments or TESTS)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
