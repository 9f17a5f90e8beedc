"""Where the commands find a server's admin API, and what they show and verify there: [grpc] of a configuration file.

Read without pydantic, which takes longer to load than a command takes to run. Only where something is missing or wrong
does config.py look at it too, and find the words.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcproxy.document import absolute, load_document
from mcproxy.model import UNIX_PREFIX
from mcproxy.notation.address import parse_api


@dataclass(frozen=True, slots=True)
class Access:
    """The admin API's address, and PEM files of the client's: absolute paths, "" where there is none."""

    addr: str
    client_cert: str = ""
    client_key: str = ""
    server_ca: str = ""


def load_access(path: Path) -> Access | None:
    """What the file says, None where it has no [grpc]. Nothing else in the file is looked at.

    Raises ConfigError where the file isn't TOML, or where what the commands need is wrong.
    """
    table = load_document(path).get("grpc")
    if table is None:
        return None
    return _plain(table, path.absolute().parent) or _judged(path)


def _plain(table: Any, folder: Path) -> Access | None:
    """What a table says that has all that it needs, and nothing that could be wrong."""
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
