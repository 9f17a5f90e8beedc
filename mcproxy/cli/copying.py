"""`mcproxy database copy`: opens both databases itself, so it needs no server."""

from pathlib import Path

import click

from mcproxy.cli import output
from mcproxy.cli.groups import Group
from mcproxy.cli.options import config_option, example, fail, find_config, json_option, load_config
from mcproxy.model import counted
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store import copying
from mcproxy.store.errors import StoreError

# Tables, and what their rows are called.
_SHOWN = {"listeners": "listener", "routes": "route", "firewall_rules": "firewall rule", "audit": "revision"}


def _location(text: str) -> copying.Location:
    """A SQLite file, or the URL of a PostgreSQL server; an error doesn't show a password."""
    if "://" not in text:
        return Path(text)
    try:
        return parse_server_url(text)
    except ValueError as error:
        raise click.BadParameter(f"the URL {error}") from None


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
@click.option(
    "--from", "source", type=_location, metavar="FILE|URL", help="Default: the configuration file's database."
)
@click.argument("target", type=_location)
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
        rows = {f"{noun.replace(' ', '_')}s": copied.rows[name] for name, noun in _SHOWN.items()}
        output.emit_json({"target": str(target), "generation": copied.generation, **rows})
        return
    held = ", ".join(counted(copied.rows[name], noun) for name, noun in _SHOWN.items())
    output.say(f"{target}: generation {copied.generation}, {held}, verified")
