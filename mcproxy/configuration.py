"""The configuration as the program has it: frozen values, of which each has been checked (config.py).

Field names are the keys of the file; durations are in seconds, paths absolute, "" stands for what isn't set.
Tested by tests/test_config.py.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcproxy.model import BLOCKED_LISTS, FirewallRule, Listener, LogLevel, Route
from mcproxy.notation.server_url import ServerUrl
from mcproxy.table import Table

NOTHING = Table()


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """[database]: a file of this node's own, or a fleet's server and this node's copy of what it holds."""

    path: str
    url: ServerUrl | None
    cache: str

    @property
    def file(self) -> Path:
        """The SQLite file: the database, or this node's copy of the fleet's."""
        return Path(self.cache if self.url is not None else self.path)

    @property
    def key(self) -> str:
        """The key that names it."""
        return "database.cache" if self.url is not None else "database.path"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """[node]."""

    name: str

    @property
    def shown(self) -> str:
        """The name of this node, the host's where none is set."""
        return self.name or re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename)[:64] or "node"


@dataclass(frozen=True, slots=True)
class GrpcConfig:
    """[grpc]: the admin API, as the server and as the commands see it."""

    addr: str
    client_cert: str = ""
    client_key: str = ""
    server_ca: str = ""
    group: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""


@dataclass(frozen=True, slots=True)
class AcmeConfig:
    """[acme]."""

    directory: str
    email: str
    accept_terms: bool
    profile: str
    ca: str


@dataclass(frozen=True, slots=True)
class FirewallConfig:
    """[firewall]; the lists are only the seed of an empty database."""

    geoip_db: str
    blocked_ips: tuple[str, ...]
    blocked_cidrs: tuple[str, ...]
    blocked_countries: tuple[str, ...]
    max_connections_per_ip: int
    connection_rate_per_ip: float
    connection_burst_per_ip: int


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """[proxy]."""

    connect_timeout: float
    handshake_timeout: float
    idle_timeout: float
    half_close_timeout: float
    backend_idle_timeout: float
    shutdown_timeout: float
    max_connections: int
    workers: int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]."""

    level: LogLevel
    format: Literal["text", "json"]


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. `listeners`, with their routes, and the `blocked_*` lists only seed an empty database."""

    database: DatabaseConfig
    node: NodeConfig
    listeners: tuple[tuple[Listener, tuple[Route, ...]], ...]
    grpc: GrpcConfig | None
    acme: AcmeConfig | None
    firewall: FirewallConfig
    proxy: ProxyConfig
    log: LogConfig

    def seed_listeners(self, held: Table = NOTHING) -> Iterator[tuple[Listener, list[Route]]]:
        """Every listener with its routes; those that equal `held`'s are its own objects."""
        for listener, routes in self.listeners:
            present = held.listeners[listener.addr].routes if listener.addr in held.listeners else {}
            yield listener, [_held(present.get(route.hostname), route) for route in routes]

    def seed_rules(self) -> Iterator[FirewallRule]:
        """Every firewall rule."""
        for kind, key in BLOCKED_LISTS.items():
            yield from (FirewallRule(kind, value) for value in getattr(self.firewall, key))


def _held(present: Route | None, route: Route) -> Route:
    return present if present is not None and present == route else route
