"""The table that a start would load, read without changing a byte: the database's, or the file's if that is empty.

A database whose schema is older is copied, and the copy is upgraded as a start would do it.
"""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mcproxy.check.found import Found, warning
from mcproxy.configuration import Config
from mcproxy.fleet.share import orphaned, share
from mcproxy.model import counted
from mcproxy.store import schema, sqlite
from mcproxy.store.diff import FileSeed
from mcproxy.store.errors import StoreError
from mcproxy.store.store import Store, read_table
from mcproxy.table import Table

MAX_DEFECTS = 5  # of a damaged database that are shown: it has to be restored anyway


@dataclass(frozen=True, slots=True)
class Loaded:
    """The table that a start would load."""

    table: Table
    seeded: bool  # it is the file's: the database is empty, or not there yet
    places: Mapping[str, str]  # where a listener, or a route of one, is in the file
    elsewhere: int = 0  # listeners of other nodes of the fleet, which the table lacks
    source: str = "the database"

    def listener(self, addr: str) -> str:
        """Where a listener is: its key in the file, or its row in the database."""
        return f"{self.places[addr]}.addr" if self.seeded else f"listener {addr}"

    def route(self, addr: str, hostname: str, key: str) -> str:
        """The same of a field of a route."""
        place = self.places[f"{addr} {hostname}"] if self.seeded else f"route {hostname} on {addr}"
        return f"{place}{'.' if self.seeded else ': '}{key}"

    def __str__(self) -> str:
        routes = sum(len(each.routes) for each in self.table.listeners.values())
        held = f"{counted(len(self.table.listeners), 'listener')}, {counted(routes, 'route')}"
        if self.elsewhere:
            held += f", and {counted(self.elsewhere, 'listener')} of other nodes"
        return held if self.seeded else f"{held}, generation {self.table.generation} of {self.source}"


def load(config: Config) -> tuple[Loaded | None, list[Found]]:
    """The table that a start would load from a file, None if its database is unusable; and the findings."""
    path, key = config.database.file, config.database.key
    try:
        if not path.is_file() or not path.stat().st_size:
            return of_file(config), []
        version = sqlite.schema_version(path)
        if version is None:
            return of_file(config), []
        schema.refuse_newer(version)
        if defects := sqlite.defects(path):
            return None, [Found(key, _damaged(path, defects))]
        table = read_table(path) if version == schema.VERSION else upgraded(path)
    except (StoreError, OSError) as error:
        return None, [Found(key, str(error))]
    found = [] if version == schema.VERSION else [
        warning(key, f"{path} has schema version {version}: the next start upgrades it to {schema.VERSION}")
    ]  # fmt: skip
    if not table.generation:
        return of_file(config), found
    named = [warning(f"listener {addr}", remark) for addr, remark in orphaned(table)]  # it was a fleet's
    return served(config, table, {}, seeded=False), [*found, *differences(config, table), *named]


def served(config: Config, table: Table, places: Mapping[str, str], *, seeded: bool) -> Loaded:
    """What this node would serve of a table."""
    if config.database.url is None:
        return Loaded(table, seeded, places)
    part = share(table, config.node.shown)
    return Loaded(part, seeded, places, len(table.listeners) - len(part.listeners))


def of_file(config: Config) -> Loaded:
    """The table of the configuration file, which a start writes to an empty database."""
    places: dict[str, str] = {}
    for i, (listener, routes) in enumerate(config.listeners):
        places[listener.addr] = f"listeners[{i}]"
        places |= {f"{listener.addr} {route.hostname}": f"listeners[{i}].routes[{j}]"
                   for j, route in enumerate(routes)}  # fmt: skip
    return served(config, Table.build(config.seed_listeners(), config.seed_rules(), 1), places, seeded=True)


def _damaged(path: Path, defects: list[str]) -> str:
    left_out = len(defects) - MAX_DEFECTS
    more = f" and {left_out} more" if left_out > 0 else ""
    return f"{path} is damaged: stop mcproxy and restore a snapshot ({'; '.join(defects[:MAX_DEFECTS])}{more})"


def upgraded(path: Path) -> Table:
    """The table after the upgrade that a start does. Raises StoreError, OSError."""
    with tempfile.TemporaryDirectory(prefix="mcproxy-check-") as folder:
        copy = Path(folder, "copy.db")
        copy.touch(sqlite.FILE_MODE)
        sqlite.copy_into(path, copy)
        with closing(Store.open(copy)) as store:
            return store.load()


def differences(config: Config, table: Table) -> list[Found]:
    """Warn if the file's listeners, routes and rules differ from the database."""
    file = FileSeed((config.seed_listeners(table), config.seed_rules()))
    if not (count := file.differing(table)):
        return []
    differs = f"the listeners, routes and rules differ from the database in {counted(count, 'value')}"
    return [warning("", f"{differs}; the database is in force: mcproxy diff")]
