"""Which program is on the disk, and whether a process still runs it: after an upgrade it doesn't."""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import mcproxy

_REPLACED = " (deleted)"  # proc_pid_maps(5): the file no longer has a name
_MEMORY = "/memfd:"  # memfd_create(2): it never had one
_EXECUTED = "x"  # in the permissions of a mapping


def installed() -> str:
    """A digest of what is installed: mcproxy's files, the versions of what it imports, the interpreter.

    By inode, size and time of change: whatever was written again counts as another one.
    """
    digest = hashlib.sha256()
    for path in sorted(_files()):
        try:
            found = path.stat()
        except OSError:  # it has just been replaced
            continue
        digest.update(f"{path}\0{found.st_ino}\0{found.st_size}\0{found.st_ctime_ns}\n".encode())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    package = Path(mcproxy.__file__).parent
    for folder, folders, names in os.walk(package):
        folders[:] = [each for each in folders if each != "__pycache__"]
        yield from (Path(folder, each) for each in names)
    for each in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(package.parent)}:
        yield from Path(each).glob("*.dist-info/RECORD")  # pip writes it with each version
    yield Path(os.path.realpath(sys.executable))
    yield Path(os.__file__)


def replaced(pid: int) -> bool:
    """Whether a process runs a program or a library that has been replaced on the disk. False if that isn't known."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except OSError:
        return False
    mapped = [fields for line in lines if len(fields := line.split(maxsplit=5)) == 6]
    executed = [name for _, permissions, _, _, _, name in mapped if _EXECUTED in permissions]
    return any(each.startswith("/") and each.endswith(_REPLACED) for each in executed if not each.startswith(_MEMORY))
