"""Which server a command talks to, and with which certificates.

Each of these comes from an option, else from a variable of the environment, else from [grpc] of the configuration file.
The file isn't read where an option or a variable names the server; a file that was given with -c comes before the
variable. Each remembers where it came from, because a remedy names what the operator has to change.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from mcproxy.access import load_access
from mcproxy.cli.options import FILE, INVALID, config_option, fail, find_config
from mcproxy.document import ConfigError
from mcproxy.model import UNIX_PREFIX
from mcproxy.notation.address import parse_api

F = TypeVar("F", bound=Callable[..., Any])

_META = "mcproxy.target"  # of click's context: what the options and the environment say, by name
_FILES = ("ca", "cert", "key")
_PAIR = {"cert", "key"}
_ELSEWHERE = "or name the server with --server ADDR"


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value, "" where it isn't set, and where to set it: "--ca", "MCPROXY_CA" or "grpc.server_ca"."""

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Target:
    """A server's admin API and what to show and verify there; the last three are paths of PEM files."""

    addr: Sourced
    ca: Sourced
    cert: Sourced
    key: Sourced

    @property
    def unix(self) -> bool:
        """True if it is a UNIX socket, which needs none of the files."""
        return self.addr.value.startswith(UNIX_PREFIX)


def _remember(context: click.Context, param: click.Parameter, value: Any) -> None:
    if value is None or param.name is None:
        return
    typed = context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    source = param.opts[0] if typed else str(param.envvar)
    context.meta.setdefault(_META, {})[param.name] = Sourced(str(value), source)


def _option(name: str, **details: Any) -> Callable[[F], F]:
    """An option that no command's function gets: `find_target` asks click's context for it."""
    variable = f"MCPROXY_{name.upper()}"
    return click.option(
        f"--{name}", envvar=variable, show_envvar=True, expose_value=False, callback=_remember, **details
    )


_PATH = {"type": FILE, "metavar": "FILE"}
_OPTIONS = (
    config_option,
    _option("server", metavar="ADDR", help='The server, "HOST:PORT" or "unix:/path", in place of a file.'),
    _option("ca", **_PATH, help="CA that has signed the server's certificate, PEM. Default: the system's."),
    _option("cert", **_PATH, help="Certificate to show to the server, PEM."),
    _option("key", **_PATH, help="Its key, PEM."),
)


def target_options(command: F) -> F:
    """The options of every client of the admin API; its function gets `config_file`, the file of -c."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def find_target(config_file: Path | None) -> Target:
    """Where to connect. Ends the program if nothing says so, or if it is wrong."""
    said = dict(_said())
    server = said.get("server")
    if server and config_file and server.source.startswith("--"):
        raise click.UsageError("--server and -c exclude each other: both name the server")
    if server and not config_file:
        found = Target(_address(server), *(said.get(name, Sourced("", f"--{name}")) for name in _FILES))
    else:
        found = _of_file(config_file, said)
    _check_pair(found)
    return found


def _said() -> dict[str, Sourced]:
    context = click.get_current_context(silent=True)
    found: dict[str, Sourced] = context.meta.get(_META, {}) if context else {}
    return found


def _address(server: Sourced) -> Sourced:
    if server.value.startswith(":"):
        raise click.UsageError(f'{server.source}: name the host, as in "proxy.example.org{server.value}"')
    try:
        return Sourced(parse_api(server.value), server.source)
    except ValueError as error:
        raise click.UsageError(f"{server.source}: {error}") from None


def _of_file(config_file: Path | None, said: dict[str, Sourced]) -> Target:
    path = find_config(config_file, elsewhere=_ELSEWHERE)
    try:
        section = load_access(path)
    except ConfigError as error:
        fail(f"{error}\nmcproxy: fix that, {_ELSEWHERE}", INVALID)
    if section is None:
        fail(
            f"mcproxy: {path} has no [grpc], so its server has no admin API: add it and restart the server,"
            f" {_ELSEWHERE}", INVALID,
        )  # fmt: skip
    of_file = {
        "ca": Sourced(section.server_ca, "grpc.server_ca"),
        "cert": Sourced(section.client_cert, "grpc.client_cert"),
        "key": Sourced(section.client_key, "grpc.client_key"),
    }
    if said.keys() & _PAIR:  # one of another pair than the file's
        of_file |= {name: Sourced("", f"--{name}") for name in _PAIR}
    return Target(Sourced(section.addr, "grpc.addr"), *(said.get(name, of_file[name]) for name in _FILES))


def _check_pair(target: Target) -> None:
    if bool(target.cert.value) == bool(target.key.value) or target.unix:
        return
    there, missing = (target.cert, target.key) if target.cert.value else (target.key, target.cert)
    raise click.UsageError(f"{there.source} needs {missing.source}: a certificate and its key go together")
