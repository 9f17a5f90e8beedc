"""Runs every check of `mcproxy check`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mcproxy.check.files import check_files
from mcproxy.check.found import Found, warning
from mcproxy.check.loaded import Loaded, load
from mcproxy.check.places import Running, check_addresses, check_descriptors, check_places
from mcproxy.check.sandbox import check_sandbox
from mcproxy.check.table import check_table
from mcproxy.check.truth import load_of_fleet
from mcproxy.configuration import Config
from mcproxy.model import counted


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings of all checks."""

    found: tuple[Found, ...]
    loaded: Loaded | None  # the table that a start would load; None: its database is unusable

    @property
    def problems(self) -> list[Found]:
        """The findings that prevent a start, or keep clients from being served."""
        return [each for each in self.found if each.serious]

    @property
    def warnings(self) -> list[Found]:
        """The rest."""
        return [each for each in self.found if not each.serious]


def check(config: Config, running: Running) -> Checked:
    """Check everything that a start depends on. Changes nothing and listens nowhere."""
    loaded, found = load(config) if config.database.url is None else load_of_fleet(config, config.database.url)
    return Checked((*found, *_check(config, loaded, running)), loaded)


def _check(config: Config, loaded: Loaded | None, running: Running) -> Iterator[Found]:
    yield from check_files(config)
    yield from check_places(config)
    if loaded is not None:
        yield from check_table(config, loaded)
    yield from check_sandbox(config, loaded)
    yield from check_addresses(config, loaded, running)
    yield from check_descriptors(config)
    yield from check_workers(config)


def check_workers(config: Config, cores: int = len(os.sched_getaffinity(0))) -> Iterator[Found]:
    """Warn if the file asks for more workers than there are cores for them."""
    workers = config.proxy.workers
    if workers != "auto" and workers > cores:
        message = f"{workers} workers have {counted(cores, 'core')}: more workers than cores only cost memory"
        yield warning("proxy.workers", message)
