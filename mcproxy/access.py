"""Where the commands find a server's admin API, and the certificates for it: [grpc] of a configuration file.

It is read without pydantic, which takes longer to load than a command takes to run. Only if something is missing or
wrong does config.py read it too, for the error messages.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcproxy.document import absolute, load_document
from mcproxy.model import UNIX_PREFIX
from mcproxy.notation.address import parse_api


@dataclass(frozen=True, slots=True)
class Access:
    """The admin API's address, and the client's PEM files: absolute paths, "" if not set."""

    addr: str
    client_cert: str = ""
    client_key: str = ""
    server_ca: str = ""


def load_access(path: Path) -> Access | None:
    """The file's [grpc], None if it has none. Nothing else in the file is read.

    Raises ConfigError if the file isn't TOML, or if a key that the commands need is wrong.
    """
    table = load_document(path).get("grpc")
    if table is None:
        return None
    return _plain(table, path.absolute().parent) or _judged(path)


def _plain(table: Any, folder: Path) -> Access | None:
    """The access that a table describes; None if a key is missing or might be wrong."""
    if not isinstance(table, dict) or "addr" not in table:
        return None
    values = {key: table[key] for key in Access.__slots__ if key in table}
    if not all(isinstance(value, str) and "\0" not in value for value in values.values()):
        return None
    addr = values.pop("addr")
    files = {key: absolute(value, folder) for key, value in values.items()}
    if bool(files.get("client_cert")) != bool(files.get("client_key")):
        return None
    socket = addr.removeprefix(UNIX_PREFIX)
    try:
        return Access(parse_api(UNIX_PREFIX + absolute(socket, folder) if socket != addr and socket else addr), **files)
    except ValueError:
        return None


def _judged(path: Path) -> Access | None:
    from mcproxy.config import load_api  # noqa: PLC0415 - see above

    section = load_api(path)
    if section is None:
        return None
    return Access(section.addr, section.client_cert, section.client_key, section.server_ca)
