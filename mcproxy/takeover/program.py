"""Which program is on the disk, whether a process still runs it after an upgrade, and which are servers."""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
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


def is_server(pid: int, configuration: Path) -> bool:
    """Whether a process is a server by its command line, or the keeper of one, that names no other configuration."""
    words = _words(pid)
    if "server" not in words[1:]:
        return False
    at = words.index("server", 1)
    by, program, options = Path(words[0]).name, Path(words[at - 1]).name, words[at + 1 :]
    if not (by.startswith("python") or at == 1) or program != "mcproxy":
        return False
    if any(each.split("=")[0] == "--reload" for each in options):  # another one like us
        return False
    named = _named(options)
    return named is None or _real(f"/proc/{pid}/cwd", named) == os.path.realpath(configuration)


def is_keeper(pid: int, server: int) -> bool:
    """Whether a process is the keeper (keeper.py) of a server."""
    try:
        status = Path(f"/proc/{server}/stat").read_text(errors="replace")
    except OSError:
        return False
    parent = int(status.rpartition(")")[2].split()[1])  # proc_pid_stat(5): the name before may have anything in it
    return parent == pid and "--keep-pid" in _words(pid)


def _words(pid: int) -> list[str]:
    """Its command line; without a word if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def _named(options: Sequence[str]) -> str | None:
    """The configuration file of these options; None: they name none, so it is one of the usual places."""
    import argparse  # noqa: PLC0415 - a server never looks at another one's command line, and it takes 0.4 MB

    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-c", "--config", nargs="?")
    found: str | None = parser.parse_known_args(options)[0].config
    return found


def _real(folder: str, path: str) -> str:
    return os.path.realpath(Path(os.path.realpath(folder), path))
