"""`mcproxy snapshot` and `mcproxy diff`: they open the database file itself, so they work with the server down."""

import sys
import time
from pathlib import Path

import click

from mcproxy.change import Change
from mcproxy.cli import output, plan
from mcproxy.cli.options import FAILED, config_option, example, fail, find_config, json_option, load_config
from mcproxy.cli.plan import Shown
from mcproxy.store import records, snapshot
from mcproxy.store.diff import differences
from mcproxy.store.errors import StoreError
from mcproxy.store.store import read_table


@click.command("snapshot", epilog=example("mcproxy snapshot -o /var/backups/mcproxy.db"))
@config_option
@json_option
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="Default: beside the database.")
def snapshot_command(config_file: Path | None, as_json: bool, target: Path | None) -> None:
    """Write a consistent, verified copy of the database to a new file."""
    database = load_config(find_config(config_file)).database.file
    target = target or database.with_name(snapshot.default_name(database, time.time()))
    try:
        taken = snapshot.take(database, target.absolute())
    except StoreError as error:
        fail(f"mcproxy: {error}")
    if as_json:
        output.emit_json({"path": str(taken.path), "size_bytes": taken.size, "generation": taken.generation})
    else:
        output.say(f"{taken.path}: {output.amount(taken.size)}, generation {taken.generation}, verified")


@click.command(epilog=example("mcproxy diff"))
@config_option
@json_option
def diff(config_file: Path | None, as_json: bool) -> None:
    """Show how the configuration file differs from the database.

    It shows what `mcproxy apply FILE --prune` would do: + is only in the file, - only in the database, ~ differs, with
    the value in the database and the one in the file. Exit status 1 if there is a difference.
    """
    path = find_config(config_file)
    config = load_config(path)
    try:
        table = read_table(config.database.file)
    except StoreError as error:
        fail(f"mcproxy: {error}")
    found = [_shown(each) for each in differences((config.seed_listeners(), config.seed_rules()), table)]
    if as_json:
        output.emit_json(plan.as_json(found))
    elif found:
        for each in found:
            output.say(str(each))
        output.say(f"{plan.summary(found)}: {path} against the database (generation {table.generation})")
    else:
        output.say(f"{path} and the database agree (generation {table.generation})")
    sys.exit(FAILED if found else 0)


def _shown(change: Change) -> Shown:
    fields = records.RECORDS[change.key.what].fields
    old, new = (None if value is None else fields(value) for value in (change.old, change.new))
    return Shown(change.key, old, new)
