"""The tests of what is pure, under other Pythons than the suite's: its version may change what a pattern matches.

    python tests/pure.py [PYTHON...]

Without arguments: under every other CPython that setup.cfg names and that is found on the PATH or among pyenv's. Each
has a small environment of its own in .venv-pure, with what these tests import and nothing else. Returns 1 where one
fails.
"""

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venv-pure"
TIMEOUT = 1800.0  # seconds for one Python; a loaded machine needs some 120, at a low priority many times as much

TESTS = (
    "notation", "wire", "policy", "l7/http2", "l7/relay", "l7/bridge", "l7/test_core.py",
    "test_config.py", "test_conflicts.py", "test_document.py", "test_journal.py", "test_lines.py", "test_model.py",
    "test_words.py",
)  # fmt: skip
PACKAGES = {"h11", "h2", "hpack", "hypothesis", "idna", "pydantic", "pytest", "pytest-xdist"}

ASK = "import sys; print(sys.implementation.name, '.'.join(map(str, sys.version_info[:3])))"


def setup() -> configparser.ConfigParser:
    """setup.cfg: which Pythons and which packages."""
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def named() -> set[str]:
    """The versions in the classifiers, such as "3.12"."""
    return set(re.findall(r"Python :: (3\.\d+)$", setup()["metadata"]["classifiers"], re.MULTILINE))


def dependencies() -> dict[str, str]:
    """What the program and its tests need: the line in setup.cfg for each name."""
    options = setup()
    lines = f"{options['options']['install_requires']}\n{options['options.extras_require']['test']}".split()
    return {re.split(r"[=<>]", line)[0]: line for line in lines}


def requirements() -> list[str]:
    """What these tests import, with the bounds of setup.cfg."""
    return [line for name, line in dependencies().items() if name in PACKAGES]


def modules() -> list[str]:
    """The names of these tests."""
    paths = [ROOT / "tests" / each for each in TESTS]
    files = [file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(files)]


def candidates() -> Iterator[Path]:
    """Every file that looks like a Python, on the PATH and among pyenv's."""
    for folder in map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep)):
        yield from sorted(each for each in folder.glob("python3.*") if re.fullmatch(r"python3\.\d+", each.name))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/*/bin/python3"))


def version_of(python: Path | str) -> str:
    """Such as "3.12.1"; "" for what is no CPython or doesn't run (pyenv has scripts for what is not chosen)."""
    done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    name, _, version = done.stdout.strip().partition(" ")
    return version if name == "cpython" and done.returncode == 0 else ""


def others(pythons: Iterable[Path]) -> dict[str, Path]:
    """One for each version that setup.cfg names, but for this one."""
    versions = named()
    found: dict[str, Path] = {}
    for python in pythons:
        version = version_of(python)
        if version.rpartition(".")[0] in versions and version != version_of(sys.executable):
            found.setdefault(version, python)
    return found


def environment(version: str, python: Path | str) -> Path:
    """The interpreter of that version's environment, which is made where there is none. It has no pip: ours serves."""
    folder = ENVIRONMENTS / version
    inside, done, wanted = folder / "bin" / "python", folder / "installed", "\n".join(requirements())
    if not done.exists() or done.read_text() != wanted:
        subprocess.run([python, "-m", "venv", "--clear", "--without-pip", folder], check=True, timeout=TIMEOUT)
        pip: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            inside,
            "--disable-pip-version-check",
            "install",
            "--quiet",
        ]
        subprocess.run([*pip, *requirements()], check=True, timeout=TIMEOUT)
        done.write_text(wanted)
    return inside


def passes(version: str, python: Path | str) -> bool:
    """Whether the tests pass under this Python."""
    print(f"--- Python {version}, {python}", flush=True)
    paths = [f"tests/{each}" for each in TESTS]
    quick = ["-n", "auto", "--maxprocesses", "8", "--noconftest", "-p", "no:cacheprovider", "-q"]
    command: list[str | Path] = [environment(version, python), "-m", "pytest", *quick, *paths]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=TIMEOUT).returncode == 0


def main() -> int:
    """Run them under each, all to the end."""
    chosen = {version_of(each): each for each in map(Path, sys.argv[1:])} or others(candidates())
    if not chosen:
        print(f"no other Python found of {', '.join(sorted(named()))}")
        return 0
    with ThreadPoolExecutor() as pool:  # pip takes one core, and waits for the index
        list(pool.map(environment, chosen.keys(), chosen.values()))
    failed = [version for version, python in chosen.items() if not passes(version, python)]
    print(f"Python {', '.join(failed)} failed" if failed else f"Python {', '.join(chosen)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
