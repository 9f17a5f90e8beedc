"""`mcproxy snapshot` and `mcproxy diff`: they open the database file itself, so they work with the server down."""

import json
import time
from pathlib import Path

import click

from mcproxy.change import Value, What
from mcproxy.cli import output
from mcproxy.cli.options import config_option, fail, find_config, json_option, load_config
from mcproxy.store import records, snapshot
from mcproxy.store.diff import Difference, differences
from mcproxy.store.errors import StoreError
from mcproxy.store.store import read_table


@click.command("snapshot")
@config_option
@json_option
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="Default: beside the database.")
def snapshot_command(given: Path | None, as_json: bool, target: Path | None) -> None:
    """Write a consistent, verified copy of the database to a new file."""
    database = Path(load_config(find_config(given)).database.path)
    target = target or database.with_name(snapshot.default_name(database, time.time()))
    try:
        taken = snapshot.take(database, target.absolute())
    except StoreError as error:
        fail(f"mcproxy: {error}")
    if as_json:
        output.emit_json({"path": str(taken.path), "size_bytes": taken.size, "generation": taken.generation})
    else:
        click.echo(f"{taken.path}: {output.amount(taken.size)}, generation {taken.generation}, verified")


@click.command()
@config_option
@json_option
def diff(given: Path | None, as_json: bool) -> None:
    """Show what the configuration file says against what the database holds."""
    path = find_config(given)
    config = load_config(path)
    try:
        table = read_table(Path(config.database.path))
    except StoreError as error:
        fail(f"mcproxy: {error}")
    found = differences((config.seed_listeners(), config.seed_rules()), table)
    if as_json:
        output.emit_json([_plain(each) for each in found])
    elif not found:
        click.echo(f"{path} and the database agree (generation {table.generation})")
    else:
        for each in found:
            click.echo(_line(each))


def _plain(difference: Difference) -> dict[str, object]:
    what = difference.key.what
    return {
        "what": str(what),
        "scope": difference.key.scope,
        "name": difference.key.name,
        "file": _fields(what, difference.file),
        "database": _fields(what, difference.database),
    }


def _fields(what: What, value: Value | None) -> dict[str, object] | None:
    return None if value is None else dict(records.RECORDS[what].fields(value))


def _line(difference: Difference) -> str:
    file = _fields(difference.key.what, difference.file)
    database = _fields(difference.key.what, difference.database)
    if file is None:
        return f"only in the database: {difference.key}"
    if database is None:
        return f"only in the file: {difference.key}"
    changed = [f"{k} is {json.dumps(v)} in the file, {json.dumps(database[k])} in the database"
               for k, v in file.items() if database[k] != v]  # fmt: skip
    return f"differs: {difference.key}: {'; '.join(changed)}"
