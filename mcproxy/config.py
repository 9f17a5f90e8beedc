"""The configuration file: TOML in, one frozen `Config` out, or every problem at once, each with its key path.

pydantic checks types, forbids unknown keys and collects the problems; the messages are ours. Paths are made absolute
here, relative to the file's folder, so that no other code needs to know where the file was. No server imports this
module: a process of its own does (judging.py).
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)

from mcproxy import configuration, conflicts, diagnosis, settings, validity
from mcproxy.configuration import Config
from mcproxy.document import ConfigError, Problem, absolute, load_document
from mcproxy.model import (
    BLOCKED_LISTS,
    LISTENER_FIELDS,
    MAX_WORKERS,
    ROUTE_FIELDS,
    UNIX_PREFIX,
    FirewallRule,
    Listener,
    LogLevel,
    Route,
    RuleKind,
)
from mcproxy.notation import address, name
from mcproxy.notation.duration import parse_duration
from mcproxy.notation.server_url import EXAMPLE, ServerUrl, parse_server_url
from mcproxy.policy import firewall
from mcproxy.settings import Kind
from mcproxy.validity import CHECKS

T = TypeVar("T")

# Plugins of other packages have no say here; to look for them reads the metadata of all that is installed, 3 MB, 24 ms.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
DEFAULT_GRPC_ADDRESS = "127.0.0.1:9090"
_EXAMPLE_ADDR = 'addr = "proxy.example.org:9090"'
MIN_RATE, MAX_RATE = 1e-5, 1e6  # connections a second: slower than one a day is a block, faster is no limit
_NO_FLEET = "only a fleet has nodes: set database.url, or remove it"


def _canonical(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A validator that keeps the text of the value that `parse` returns."""
    return lambda text: str(parse(text))


def _file(text: str, info: ValidationInfo) -> str:
    """An absolute path; relative ones start at the file's folder. "" stays "": not set."""
    validity.file(text)
    return absolute(text, info.context["folder"]) if info.context else text


def _rule_value(kind: RuleKind) -> Callable[[str], str]:
    return lambda text: firewall.rule(kind, text).value


def _socket(text: str, info: ValidationInfo) -> str:
    """Like `_file` for "unix:PATH"; other addresses stay as they are."""
    path = text.removeprefix(UNIX_PREFIX)
    return UNIX_PREFIX + _file(path, info) if text.startswith(UNIX_PREFIX) and path else text


def _workers(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= MAX_WORKERS):
        return value
    quotes = ", without quotes" if isinstance(value, str) and value.isdecimal() else ""
    raise ValueError(f'must be a number of processes, 1 to {MAX_WORKERS}{quotes}, or "auto" for one a core')


def _duration(value: object) -> float:
    if not isinstance(value, str | int | float):
        raise ValueError('is not a duration; write "500ms", "5s", "2m30s", "1h" or a number of seconds')
    try:
        return parse_duration(value)
    except OverflowError:
        raise ValueError("a duration can't be longer than ten years") from None


def _directory(text: str) -> str:
    if not text.startswith("https://") or not urlsplit(text).hostname:
        raise ValueError(f'must be the https:// address of an ACME directory, as in "{LETS_ENCRYPT}"')
    return text


def _server(value: object) -> ServerUrl:
    if not isinstance(value, str):
        raise ValueError(f'must be a string, as in "{EXAMPLE}"')
    return parse_server_url(value)


def _node(text: str) -> str:
    if text and not validity.is_node(text):
        raise ValueError(f"{validity.NODE_FORM}, or be left out for the host's name")
    return text


def _rate(value: object) -> object:
    """Check a rate before pydantic converts it: a number of a thousand digits can't become a float."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value and not MIN_RATE <= value <= MAX_RATE:
        raise ValueError(f"must be 0 (no limit), or from {MIN_RATE:.5f} to {MAX_RATE:.0f} connections a second")
    return value


Duration = Annotated[float, BeforeValidator(_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_duration), Field(gt=0)]
Count = Annotated[int, Field(ge=0, le=settings.MAX_COUNT)]
File = Annotated[str, AfterValidator(_file)]
Hostname = Annotated[str, AfterValidator(CHECKS[Kind.HOSTNAME])]
ListenAddress = Annotated[str, AfterValidator(CHECKS[Kind.LISTEN])]
BackendAddress = Annotated[str, AfterValidator(_socket), AfterValidator(_canonical(CHECKS[Kind.BACKEND]))]
GrpcAddress = Annotated[str, AfterValidator(_socket), AfterValidator(address.parse_api)]
Ip = Annotated[str, AfterValidator(_rule_value(RuleKind.IP))]
Cidr = Annotated[str, AfterValidator(_rule_value(RuleKind.CIDR))]
Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]
Country = Annotated[str, AfterValidator(_rule_value(RuleKind.COUNTRY))]
DatabaseUrl = Annotated[ServerUrl | None, BeforeValidator(_server)]
Network = Annotated[str, AfterValidator(CHECKS[Kind.NETWORKS])]
Node = Annotated[str, AfterValidator(CHECKS[Kind.NODES])]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, nothing is coerced, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatabaseSection(Section):
    """[database]: a file of this node's own, or a fleet's server and this node's copy of what it holds."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    path: Annotated[str, Field(min_length=1), AfterValidator(_file)] = ""  # not set
    url: DatabaseUrl = None
    cache: Annotated[str, Field(min_length=1), AfterValidator(_file)] = ""  # not set

    @model_validator(mode="after")
    def _one_of_both(self) -> "DatabaseSection":
        if self.url is None and self.cache:
            raise ValueError("cache is for a fleet: set url too, or remove it")
        if self.url is not None and self.path:
            raise ValueError("path and url exclude each other; remove one")
        if self.url is not None and not self.cache:
            raise ValueError("url needs cache, this node's copy of the fleet's table, as in cache = \"data/cache.db\"")
        if self.url is None and not self.path:
            raise ValueError("path is required, or url and cache for a fleet")
        return self


class NodeSection(Section):
    """[node]."""

    name: Annotated[str, AfterValidator(_node)] = ""


# The check of a key, by the kind of its field; a word is checked by its type.
_KEYS: dict[Kind, Any] = {
    Kind.HOSTNAME: Hostname,
    Kind.LISTEN: ListenAddress,
    Kind.BACKEND: BackendAddress,
    Kind.FILE: File,
    Kind.SWITCH: bool,
    Kind.NETWORKS: Annotated[tuple[Network, ...], Field(strict=False)],
    Kind.NODES: Annotated[tuple[Node, ...], Field(strict=False), AfterValidator(validity.each_once)],
}


class Declared(Section):
    """A table whose keys are declared fields."""

    declared: ClassVar[Sequence[settings.Field]]

    @model_validator(mode="after")
    def _fit_together(self) -> "Declared":
        if problem := settings.misfit(self.declared, self.__dict__):
            raise ValueError(problem)
        return self

    def fields(self) -> dict[str, Any]:
        """The file's value of each."""
        return {field.name: getattr(self, field.name) for field in self.declared}


def _keys_of(declared: Sequence[settings.Field]) -> Any:
    """A base class with these fields as keys."""
    keys: dict[str, Any] = {}
    for field in declared:
        key = _KEYS.get(field.kind, Annotated[field.type, Field(strict=False)])
        if field.kind is Kind.HOSTNAME and field.default == "":
            key = Annotated[str, AfterValidator(lambda text: text and name.normalise(text))]
        if field.kind is Kind.COUNT:
            key = Annotated[int, Field(ge=field.setting.least, le=field.setting.most)]
        keys[field.name] = (key, field.default if field.has_default else ...)
    made = create_model("Keys", __base__=Declared, **keys)
    made.declared = declared
    return made


class RouteSection(_keys_of(ROUTE_FIELDS)):  # type: ignore[misc]  # mypy can't know its keys
    """[[listeners.routes]]."""

    def route(self) -> Route:
        """The value for the table."""
        return Route(**{**self.fields(), "backend": address.parse_backend(self.backend)})


class ListenerSection(_keys_of(LISTENER_FIELDS)):  # type: ignore[misc]
    """[[listeners]]."""

    routes: tuple[RouteSection, ...] = Field(default=(), strict=False)

    def listener(self) -> Listener:
        """The value for the table."""
        return Listener(**self.fields())


class ApiSection(Section):
    """The keys of [grpc] that the commands need: the server's address, and the certificates of both sides.

    The server's other keys are ignored here, valid or not.
    """

    model_config = ConfigDict(extra="ignore")

    addr: GrpcAddress = ""  # not set
    client_cert: File = ""
    client_key: File = ""
    server_ca: File = ""

    @model_validator(mode="after")
    def _pairs_are_whole(self) -> "ApiSection":
        if bool(self.client_cert) != bool(self.client_key):
            raise ValueError("client_cert and client_key go together; set both or none")
        return self


class GrpcSection(ApiSection):
    """[grpc]; left out, there is no admin API."""

    model_config = ConfigDict(extra="forbid")

    addr: GrpcAddress = DEFAULT_GRPC_ADDRESS
    group: str = ""
    tls_cert: File = ""
    tls_key: File = ""
    client_ca: File = ""

    @model_validator(mode="after")
    def _tcp_is_encrypted(self) -> "GrpcSection":
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together; set both or none")
        if not self.addr.startswith(UNIX_PREFIX) and not self.tls_cert:
            raise ValueError('a TCP address needs tls_cert and tls_key; set them, or write addr = "unix:/path"')
        if self.group and not self.addr.startswith(UNIX_PREFIX):
            raise ValueError("group applies to a UNIX socket only; over TCP, client_ca decides who may call")
        return self


class AcmeSection(Section):
    """[acme]; needed where a route says tls = "acme"."""

    directory: Annotated[str, AfterValidator(_directory)] = LETS_ENCRYPT
    email: str = ""
    accept_terms: bool = False
    profile: str = ""
    ca: File = ""

    @model_validator(mode="after")
    def _terms_are_accepted(self) -> "AcmeSection":
        if not self.accept_terms:
            raise ValueError(
                "accept_terms must be true: read the CA's terms of service, whose address its directory has as"
                " termsOfService, and write accept_terms = true if you agree"
            )
        return self


class FirewallSection(Section):
    """[firewall]."""

    geoip_db: File = ""
    blocked_ips: tuple[Ip, ...] = Field(default=(), strict=False)
    blocked_cidrs: tuple[Cidr, ...] = Field(default=(), strict=False)
    blocked_countries: tuple[Country, ...] = Field(default=(), strict=False)
    max_connections_per_ip: Count = 0
    connection_rate_per_ip: Annotated[float, BeforeValidator(_rate)] = 0.0
    connection_burst_per_ip: Count = 0

    @model_validator(mode="after")
    def _countries_can_be_found(self) -> "FirewallSection":
        if self.blocked_countries and not self.geoip_db:
            raise ValueError("blocked_countries needs geoip_db, a MaxMind database with country data")
        if self.connection_burst_per_ip and not self.connection_rate_per_ip:
            raise ValueError("connection_burst_per_ip needs connection_rate_per_ip; set that too, or neither")
        return self


class ProxySection(Section):
    """[proxy]; durations are in seconds here."""

    connect_timeout: PositiveDuration = 5.0
    handshake_timeout: PositiveDuration = 10.0
    idle_timeout: PositiveDuration = 300.0
    half_close_timeout: PositiveDuration = 60.0
    backend_idle_timeout: PositiveDuration = 4.0
    shutdown_timeout: Duration = 30.0
    max_connections: Count = 0
    workers: Workers = 1


class LogSection(Section):
    """[log]."""

    level: LogLevel = "info"
    format: Literal["text", "json"] = "text"


class Document(Section):
    """The whole file."""

    database: DatabaseSection
    node: NodeSection = NodeSection()
    listeners: tuple[ListenerSection, ...] = Field(default=(), strict=False)
    grpc: GrpcSection | None = None
    acme: AcmeSection | None = None
    firewall: FirewallSection = FirewallSection()
    proxy: ProxySection = ProxySection()
    log: LogSection = LogSection()

    def config(self) -> Config:
        """The values that it stands for."""
        return Config(
            database=_as(configuration.DatabaseConfig, self.database),
            node=_as(configuration.NodeConfig, self.node),
            listeners=tuple(
                (each.listener(), tuple(route.route() for route in each.routes)) for each in self.listeners
            ),
            grpc=None if self.grpc is None else _as(configuration.GrpcConfig, self.grpc),
            acme=None if self.acme is None else _as(configuration.AcmeConfig, self.acme),
            firewall=_as(configuration.FirewallConfig, self.firewall),
            proxy=_as(configuration.ProxyConfig, self.proxy),
            log=_as(configuration.LogConfig, self.log),
        )


def _as(made: type[T], section: Section) -> T:
    """A section's keys as a value."""
    return made(**{key: getattr(section, key) for key in type(section).model_fields})


_SEED = frozenset({"listeners", *BLOCKED_LISTS.values()})  # the keys of what the database holds


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError with every problem; opens no other file."""
    return parse(load_document(path), path)


def load_api(path: Path) -> ApiSection | None:
    """The keys of [grpc] that the commands need, None if the file has no [grpc]. Nothing else is read.

    Raises ConfigError if the file isn't TOML, or if one of these keys is wrong.
    """
    table = load_document(path).get("grpc")
    if table is None:
        return None
    try:
        section = ApiSection.model_validate(table, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(path, [Problem(*each) for each in diagnosis.problems(error, Document, ("grpc",))]) from None
    if section.addr:
        return section
    if "tls_cert" in table:  # it is the server's own file
        return section.model_copy(update={"addr": DEFAULT_GRPC_ADDRESS})
    raise ConfigError(path, [Problem("grpc.addr", f"is required; write the server's, as in {_EXAMPLE_ADDR}")])


def load_seed(path: Path, folder: Path | None = None) -> tuple[list[tuple[Listener, list[Route]]], list[FirewallRule]]:
    """The listeners with their routes, and the rules, of a file that may have nothing else.

    Other tables and keys are ignored, but unknown ones are errors: a misspelt [[listeners]] would look like a file
    without listeners. Relative paths are relative to `folder`, or to that of the file. Raises ConfigError with every
    problem.
    """
    document = load_document(path)
    seed = {key: value for key, value in document.items() if key in _SEED or key not in Document.model_fields}
    rules = document.get("firewall", {})
    if isinstance(rules, dict):
        rules = {key: rules[key] for key in rules if key in _SEED or key not in FirewallSection.model_fields}
        rules["geoip_db"] = path.name  # the server knows whether it has one
    seed["firewall"] = rules
    config = parse({**seed, "database": {"path": path.name}}, path, folder, whole=False)
    return list(config.seed_listeners()), list(config.seed_rules())


def parse(document: dict[str, Any], path: Path, folder: Path | None = None, *, whole: bool = True) -> Config:
    """Check a document that was read from `path`; relative paths are as for `load_seed`. Raises ConfigError.

    One that isn't `whole` lacks the tables that say whether its server is in a fleet.
    """
    problems: list[Problem] = []
    try:
        read = Document.model_validate(document, context={"folder": folder or path.absolute().parent})
    except ValidationError as error:
        problems += (Problem(*each) for each in diagnosis.problems(error, Document))
    else:
        if read.database.url is None and whole:
            named = [i for i, each in enumerate(read.listeners) if each.nodes]
            problems += [Problem(f"listeners[{i}].nodes", _NO_FLEET) for i in named]
    problems += (Problem(key, message) for key, message in conflicts.find(document))
    if problems:
        raise ConfigError(path, problems)
    return read.config()
