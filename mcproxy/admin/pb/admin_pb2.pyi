from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_L4: _ClassVar[Mode]
    MODE_L7: _ClassVar[Mode]

class BackendProtocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BACKEND_PROTOCOL_UNSPECIFIED: _ClassVar[BackendProtocol]
    BACKEND_PROTOCOL_AUTO: _ClassVar[BackendProtocol]
    BACKEND_PROTOCOL_H2: _ClassVar[BackendProtocol]
    BACKEND_PROTOCOL_HTTP_1_1: _ClassVar[BackendProtocol]

class Tls(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TLS_UNSPECIFIED: _ClassVar[Tls]
    TLS_FILES: _ClassVar[Tls]
    TLS_ACME: _ClassVar[Tls]

class RuleKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RULE_KIND_UNSPECIFIED: _ClassVar[RuleKind]
    RULE_KIND_IP: _ClassVar[RuleKind]
    RULE_KIND_CIDR: _ClassVar[RuleKind]
    RULE_KIND_COUNTRY: _ClassVar[RuleKind]
MODE_UNSPECIFIED: Mode
MODE_L4: Mode
MODE_L7: Mode
BACKEND_PROTOCOL_UNSPECIFIED: BackendProtocol
BACKEND_PROTOCOL_AUTO: BackendProtocol
BACKEND_PROTOCOL_H2: BackendProtocol
BACKEND_PROTOCOL_HTTP_1_1: BackendProtocol
TLS_UNSPECIFIED: Tls
TLS_FILES: Tls
TLS_ACME: Tls
RULE_KIND_UNSPECIFIED: RuleKind
RULE_KIND_IP: RuleKind
RULE_KIND_CIDR: RuleKind
RULE_KIND_COUNTRY: RuleKind

class Listener(_message.Message):
    __slots__ = ("addr", "proxy_protocol", "trusted_proxies", "max_connections", "nodes")
    ADDR_FIELD_NUMBER: _ClassVar[int]
    PROXY_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_PROXIES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    addr: str
    proxy_protocol: bool
    trusted_proxies: _containers.RepeatedScalarFieldContainer[str]
    max_connections: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, addr: _Optional[str] = ..., proxy_protocol: _Optional[bool] = ..., trusted_proxies: _Optional[_Iterable[str]] = ..., max_connections: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("hostname", "backend", "mode", "tls_cert", "tls_key", "backend_tls", "backend_ca", "backend_server_name", "send_proxy_protocol", "backend_protocol", "max_backend_connections", "tls")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TLS_CERT_FIELD_NUMBER: _ClassVar[int]
    TLS_KEY_FIELD_NUMBER: _ClassVar[int]
    BACKEND_TLS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_CA_FIELD_NUMBER: _ClassVar[int]
    BACKEND_SERVER_NAME_FIELD_NUMBER: _ClassVar[int]
    SEND_PROXY_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    BACKEND_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MAX_BACKEND_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    backend: str
    mode: Mode
    tls_cert: str
    tls_key: str
    backend_tls: bool
    backend_ca: str
    backend_server_name: str
    send_proxy_protocol: bool
    backend_protocol: BackendProtocol
    max_backend_connections: int
    tls: Tls
    def __init__(self, hostname: _Optional[str] = ..., backend: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., tls_cert: _Optional[str] = ..., tls_key: _Optional[str] = ..., backend_tls: _Optional[bool] = ..., backend_ca: _Optional[str] = ..., backend_server_name: _Optional[str] = ..., send_proxy_protocol: _Optional[bool] = ..., backend_protocol: _Optional[_Union[BackendProtocol, str]] = ..., max_backend_connections: _Optional[int] = ..., tls: _Optional[_Union[Tls, str]] = ...) -> None: ...

class FirewallRule(_message.Message):
    __slots__ = ("kind", "value", "expires_at")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    kind: RuleKind
    value: str
    expires_at: float
    def __init__(self, kind: _Optional[_Union[RuleKind, str]] = ..., value: _Optional[str] = ..., expires_at: _Optional[float] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("state", "version", "pid", "started_at", "generation", "schema_version", "routes", "firewall_rules", "listeners", "certificates", "geoip", "log_level", "watchers", "problems", "file_differences", "last_reload", "workers", "node", "build", "exposed_keys")
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    FIREWALL_RULES_FIELD_NUMBER: _ClassVar[int]
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    GEOIP_FIELD_NUMBER: _ClassVar[int]
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    WATCHERS_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    FILE_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    LAST_RELOAD_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    EXPOSED_KEYS_FIELD_NUMBER: _ClassVar[int]
    state: str
    version: str
    pid: int
    started_at: float
    generation: int
    schema_version: int
    routes: int
    firewall_rules: int
    listeners: _containers.RepeatedCompositeFieldContainer[ListenerStatus]
    certificates: _containers.RepeatedCompositeFieldContainer[CertificateStatus]
    geoip: GeoipStatus
    log_level: str
    watchers: int
    problems: _containers.RepeatedCompositeFieldContainer[RouteProblem]
    file_differences: int
    last_reload: ReloadStatus
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    node: NodeStatus
    build: str
    exposed_keys: str
    def __init__(self, state: _Optional[str] = ..., version: _Optional[str] = ..., pid: _Optional[int] = ..., started_at: _Optional[float] = ..., generation: _Optional[int] = ..., schema_version: _Optional[int] = ..., routes: _Optional[int] = ..., firewall_rules: _Optional[int] = ..., listeners: _Optional[_Iterable[_Union[ListenerStatus, _Mapping]]] = ..., certificates: _Optional[_Iterable[_Union[CertificateStatus, _Mapping]]] = ..., geoip: _Optional[_Union[GeoipStatus, _Mapping]] = ..., log_level: _Optional[str] = ..., watchers: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[RouteProblem, _Mapping]]] = ..., file_differences: _Optional[int] = ..., last_reload: _Optional[_Union[ReloadStatus, _Mapping]] = ..., workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., node: _Optional[_Union[NodeStatus, _Mapping]] = ..., build: _Optional[str] = ..., exposed_keys: _Optional[str] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("name", "state", "since", "reason", "generations_behind", "unbound", "cache_problem")
    class UnboundEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    UNBOUND_FIELD_NUMBER: _ClassVar[int]
    CACHE_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: str
    since: float
    reason: str
    generations_behind: int
    unbound: _containers.ScalarMap[str, str]
    cache_problem: str
    def __init__(self, name: _Optional[str] = ..., state: _Optional[str] = ..., since: _Optional[float] = ..., reason: _Optional[str] = ..., generations_behind: _Optional[int] = ..., unbound: _Optional[_Mapping[str, str]] = ..., cache_problem: _Optional[str] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("number", "state", "pid", "started_at", "connections", "restarts", "failure", "lag_seconds")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    LAG_SECONDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    state: str
    pid: int
    started_at: float
    connections: int
    restarts: int
    failure: str
    lag_seconds: float
    def __init__(self, number: _Optional[int] = ..., state: _Optional[str] = ..., pid: _Optional[int] = ..., started_at: _Optional[float] = ..., connections: _Optional[int] = ..., restarts: _Optional[int] = ..., failure: _Optional[str] = ..., lag_seconds: _Optional[float] = ...) -> None: ...

class ReloadStatus(_message.Message):
    __slots__ = ("at", "refused", "problems", "needs_restart")
    AT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    NEEDS_RESTART_FIELD_NUMBER: _ClassVar[int]
    at: float
    refused: str
    problems: _containers.RepeatedScalarFieldContainer[str]
    needs_restart: _containers.RepeatedCompositeFieldContainer[KeyChange]
    def __init__(self, at: _Optional[float] = ..., refused: _Optional[str] = ..., problems: _Optional[_Iterable[str]] = ..., needs_restart: _Optional[_Iterable[_Union[KeyChange, _Mapping]]] = ...) -> None: ...

class ListenerStatus(_message.Message):
    __slots__ = ("addr", "accepting", "routes", "connections", "accepted", "refused", "refused_by_reason", "ended", "received_bytes", "sent_bytes", "requests", "request_ends")
    class RefusedByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class EndedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RequestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RequestEndsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ADDR_FIELD_NUMBER: _ClassVar[int]
    ACCEPTING_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ENDS_FIELD_NUMBER: _ClassVar[int]
    addr: str
    accepting: bool
    routes: int
    connections: int
    accepted: int
    refused: int
    refused_by_reason: _containers.ScalarMap[str, int]
    ended: _containers.ScalarMap[str, int]
    received_bytes: int
    sent_bytes: int
    requests: _containers.ScalarMap[str, int]
    request_ends: _containers.ScalarMap[str, int]
    def __init__(self, addr: _Optional[str] = ..., accepting: _Optional[bool] = ..., routes: _Optional[int] = ..., connections: _Optional[int] = ..., accepted: _Optional[int] = ..., refused: _Optional[int] = ..., refused_by_reason: _Optional[_Mapping[str, int]] = ..., ended: _Optional[_Mapping[str, int]] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., requests: _Optional[_Mapping[str, int]] = ..., request_ends: _Optional[_Mapping[str, int]] = ...) -> None: ...

class CertificateStatus(_message.Message):
    __slots__ = ("listener", "hostname", "path", "not_after", "not_before", "unread")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    listener: str
    hostname: str
    path: str
    not_after: float
    not_before: float
    unread: str
    def __init__(self, listener: _Optional[str] = ..., hostname: _Optional[str] = ..., path: _Optional[str] = ..., not_after: _Optional[float] = ..., not_before: _Optional[float] = ..., unread: _Optional[str] = ...) -> None: ...

class ListCertificatesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCertificatesResponse(_message.Message):
    __slots__ = ("certificates", "next_page_token")
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    certificates: _containers.RepeatedCompositeFieldContainer[ListedCertificate]
    next_page_token: str
    def __init__(self, certificates: _Optional[_Iterable[_Union[ListedCertificate, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RenewCertificateRequest(_message.Message):
    __slots__ = ("hostname",)
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    def __init__(self, hostname: _Optional[str] = ...) -> None: ...

class RenewCertificateResponse(_message.Message):
    __slots__ = ("obstacle", "hostname", "listener", "ordered")
    OBSTACLE_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    obstacle: str
    hostname: str
    listener: str
    ordered: bool
    def __init__(self, obstacle: _Optional[str] = ..., hostname: _Optional[str] = ..., listener: _Optional[str] = ..., ordered: _Optional[bool] = ...) -> None: ...

class ListedCertificate(_message.Message):
    __slots__ = ("listener", "hostname", "source", "path", "names", "issuer", "not_before", "not_after", "problem", "state", "next_at", "failures", "failure")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NEXT_AT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    listener: str
    hostname: str
    source: str
    path: str
    names: _containers.RepeatedScalarFieldContainer[str]
    issuer: str
    not_before: float
    not_after: float
    problem: str
    state: str
    next_at: float
    failures: int
    failure: str
    def __init__(self, listener: _Optional[str] = ..., hostname: _Optional[str] = ..., source: _Optional[str] = ..., path: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., issuer: _Optional[str] = ..., not_before: _Optional[float] = ..., not_after: _Optional[float] = ..., problem: _Optional[str] = ..., state: _Optional[str] = ..., next_at: _Optional[float] = ..., failures: _Optional[int] = ..., failure: _Optional[str] = ...) -> None: ...

class RouteProblem(_message.Message):
    __slots__ = ("listener", "hostname", "key", "message")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    listener: str
    hostname: str
    key: str
    message: str
    def __init__(self, listener: _Optional[str] = ..., hostname: _Optional[str] = ..., key: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class GeoipStatus(_message.Message):
    __slots__ = ("path", "built_at")
    PATH_FIELD_NUMBER: _ClassVar[int]
    BUILT_AT_FIELD_NUMBER: _ClassVar[int]
    path: str
    built_at: float
    def __init__(self, path: _Optional[str] = ..., built_at: _Optional[float] = ...) -> None: ...

class ListRouteCountersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRouteCountersResponse(_message.Message):
    __slots__ = ("routes", "next_page_token")
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedCompositeFieldContainer[RouteCounters]
    next_page_token: str
    def __init__(self, routes: _Optional[_Iterable[_Union[RouteCounters, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RouteCounters(_message.Message):
    __slots__ = ("listener", "hostname", "connections", "accepted", "refused", "received_bytes", "sent_bytes", "requests", "refused_by_reason", "request_ends", "passed", "heads", "waited_seconds", "backend_connections", "spoken")
    class RequestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RefusedByReasonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class RequestEndsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class PassedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ENDS_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    WAITED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    SPOKEN_FIELD_NUMBER: _ClassVar[int]
    listener: str
    hostname: str
    connections: int
    accepted: int
    refused: int
    received_bytes: int
    sent_bytes: int
    requests: _containers.ScalarMap[str, int]
    refused_by_reason: _containers.ScalarMap[str, int]
    request_ends: _containers.ScalarMap[str, int]
    passed: _containers.ScalarMap[str, int]
    heads: int
    waited_seconds: float
    backend_connections: BackendConnections
    spoken: Spoken
    def __init__(self, listener: _Optional[str] = ..., hostname: _Optional[str] = ..., connections: _Optional[int] = ..., accepted: _Optional[int] = ..., refused: _Optional[int] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., requests: _Optional[_Mapping[str, int]] = ..., refused_by_reason: _Optional[_Mapping[str, int]] = ..., request_ends: _Optional[_Mapping[str, int]] = ..., passed: _Optional[_Mapping[str, int]] = ..., heads: _Optional[int] = ..., waited_seconds: _Optional[float] = ..., backend_connections: _Optional[_Union[BackendConnections, _Mapping]] = ..., spoken: _Optional[_Union[Spoken, _Mapping]] = ...) -> None: ...

class BackendConnections(_message.Message):
    __slots__ = ("made", "reused", "retries", "waiting", "waited_too_long", "idle", "dead", "poisoned")
    class MadeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MADE_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    WAITED_TOO_LONG_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    POISONED_FIELD_NUMBER: _ClassVar[int]
    made: _containers.ScalarMap[str, int]
    reused: int
    retries: int
    waiting: int
    waited_too_long: int
    idle: int
    dead: int
    poisoned: int
    def __init__(self, made: _Optional[_Mapping[str, int]] = ..., reused: _Optional[int] = ..., retries: _Optional[int] = ..., waiting: _Optional[int] = ..., waited_too_long: _Optional[int] = ..., idle: _Optional[int] = ..., dead: _Optional[int] = ..., poisoned: _Optional[int] = ...) -> None: ...

class Spoken(_message.Message):
    __slots__ = ("version", "how", "at")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOW_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    version: str
    how: str
    at: float
    def __init__(self, version: _Optional[str] = ..., how: _Optional[str] = ..., at: _Optional[float] = ...) -> None: ...

class ListListenersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListListenersResponse(_message.Message):
    __slots__ = ("listeners", "next_page_token", "generation")
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    listeners: _containers.RepeatedCompositeFieldContainer[Listener]
    next_page_token: str
    generation: int
    def __init__(self, listeners: _Optional[_Iterable[_Union[Listener, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class AddListenerRequest(_message.Message):
    __slots__ = ("listener", "expected_generation", "dry_run", "comment")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    listener: Listener
    expected_generation: int
    dry_run: bool
    comment: str
    def __init__(self, listener: _Optional[_Union[Listener, _Mapping]] = ..., expected_generation: _Optional[int] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ...) -> None: ...

class AddListenerResponse(_message.Message):
    __slots__ = ("generation", "effect", "warnings")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    effect: Effect
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation: _Optional[int] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateListenerRequest(_message.Message):
    __slots__ = ("listener", "expected_generation", "update_mask", "dry_run", "comment")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    listener: Listener
    expected_generation: int
    update_mask: _field_mask_pb2.FieldMask
    dry_run: bool
    comment: str
    def __init__(self, listener: _Optional[_Union[Listener, _Mapping]] = ..., expected_generation: _Optional[int] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ...) -> None: ...

class UpdateListenerResponse(_message.Message):
    __slots__ = ("generation", "effect", "warnings")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    effect: Effect
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation: _Optional[int] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class RemoveListenerRequest(_message.Message):
    __slots__ = ("addr", "expected_generation", "dry_run", "comment")
    ADDR_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    addr: str
    expected_generation: int
    dry_run: bool
    comment: str
    def __init__(self, addr: _Optional[str] = ..., expected_generation: _Optional[int] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ...) -> None: ...

class RemoveListenerResponse(_message.Message):
    __slots__ = ("generation", "removed_routes", "effect")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REMOVED_ROUTES_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    removed_routes: int
    effect: Effect
    def __init__(self, generation: _Optional[int] = ..., removed_routes: _Optional[int] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class ListRoutesRequest(_message.Message):
    __slots__ = ("listener", "page_size", "page_token", "prefix")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    listener: str
    page_size: int
    page_token: str
    prefix: str
    def __init__(self, listener: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., prefix: _Optional[str] = ...) -> None: ...

class ListRoutesResponse(_message.Message):
    __slots__ = ("routes", "next_page_token", "generation")
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    routes: _containers.RepeatedCompositeFieldContainer[ListedRoute]
    next_page_token: str
    generation: int
    def __init__(self, routes: _Optional[_Iterable[_Union[ListedRoute, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class ListedRoute(_message.Message):
    __slots__ = ("listener", "route")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    listener: str
    route: Route
    def __init__(self, listener: _Optional[str] = ..., route: _Optional[_Union[Route, _Mapping]] = ...) -> None: ...

class AddRouteRequest(_message.Message):
    __slots__ = ("listener", "route", "expected_generation", "dry_run", "comment", "look")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    LOOK_FIELD_NUMBER: _ClassVar[int]
    listener: str
    route: Route
    expected_generation: int
    dry_run: bool
    comment: str
    look: bool
    def __init__(self, listener: _Optional[str] = ..., route: _Optional[_Union[Route, _Mapping]] = ..., expected_generation: _Optional[int] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ..., look: _Optional[bool] = ...) -> None: ...

class AddRouteResponse(_message.Message):
    __slots__ = ("generation", "warnings", "effect", "backend_http")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    BACKEND_HTTP_FIELD_NUMBER: _ClassVar[int]
    generation: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    effect: Effect
    backend_http: str
    def __init__(self, generation: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., backend_http: _Optional[str] = ...) -> None: ...

class UpdateRouteRequest(_message.Message):
    __slots__ = ("listener", "route", "expected_generation", "update_mask", "dry_run", "comment", "look")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    LOOK_FIELD_NUMBER: _ClassVar[int]
    listener: str
    route: Route
    expected_generation: int
    update_mask: _field_mask_pb2.FieldMask
    dry_run: bool
    comment: str
    look: bool
    def __init__(self, listener: _Optional[str] = ..., route: _Optional[_Union[Route, _Mapping]] = ..., expected_generation: _Optional[int] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ..., look: _Optional[bool] = ...) -> None: ...

class UpdateRouteResponse(_message.Message):
    __slots__ = ("generation", "warnings", "effect", "backend_http")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    BACKEND_HTTP_FIELD_NUMBER: _ClassVar[int]
    generation: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    effect: Effect
    backend_http: str
    def __init__(self, generation: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., backend_http: _Optional[str] = ...) -> None: ...

class RemoveRouteRequest(_message.Message):
    __slots__ = ("listener", "hostname", "expected_generation", "dry_run", "comment")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    listener: str
    hostname: str
    expected_generation: int
    dry_run: bool
    comment: str
    def __init__(self, listener: _Optional[str] = ..., hostname: _Optional[str] = ..., expected_generation: _Optional[int] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ...) -> None: ...

class RemoveRouteResponse(_message.Message):
    __slots__ = ("generation", "effect")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    effect: Effect
    def __init__(self, generation: _Optional[int] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class ListFirewallRulesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "prefix")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    prefix: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., prefix: _Optional[str] = ...) -> None: ...

class ListFirewallRulesResponse(_message.Message):
    __slots__ = ("rules", "next_page_token", "generation")
    RULES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[FirewallRule]
    next_page_token: str
    generation: int
    def __init__(self, rules: _Optional[_Iterable[_Union[FirewallRule, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class AddFirewallRuleRequest(_message.Message):
    __slots__ = ("kind", "value", "ttl_seconds", "kill", "expected_generation", "replace", "own_ip", "dry_run", "comment")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KILL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    OWN_IP_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    kind: RuleKind
    value: str
    ttl_seconds: float
    kill: bool
    expected_generation: int
    replace: bool
    own_ip: str
    dry_run: bool
    comment: str
    def __init__(self, kind: _Optional[_Union[RuleKind, str]] = ..., value: _Optional[str] = ..., ttl_seconds: _Optional[float] = ..., kill: _Optional[bool] = ..., expected_generation: _Optional[int] = ..., replace: _Optional[bool] = ..., own_ip: _Optional[str] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ...) -> None: ...

class AddFirewallRuleResponse(_message.Message):
    __slots__ = ("generation", "rule", "killed", "effect", "unanswered")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    KILLED_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    UNANSWERED_FIELD_NUMBER: _ClassVar[int]
    generation: int
    rule: FirewallRule
    killed: int
    effect: Effect
    unanswered: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation: _Optional[int] = ..., rule: _Optional[_Union[FirewallRule, _Mapping]] = ..., killed: _Optional[int] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., unanswered: _Optional[_Iterable[str]] = ...) -> None: ...

class RemoveFirewallRuleRequest(_message.Message):
    __slots__ = ("kind", "value", "expected_generation", "dry_run", "comment")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    kind: RuleKind
    value: str
    expected_generation: int
    dry_run: bool
    comment: str
    def __init__(self, kind: _Optional[_Union[RuleKind, str]] = ..., value: _Optional[str] = ..., expected_generation: _Optional[int] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ...) -> None: ...

class RemoveFirewallRuleResponse(_message.Message):
    __slots__ = ("generation", "effect")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    effect: Effect
    def __init__(self, generation: _Optional[int] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class TestFirewallRequest(_message.Message):
    __slots__ = ("ip",)
    IP_FIELD_NUMBER: _ClassVar[int]
    ip: str
    def __init__(self, ip: _Optional[str] = ...) -> None: ...

class TestFirewallResponse(_message.Message):
    __slots__ = ("blocked", "reason", "country", "steps")
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    blocked: bool
    reason: str
    country: str
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    def __init__(self, blocked: _Optional[bool] = ..., reason: _Optional[str] = ..., country: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ...) -> None: ...

class ConnectionFilter(_message.Message):
    __slots__ = ("listener", "route", "client")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    listener: str
    route: str
    client: str
    def __init__(self, listener: _Optional[str] = ..., route: _Optional[str] = ..., client: _Optional[str] = ...) -> None: ...

class ListConnectionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "filter")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    filter: ConnectionFilter
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[_Union[ConnectionFilter, _Mapping]] = ...) -> None: ...

class ListConnectionsResponse(_message.Message):
    __slots__ = ("connections", "next_page_token")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[Connection]
    next_page_token: str
    def __init__(self, connections: _Optional[_Iterable[_Union[Connection, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Connection(_message.Message):
    __slots__ = ("id", "listener", "client", "sni", "route", "backend", "mode", "state", "started_at", "received_bytes", "sent_bytes", "worker")
    ID_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SNI_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    id: int
    listener: str
    client: str
    sni: str
    route: str
    backend: str
    mode: Mode
    state: str
    started_at: float
    received_bytes: int
    sent_bytes: int
    worker: int
    def __init__(self, id: _Optional[int] = ..., listener: _Optional[str] = ..., client: _Optional[str] = ..., sni: _Optional[str] = ..., route: _Optional[str] = ..., backend: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., state: _Optional[str] = ..., started_at: _Optional[float] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., worker: _Optional[int] = ...) -> None: ...

class CloseConnectionRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class CloseConnectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseConnectionsRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CloseConnectionsResponse(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, missing: _Optional[_Iterable[int]] = ...) -> None: ...

class WatchConnectionsRequest(_message.Message):
    __slots__ = ("filter", "refused")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    filter: ConnectionFilter
    refused: bool
    def __init__(self, filter: _Optional[_Union[ConnectionFilter, _Mapping]] = ..., refused: _Optional[bool] = ...) -> None: ...

class WatchConnectionsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ConnectionEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[ConnectionEvent, _Mapping]]] = ...) -> None: ...

class ConnectionEvent(_message.Message):
    __slots__ = ("kind", "at", "connection", "reason", "end", "detail", "duration_seconds")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[ConnectionEvent.Kind]
        KIND_OPENED: _ClassVar[ConnectionEvent.Kind]
        KIND_CLOSED: _ClassVar[ConnectionEvent.Kind]
        KIND_REFUSED: _ClassVar[ConnectionEvent.Kind]
    KIND_UNSPECIFIED: ConnectionEvent.Kind
    KIND_OPENED: ConnectionEvent.Kind
    KIND_CLOSED: ConnectionEvent.Kind
    KIND_REFUSED: ConnectionEvent.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    kind: ConnectionEvent.Kind
    at: float
    connection: Connection
    reason: str
    end: str
    detail: str
    duration_seconds: float
    def __init__(self, kind: _Optional[_Union[ConnectionEvent.Kind, str]] = ..., at: _Optional[float] = ..., connection: _Optional[_Union[Connection, _Mapping]] = ..., reason: _Optional[str] = ..., end: _Optional[str] = ..., detail: _Optional[str] = ..., duration_seconds: _Optional[float] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("listener", "sni", "ip", "dial")
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    SNI_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    DIAL_FIELD_NUMBER: _ClassVar[int]
    listener: str
    sni: str
    ip: str
    dial: bool
    def __init__(self, listener: _Optional[str] = ..., sni: _Optional[str] = ..., ip: _Optional[str] = ..., dial: _Optional[bool] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("steps", "reason", "route", "generation")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    reason: str
    route: Route
    generation: int
    def __init__(self, steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., reason: _Optional[str] = ..., route: _Optional[_Union[Route, _Mapping]] = ..., generation: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("name", "passed", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    passed: bool
    detail: str
    def __init__(self, name: _Optional[str] = ..., passed: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

class Values(_message.Message):
    __slots__ = ("listeners", "routes", "rules")
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    listeners: _containers.RepeatedCompositeFieldContainer[Listener]
    routes: _containers.RepeatedCompositeFieldContainer[ListedRoute]
    rules: _containers.RepeatedCompositeFieldContainer[FirewallRule]
    def __init__(self, listeners: _Optional[_Iterable[_Union[Listener, _Mapping]]] = ..., routes: _Optional[_Iterable[_Union[ListedRoute, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[FirewallRule, _Mapping]]] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("generation", "values")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    generation: int
    values: Values
    def __init__(self, generation: _Optional[int] = ..., values: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("options", "values")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    options: ApplyOptions
    values: Values
    def __init__(self, options: _Optional[_Union[ApplyOptions, _Mapping]] = ..., values: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...

class ApplyOptions(_message.Message):
    __slots__ = ("values", "dry_run", "prune", "expected_generation", "comment")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    PRUNE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    values: int
    dry_run: bool
    prune: bool
    expected_generation: int
    comment: str
    def __init__(self, values: _Optional[int] = ..., dry_run: _Optional[bool] = ..., prune: _Optional[bool] = ..., expected_generation: _Optional[int] = ..., comment: _Optional[str] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("generation", "total", "warnings", "changes")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    generation: int
    total: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, generation: _Optional[int] = ..., total: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class ListRevisionsRequest(_message.Message):
    __slots__ = ("what", "listener", "name", "page_size", "page_token")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    what: str
    listener: str
    name: str
    page_size: int
    page_token: str
    def __init__(self, what: _Optional[str] = ..., listener: _Optional[str] = ..., name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRevisionsResponse(_message.Message):
    __slots__ = ("revisions", "next_page_token")
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revisions: _containers.RepeatedCompositeFieldContainer[Revision]
    next_page_token: str
    def __init__(self, revisions: _Optional[_Iterable[_Union[Revision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("generation", "sequence", "at", "who", "action", "what", "key", "old_json", "new_json", "claim", "comment", "node")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OLD_JSON_FIELD_NUMBER: _ClassVar[int]
    NEW_JSON_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    sequence: int
    at: float
    who: str
    action: str
    what: str
    key: _containers.RepeatedScalarFieldContainer[str]
    old_json: str
    new_json: str
    claim: str
    comment: str
    node: str
    def __init__(self, generation: _Optional[int] = ..., sequence: _Optional[int] = ..., at: _Optional[float] = ..., who: _Optional[str] = ..., action: _Optional[str] = ..., what: _Optional[str] = ..., key: _Optional[_Iterable[str]] = ..., old_json: _Optional[str] = ..., new_json: _Optional[str] = ..., claim: _Optional[str] = ..., comment: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("generation", "expected_generation", "dry_run", "comment")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    expected_generation: int
    dry_run: bool
    comment: str
    def __init__(self, generation: _Optional[int] = ..., expected_generation: _Optional[int] = ..., dry_run: _Optional[bool] = ..., comment: _Optional[str] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("generation", "changes", "effect", "warnings")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    changes: int
    effect: Effect
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation: _Optional[int] = ..., changes: _Optional[int] = ..., effect: _Optional[_Union[Effect, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class GetDiffRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetDiffResponse(_message.Message):
    __slots__ = ("changes", "truncated")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    truncated: bool
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., truncated: _Optional[bool] = ...) -> None: ...

class Effect(_message.Message):
    __slots__ = ("changes", "truncated", "risks")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    RISKS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    truncated: bool
    risks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., truncated: _Optional[bool] = ..., risks: _Optional[_Iterable[str]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("what", "key", "old_json", "new_json")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OLD_JSON_FIELD_NUMBER: _ClassVar[int]
    NEW_JSON_FIELD_NUMBER: _ClassVar[int]
    what: str
    key: _containers.RepeatedScalarFieldContainer[str]
    old_json: str
    new_json: str
    def __init__(self, what: _Optional[str] = ..., key: _Optional[_Iterable[str]] = ..., old_json: _Optional[str] = ..., new_json: _Optional[str] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("file_name",)
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    file_name: str
    def __init__(self, file_name: _Optional[str] = ...) -> None: ...

class CreateSnapshotResponse(_message.Message):
    __slots__ = ("path", "size_bytes", "generation")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    generation: int
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class GetMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class SetLogLevelRequest(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    def __init__(self, level: _Optional[str] = ...) -> None: ...

class SetLogLevelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadResponse(_message.Message):
    __slots__ = ("applied", "needs_restart", "seed", "problems")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    NEEDS_RESTART_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    applied: _containers.RepeatedCompositeFieldContainer[KeyChange]
    needs_restart: _containers.RepeatedCompositeFieldContainer[KeyChange]
    seed: _containers.RepeatedScalarFieldContainer[str]
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, applied: _Optional[_Iterable[_Union[KeyChange, _Mapping]]] = ..., needs_restart: _Optional[_Iterable[_Union[KeyChange, _Mapping]]] = ..., seed: _Optional[_Iterable[str]] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class KeyChange(_message.Message):
    __slots__ = ("key", "old", "new")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    key: str
    old: str
    new: str
    def __init__(self, key: _Optional[str] = ..., old: _Optional[str] = ..., new: _Optional[str] = ...) -> None: ...

class ReloadGeoipRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadGeoipResponse(_message.Message):
    __slots__ = ("geoip",)
    GEOIP_FIELD_NUMBER: _ClassVar[int]
    geoip: GeoipStatus
    def __init__(self, geoip: _Optional[_Union[GeoipStatus, _Mapping]] = ...) -> None: ...

class ReloadCertificatesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadCertificatesResponse(_message.Message):
    __slots__ = ("certificates",)
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    certificates: _containers.RepeatedCompositeFieldContainer[CertificateStatus]
    def __init__(self, certificates: _Optional[_Iterable[_Union[CertificateStatus, _Mapping]]] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes", "now")
    NODES_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    now: float
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., now: _Optional[float] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "version", "generation", "generations_behind", "seconds_behind", "connections", "warnings", "started_at", "seen_at", "orders_certificates", "state")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GENERATIONS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    ORDERS_CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    generation: int
    generations_behind: int
    seconds_behind: float
    connections: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    started_at: float
    seen_at: float
    orders_certificates: bool
    state: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., generation: _Optional[int] = ..., generations_behind: _Optional[int] = ..., seconds_behind: _Optional[float] = ..., connections: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., started_at: _Optional[float] = ..., seen_at: _Optional[float] = ..., orders_certificates: _Optional[bool] = ..., state: _Optional[str] = ...) -> None: ...

class RemoveNodeRequest(_message.Message):
    __slots__ = ("name", "dry_run")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    name: str
    dry_run: bool
    def __init__(self, name: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class RemoveNodeResponse(_message.Message):
    __slots__ = ("risks",)
    RISKS_FIELD_NUMBER: _ClassVar[int]
    risks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, risks: _Optional[_Iterable[str]] = ...) -> None: ...
