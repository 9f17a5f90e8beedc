"""The keys of the configuration that a reload can apply, and those in which two files differ.

A key that no list here has needs a restart. So a key that is new in `config.py` is reported as waiting for one until a
reload learns to apply it; it is never dropped in silence.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from mcproxy.admin.plane import KeyChange
from mcproxy.configuration import Config
from mcproxy.notation.duration import format_duration

APPLIED = frozenset(
    {
        "log.level", "log.format",
        "proxy.connect_timeout", "proxy.handshake_timeout", "proxy.idle_timeout", "proxy.half_close_timeout",
        "proxy.backend_idle_timeout",
        "proxy.shutdown_timeout", "proxy.max_connections",
        "firewall.geoip_db", "firewall.max_connections_per_ip", "firewall.connection_rate_per_ip",
        "firewall.connection_burst_per_ip",
        "acme", "acme.directory", "acme.email", "acme.accept_terms", "acme.profile", "acme.ca",
        "grpc.tls_cert", "grpc.tls_key", "grpc.client_ca",
    }
)  # fmt: skip
# Read once, by the first start: they fill an empty database.
SEED = frozenset({"listeners", "firewall.blocked_ips", "firewall.blocked_cidrs", "firewall.blocked_countries"})
# Read by the commands, each time that one runs.
OF_COMMANDS = frozenset({"grpc.client_cert", "grpc.client_key", "grpc.server_ca"})

_ABSENT = object()

Values = Mapping[str, object]  # by key path, as in "proxy.idle_timeout"; a table that is left out has its own key


@dataclass(frozen=True, slots=True)
class Plan:
    """How a reload handles the keys that differ from the values in force."""

    applied: tuple[KeyChange, ...]
    waiting: tuple[KeyChange, ...]  # for a restart
    seed: tuple[str, ...]  # keys that are not read again


def values(config: Config) -> dict[str, object]:
    """Every key of a configuration with its value."""
    found: dict[str, object] = {}
    for table in fields(config):
        value = getattr(config, table.name)
        if is_dataclass(value):
            found |= {f"{table.name}.{key.name}": getattr(value, key.name) for key in fields(value)}
        else:
            found[table.name] = value
    return found


def fixed(config: Config) -> str:
    """A digest of what a reload can't apply: another one takes a new process."""
    found = values(config)
    kept = {key: value for key, value in found.items() if key not in APPLIED | SEED | OF_COMMANDS}
    mtls = bool(found.get("grpc.client_ca"))
    return hashlib.sha256(repr((sorted(kept.items()), mtls)).encode()).hexdigest()


def plan(in_force: Values, wanted: Values) -> Plan:
    """The plan that leads from the values in force to those of the file."""
    different = _differences(in_force, wanted)
    pinned = "grpc.addr" in different or "grpc" in different  # the certificates are those of the new address
    applied, waiting, seed = [], [], []
    for key in different:
        old, new = in_force.get(key, _ABSENT), wanted.get(key, _ABSENT)
        if key in SEED:
            seed.append(key)
        elif key in APPLIED and not (pinned and key.startswith("grpc.")) and not _turns_mtls(key, old, new):
            applied.append(_change(key, old, new))
        elif key not in OF_COMMANDS:
            waiting.append(_change(key, old, new))
    return Plan(tuple(applied), tuple(waiting), tuple(seed))


def after(in_force: Values, wanted: Values, taken: Iterable[str]) -> dict[str, object]:
    """The values in force once these keys have been taken from the file."""
    found = dict(in_force)
    for key in taken:  # or a whole table, which came or went
        found = {each: value for each, value in found.items() if not _is_of(key, each)}
        found |= {each: value for each, value in wanted.items() if _is_of(key, each)}
    return found


def _is_of(key: str, other: str) -> bool:
    return other == key or other.startswith(f"{key}.")


def _differences(old: Values, new: Values) -> list[str]:
    """Keys that differ, in the order of the file; a table that only one has counts as one key."""
    lone = tuple(f"{key}." for key in {**old, **new} if "." not in key and (key in old) != (key in new))
    keys = [key for key in {**old, **new} if not key.startswith(lone)]
    return [key for key in keys if old.get(key, _ABSENT) != new.get(key, _ABSENT)]


def _turns_mtls(key: str, old: object, new: object) -> bool:
    """True if clients would have to show a certificate from now on, or no longer: gRPC fixes that at its start."""
    return key == "grpc.client_ca" and bool(old) != bool(new)


def _change(key: str, old: object, new: object) -> KeyChange:
    return KeyChange(key, _shown(key, old), _shown(key, new))


def _shown(key: str, value: Any) -> str:
    if value in (None, _ABSENT):
        return "no table" if value is None else "a table"
    if key.endswith("_timeout"):
        return format_duration(value)
    if isinstance(value, float):
        return f"{value:g}"
    return '""' if value == "" else str(value)
