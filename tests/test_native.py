import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import mcproxy
from mcproxy import words
from mcproxy.native import BUILD, COMPILED, mypyc_attr


def test_the_build_is_that_of_the_modules() -> None:
    assert (BUILD == "compiled") is COMPILED
    assert words.__file__.endswith(".so" if COMPILED else "words.py")


def test_a_mark_for_mypyc_leaves_the_class_as_it_is() -> None:
    class Marked: ...

    assert mypyc_attr(native_class=False)(Marked) is Marked


def test_a_variable_has_the_source_run_where_there_is_a_compiled_build(tmp_path: Path) -> None:
    """What stands for the compiled module can't be loaded, so the import shows which one was found."""
    package = Path(mcproxy.__file__).parent
    (tmp_path / "mcproxy").mkdir()
    for name in ("__init__.py", "words.py", "native.py"):
        shutil.copy(package / name, tmp_path / "mcproxy")
    (tmp_path / "mcproxy" / f"words{EXTENSION_SUFFIXES[0]}").write_bytes(b"compiled")

    def build(pure: str) -> str:
        command = [sys.executable, "-c", "from mcproxy.native import BUILD; import _socket; print(BUILD)"]
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "MCPROXY_PURE": pure}
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip() or done.stderr

    assert build("1") == "pure"
    assert "invalid ELF header" in build("0") or "file too short" in build("0")
