"""The configuration file: TOML in, one frozen `Config` out, or every problem at once, each with its key path.

pydantic checks types, forbids unknown keys and collects the problems; the words of the problems are ours. Paths are
made absolute here, relative to the file's folder, so that nobody else needs to know where the file was.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from mcproxy.model import UNIX_PREFIX, FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.policy import firewall, networks
from mcproxy.wire import address, name
from mcproxy.wire.duration import parse_duration

MAX_CONFIG_BYTES = 64 << 20  # 100,000 routes take some 15 MB; more is a wrong file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the file."""

    key: str  # "listeners[0].routes[2].backend", or "" for the file as a whole
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(Exception):
    """The file can't be used; `problems` has all that is wrong with it."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(f"{self.path}: {problem}" for problem in self.problems)


def _canonical(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A validator that keeps the text of what `parse` makes of it."""
    return lambda text: str(parse(text))


def _file(text: str, info: ValidationInfo) -> str:
    """An absolute path; relative ones start at the file's folder. "" stays "": not set."""
    return str(Path(info.context["folder"], text)) if text and info.context else text


def _rule_value(kind: RuleKind) -> Callable[[str], str]:
    return lambda text: firewall.rule(kind, text).value


def _grpc_address(text: str) -> str:
    if text.startswith(UNIX_PREFIX):
        return UNIX_PREFIX + address.parse_unix(text)
    host, port = address.split_host_port(text)
    if not host:
        raise ValueError(
            'name the host, as in "127.0.0.1:9090": the admin API should not listen everywhere by accident'
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _workers(value: object) -> object:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError('must be a number of processes, 1 or more, or "auto" for one a core')


Duration = Annotated[float, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
File = Annotated[str, AfterValidator(_file)]
Hostname = Annotated[str, AfterValidator(name.normalise)]
ListenAddress = Annotated[str, AfterValidator(address.parse_listen)]
BackendAddress = Annotated[str, AfterValidator(_canonical(address.parse_backend))]
GrpcAddress = Annotated[str, AfterValidator(_grpc_address)]
Ip = Annotated[str, AfterValidator(_rule_value(RuleKind.IP))]
Cidr = Annotated[str, AfterValidator(_rule_value(RuleKind.CIDR))]
Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]
Country = Annotated[str, AfterValidator(_rule_value(RuleKind.COUNTRY))]
Network = Annotated[str, AfterValidator(networks.canonical_network)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, nothing is coerced, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatabaseSection(Section):
    """[database]."""

    path: Annotated[str, Field(min_length=1), AfterValidator(_file)]


class RouteSection(Section):
    """[[listeners.routes]]."""

    hostname: Hostname
    backend: BackendAddress
    mode: Annotated[Mode, Field(strict=False)] = Mode.L4
    tls_cert: File = ""
    tls_key: File = ""
    backend_tls: bool = False
    backend_ca: File = ""
    backend_server_name: Annotated[str, AfterValidator(lambda text: text and name.normalise(text))] = ""
    send_proxy_protocol: bool = False

    @model_validator(mode="after")
    def _keys_fit_the_mode(self) -> "RouteSection":
        if self.mode is Mode.L7 and not (self.tls_cert and self.tls_key):
            raise ValueError('mode = "l7" terminates TLS, so it needs tls_cert and tls_key')
        set_for_l7 = [key for key in ("tls_cert", "tls_key", "backend_tls") if getattr(self, key)]
        if self.mode is Mode.L4 and set_for_l7:
            raise ValueError(f'{", ".join(set_for_l7)} only work with mode = "l7"; an l4 stream is never terminated')
        set_for_tls = [key for key in ("backend_ca", "backend_server_name") if getattr(self, key)]
        if set_for_tls and not self.backend_tls:
            raise ValueError(f"{', '.join(set_for_tls)} only work with backend_tls = true")
        return self

    def route(self) -> Route:
        """The value that the table holds."""
        fields = self.model_dump()
        return Route(**{**fields, "backend": address.parse_backend(self.backend)})


class ListenerSection(Section):
    """[[listeners]]."""

    addr: ListenAddress
    proxy_protocol: bool = False
    trusted_proxies: tuple[Network, ...] = Field(default=(), strict=False)
    max_connections: Count = 0
    routes: tuple[RouteSection, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _proxies_are_named(self) -> "ListenerSection":
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol = true needs trusted_proxies, or every connection would be refused")
        if self.trusted_proxies and not self.proxy_protocol:
            raise ValueError("trusted_proxies only work with proxy_protocol = true")
        return self

    def listener(self) -> Listener:
        """The value that the table holds."""
        return Listener(self.addr, self.proxy_protocol, self.trusted_proxies, self.max_connections)


class GrpcSection(Section):
    """[grpc]; left out, there is no admin API."""

    addr: GrpcAddress = "127.0.0.1:9090"
    tls_cert: File = ""
    tls_key: File = ""
    client_ca: File = ""
    client_cert: File = ""
    client_key: File = ""
    server_ca: File = ""

    @model_validator(mode="after")
    def _tcp_is_encrypted(self) -> "GrpcSection":
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together")
        if bool(self.client_cert) != bool(self.client_key):
            raise ValueError("client_cert and client_key go together")
        if not self.addr.startswith(UNIX_PREFIX) and not self.tls_cert:
            raise ValueError('a TCP address needs tls_cert and tls_key; or use "unix:/path"')
        return self


class FirewallSection(Section):
    """[firewall]."""

    geoip_db: File = ""
    blocked_ips: tuple[Ip, ...] = Field(default=(), strict=False)
    blocked_cidrs: tuple[Cidr, ...] = Field(default=(), strict=False)
    blocked_countries: tuple[Country, ...] = Field(default=(), strict=False)
    max_connections_per_ip: Count = 0
    connection_rate_per_ip: Annotated[float, Field(ge=0, strict=False, allow_inf_nan=False)] = 0.0
    connection_burst_per_ip: Count = 0

    @model_validator(mode="after")
    def _countries_can_be_found(self) -> "FirewallSection":
        if self.blocked_countries and not self.geoip_db:
            raise ValueError("blocked_countries needs geoip_db, a MaxMind database with country data")
        if self.connection_burst_per_ip and not self.connection_rate_per_ip:
            raise ValueError("connection_burst_per_ip needs connection_rate_per_ip")
        return self


class ProxySection(Section):
    """[proxy]; durations are in seconds here."""

    connect_timeout: PositiveDuration = 5.0
    handshake_timeout: PositiveDuration = 10.0
    idle_timeout: PositiveDuration = 300.0
    half_close_timeout: PositiveDuration = 60.0
    shutdown_timeout: Duration = 30.0
    max_connections: Count = 0
    workers: Workers = 1


class LogSection(Section):
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(Section):
    """The whole file. `listeners` and the `blocked_*` lists are only the seed of an empty database."""

    database: DatabaseSection
    listeners: tuple[ListenerSection, ...] = Field(default=(), strict=False)
    grpc: GrpcSection | None = None
    firewall: FirewallSection = FirewallSection()
    proxy: ProxySection = ProxySection()
    log: LogSection = LogSection()

    def seed_listeners(self) -> Iterator[tuple[Listener, list[Route]]]:
        """Every listener with its routes."""
        for section in self.listeners:
            yield section.listener(), [route.route() for route in section.routes]

    def seed_rules(self) -> Iterator[FirewallRule]:
        """Every firewall rule."""
        lists = {
            RuleKind.IP: self.firewall.blocked_ips,
            RuleKind.CIDR: self.firewall.blocked_cidrs,
            RuleKind.COUNTRY: self.firewall.blocked_countries,
        }
        for kind, values in lists.items():
            yield from (FirewallRule(kind, value) for value in values)


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError with every problem; opens no other file."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                path, [Problem("", f"is larger than {MAX_CONFIG_BYTES >> 20} MiB; is this the right file?")]
            )
        text = path.read_bytes().decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(path, [Problem("", f"can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, [Problem("", f"is not UTF-8 at byte {error.start}")]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [Problem("", f"is not TOML: {error}")]) from error
    return parse(document, path)


def parse(document: dict[str, Any], path: Path) -> Config:
    """Check a document that was read from `path`. Raises ConfigError."""
    try:
        config = Config.model_validate(document, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(path, [_problem(details) for details in error.errors(include_url=False)]) from None
    if problems := list(_duplicates(config)):
        raise ConfigError(path, problems)
    return config


def _duplicates(config: Config) -> Iterator[Problem]:
    """What is there twice, so that nobody could say which of the two counts."""
    addresses: dict[str, int] = {}
    for i, listener in enumerate(config.listeners):
        if (first := addresses.setdefault(listener.addr, i)) != i:
            yield Problem(f"listeners[{i}].addr", f"{listener.addr} is also listeners[{first}]")
        names: dict[str, int] = {}
        for j, route in enumerate(listener.routes):
            if (first := names.setdefault(route.hostname, j)) != j:
                yield Problem(f"listeners[{i}].routes[{j}].hostname", f"{route.hostname} is also routes[{first}]")


# What pydantic says, in an operator's words. {} is filled from the error's context.
_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a key that mcproxy knows; check its spelling and its table",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be an array",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
}


def _problem(details: ErrorDetails) -> Problem:
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        message = str(context["error"])
    elif template := _MESSAGES.get(details["type"]):
        message = template.format(**context)
    else:
        message = details["msg"]
    return Problem(_key(details["loc"]), message)


def _key(location: tuple[int | str, ...]) -> str:
    key = ""
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part) or not key:
            key += f".{part}" if key else part
    return key
