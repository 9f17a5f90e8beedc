"""What setup.cfg can't say: what MCPROXY_COMPILE=1 compiles, and that it needs mypy.

mypyc makes one extension module of the pure rooms and the data path, which is installed beside the same source. Left
out is what runs seldom: commands, administration, the start.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext

ROOMS = ("wire", "policy", "l7", "net", "notation")
FILES = ("ledger", "lines", "stats", "table", "words")
# The head of the first says why; mypyc makes plain properties of cached ones, which the second has; it frees a local
# after its last use, such as a buffer whose address the third has packed for the kernel; its C doesn't find the class
# of sockets, from which the last two inherit.
LEFT_OUT = {
    "mcproxy/net/thrown.py", "mcproxy/l7/bridge/heads.py", "mcproxy/net/group.py", "mcproxy/net/accepted.py",
    "mcproxy/l7/sockets/tls.py",
}  # fmt: skip
COMPILER = ["mypy>=2.4.1", "types-gevent>=25.9"]


def modules() -> list[str]:
    """The files that are compiled. A room's __init__.py has nothing but a docstring."""
    rooms = [path for room in ROOMS for path in Path("mcproxy", room).rglob("*.py") if path.name != "__init__.py"]
    found = map(str, [*rooms, *(Path("mcproxy", f"{name}.py") for name in FILES)])
    return sorted(set(found) - LEFT_OUT)


def extensions() -> list[Extension]:
    """The extension modules that mypyc makes of them: all the code, and a name for each module."""
    from mypyc.build import mypycify  # noqa: PLC0415 - needed only here

    # setup.cfg's strictness is for `make types`; a build has only the annotations of gevent at hand.
    checks = ["--config-file=", "--ignore-missing-imports", "--always-true=COMPILED"]
    level = os.environ.get("MCPROXY_COMPILE_LEVEL", "3")  # of optimisation; 0 compiles in a fifth of the time
    return mypycify([*checks, *modules()], opt_level=level, debug_level="0", multi_file=True, group_name="mcproxy")


class Compiled(Distribution):
    """One that has extension modules, though it doesn't have them before they are built."""

    def has_ext_modules(self) -> bool:
        """Whether it is bound to a Python and a platform."""
        return True


class Compile(build_ext):
    """Has mypyc write C, and compiles that on all cores."""

    def finalize_options(self) -> None:
        """Run mypyc only now: metadata is made before it is installed."""
        self.distribution.ext_modules = extensions()
        super().finalize_options()

    def build_extension(self, ext: Extension) -> None:
        """Compile the files side by side, one for each module, then link them."""
        compile_some = self.compiler.compile

        def compile_all(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as cores:
                made = cores.map(lambda source: compile_some([source], **options), sources)
                return [name for names in made for name in names]

        self.compiler.compile = compile_all
        try:
            super().build_extension(ext)
        finally:
            self.compiler.compile = compile_some


if os.environ.get("MCPROXY_COMPILE", "0") == "1" and "sdist" not in sys.argv:  # an archive of source has no C
    setup(distclass=Compiled, cmdclass={"build_ext": Compile}, setup_requires=COMPILER)
else:
    setup()
