"""The table that a node of a fleet would start with: the database's, or its own copy's where that can't be had.

It is asked for as a start would (fleet/fleet.py, `begin`), and as long at the most: 5 s for each host of the URL, and
12 s for an answer (store/postgres.py). Nothing is written.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from mcproxy.check.found import Found, warning
from mcproxy.check.loaded import Loaded, differences, of_file, served, upgraded
from mcproxy.configuration import Config
from mcproxy.fleet.cache import ASIDE, fault
from mcproxy.notation.server_url import ServerUrl
from mcproxy.store import postgres, schema, sqlite
from mcproxy.store.errors import NewerSchema, NotOurs, StoreError, UnreadableRow
from mcproxy.store.store import Store, read_table

KEY = "database.url"


def load_of_fleet(config: Config, url: ServerUrl) -> tuple[Loaded | None, Sequence[Found]]:
    """The table, None where a start would have none; and the findings."""
    copy, found = _copy(config)
    if postgres.missing():  # which places.py says
        return copy, found
    with closing(postgres.attach(postgres.Server(url), "mcproxy check")) as truth:
        try:
            loaded, more = _asked(config, truth, copy)
        except NotOurs as error:
            return copy, [*found, Found(KEY, str(error))]
        except StoreError as error:
            return copy, [*found, _without(error, copy)]
    return loaded, [*found, *more]


def _asked(config: Config, truth: Store, copy: Loaded | None) -> tuple[Loaded, Sequence[Found]]:
    """The table with the database's help. Raises StoreError where a start would do without."""
    version = postgres.schema_version(truth)
    if version is None:
        postgres.refuse_empty(truth, creates=copy is None)
        empty = f"{truth.place} is empty: the first start makes its tables, and fills them from this file"
        return of_file(config), [warning(KEY, empty)]
    schema.refuse_newer(version)
    if version != schema.VERSION:
        older = f"{truth.place} has schema version {version}: the next start of a node upgrades it to {schema.VERSION}"
        return copy or of_file(config), [warning(KEY, f"{older}; nodes of older versions take no changes then")]
    table = truth.load()
    if not table.generation:
        return of_file(config), []
    return served(config, table, {}, seeded=False), differences(config, table)


def _without(error: StoreError, copy: Loaded | None) -> Found:
    """What it means for a start that the database can't be used."""
    if copy is None:
        return Found(
            KEY, f"{error}; and this node has no copy of the fleet's table: its first start needs the database"
        )
    generation = copy.table.generation
    return warning(KEY, f"{error}; a start would serve {copy.source}, generation {generation}, and take no changes")


def _copy(config: Config) -> tuple[Loaded | None, Sequence[Found]]:
    """What this node's own copy holds, None if nothing; and what is wrong with it."""
    path, key = config.database.file, config.database.key
    if path.is_file() and not os.access(path, os.R_OK | os.W_OK):  # which places.py says
        return None, []
    try:
        if not path.is_file() or not path.stat().st_size or (version := sqlite.schema_version(path)) is None:
            return None, []
        schema.refuse_newer(version)
        table = read_table(path) if version == schema.VERSION else upgraded(path)
    except (NewerSchema, NotOurs, UnreadableRow) as error:
        what = f"the copy {path} can't be used: {fault(path, error)}"
        remedy = f"a start moves it to {path}{ASIDE} and fetches it again, which needs the database"
        return None, [warning(key, f"{what}; {remedy}")]
    except (StoreError, OSError) as error:
        return None, [Found(key, str(error))]
    if not table.generation:
        return None, []
    return replace(served(config, table, {}, seeded=False), source=f"the copy {path}"), []
