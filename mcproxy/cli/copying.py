"""`mcproxy database copy`: opens both databases itself, so it needs no server."""

from pathlib import Path
from typing import Any

import click

from mcproxy.cli import output
from mcproxy.cli.groups import Group
from mcproxy.cli.options import config_option, example, fail, find_config, json_option, load_config
from mcproxy.model import counted
from mcproxy.notation.server_url import ServerUrl, parse_server_url
from mcproxy.store import copying
from mcproxy.store.errors import StoreError

_SHOWN = {"listeners": "listener", "routes": "route", "firewall_rules": "firewall rule", "audit": "revision"}


class _Database(click.ParamType[copying.Location]):
    """A SQLite file, or the URL of a PostgreSQL server."""

    name = "file or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> copying.Location:
        """Read one; an error doesn't show a password."""
        if isinstance(value, Path | ServerUrl):
            return value
        if "://" not in value:
            return Path(value)
        try:
            return parse_server_url(value)
        except ValueError as error:
            self.fail(f"the URL {error}", param, ctx)


@click.group(cls=Group, epilog=example("mcproxy database copy postgresql://mcproxy@db.example.org/mcproxy"))
def database() -> None:
    """Move a database between SQLite and PostgreSQL."""


@database.command(
    epilog=example(
        "mcproxy database copy postgresql://mcproxy@db.example.org/mcproxy",
        "mcproxy database copy --from data/cache.db postgresql://mcproxy@db.example.org/mcproxy",
    )
)
@config_option
@json_option
@click.option("--from", "source", type=_Database(), help="A file or URL. Default: the configuration file's database.")
@click.argument("target", type=_Database())
def copy(config_file: Path | None, as_json: bool, source: copying.Location | None, target: copying.Location) -> None:
    """Copy the whole database, history and keys included, into TARGET, which is empty: a file or a URL.

    Stop the servers that use it first. The copy is read again and compared before and after its commit; a copy that
    fails leaves TARGET empty. Other users of this machine can see a password in an argument: use a password file.
    """
    if source is None:
        configured = load_config(find_config(config_file)).database
        source = configured.url or configured.file
    try:
        if copying.in_use(source):
            output.say(
                f"warning: {source} may be in use: the copy has nothing that its server changes later; stop it first",
                err=True,
            )
        copied = copying.copy(source, target)
    except StoreError as error:
        fail(f"mcproxy: {error}")
    if as_json:
        output.emit_json({"target": str(target), "generation": copied.generation, "rows": dict(copied.rows)})
        return
    held = ", ".join(counted(copied.rows[name], noun) for name, noun in _SHOWN.items())
    output.say(f"{target}: generation {copied.generation}, {held}, verified")
