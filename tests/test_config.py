"""The configuration file: every key becomes the value it stands for; what is wrong is reported at once, by its key."""

from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mcproxy.config import load, load_api, load_seed
from mcproxy.configuration import Config
from mcproxy.document import ConfigError, Problem
from mcproxy.model import ROUTE_FIELDS, Backend, FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.table import Table

MINIMAL = '[database]\npath = "x.db"\n'

COMPLETE = """
[database]
path = "data/mcproxy.db"

[[listeners]]
addr = ":443"
proxy_protocol = true
trusted_proxies = ["10.0.0.0/8", "2001:DB8::/32", "192.0.2.1"]
max_connections = 1000
  [[listeners.routes]]
  hostname = "Git.Example.org."
  backend = "127.0.0.1:3000"
  mode = "l4"
  send_proxy_protocol = true
  [[listeners.routes]]
  hostname = "bücher.example"
  backend = "api.Internal.example:8443"
  mode = "l7"
  tls_cert = "certs/api.pem"
  tls_key = "/etc/ssl/api.key"
  backend_tls = true
  backend_ca = "ca.pem"
  backend_server_name = "API.example.org"
[[listeners]]
addr = "[::1]:8443"
  [[listeners.routes]]
  hostname = "git.example.org"
  backend = "unix:/run/git.sock"

[grpc]
addr = "127.0.0.1:9443"
tls_cert = "grpc.pem"
tls_key = "grpc.key"
client_ca = "clients.pem"
client_cert = "me.pem"
client_key = "me.key"
server_ca = "server.pem"

[firewall]
geoip_db = "geo/country.mmdb"
blocked_ips = ["192.0.2.7", "::ffff:192.0.2.8", "2001:DB8::1"]
blocked_cidrs = ["198.51.100.0/24"]
blocked_countries = ["kp"]
max_connections_per_ip = 20
connection_rate_per_ip = 2.5
connection_burst_per_ip = 10

[proxy]
connect_timeout = "500ms"
handshake_timeout = "2m30s"
idle_timeout = "1h"
half_close_timeout = 90
backend_idle_timeout = "1500ms"
shutdown_timeout = 0.25
max_connections = 5000
workers = "auto"

[log]
level = "debug"
format = "json"
"""


def read(folder: Path, text: str | bytes) -> Config:
    path = folder / "mcproxy.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path)


def problems(folder: Path, text: str | bytes) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return caught.value.problems


def test_a_fleets_database_has_its_password_in_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text(FLEET + '[node]\nname = "edge1"')
    config = load(path)
    assert (config.database.file, config.database.key) == (tmp_path / "x.db", "database.cache")
    assert config.node.shown == "edge1"
    assert config.database.url is not None
    assert config.database.url.secret == "postgresql://ann:s3cret@h/x"
    for text in (repr(config), str(config), str(config.database.url)):
        assert "s3cret" not in text


def test_listeners_and_routes(tmp_path: Path) -> None:
    assert list(read(tmp_path, COMPLETE).seed_listeners()) == [
        (
            Listener(":443", True, ("10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"), 1000),
            [
                Route("git.example.org", Backend("127.0.0.1", 3000), Mode.L4, send_proxy_protocol=True),
                Route(
                    hostname="xn--bcher-kva.example",
                    backend=Backend("api.internal.example", 8443),
                    mode=Mode.L7,
                    tls_cert=f"{tmp_path}/certs/api.pem",
                    tls_key="/etc/ssl/api.key",
                    backend_tls=True,
                    backend_ca=f"{tmp_path}/ca.pem",
                    backend_server_name="api.example.org",
                ),
            ],
        ),
        (Listener("[::1]:8443"), [Route("git.example.org", Backend(path="/run/git.sock"))]),
    ]


def test_rules(tmp_path: Path) -> None:
    assert list(read(tmp_path, COMPLETE).seed_rules()) == [
        FirewallRule(RuleKind.IP, "192.0.2.7"),
        FirewallRule(RuleKind.IP, "192.0.2.8"),
        FirewallRule(RuleKind.IP, "2001:db8::1"),
        FirewallRule(RuleKind.CIDR, "198.51.100.0/24"),
        FirewallRule(RuleKind.COUNTRY, "KP"),
    ]


def test_the_other_tables(tmp_path: Path) -> None:
    config = read(tmp_path, COMPLETE)
    assert config.database.path == f"{tmp_path}/data/mcproxy.db"
    assert config.grpc
    assert asdict(config.grpc) == {
        "addr": "127.0.0.1:9443",
        "group": "",
        "tls_cert": f"{tmp_path}/grpc.pem",
        "tls_key": f"{tmp_path}/grpc.key",
        "client_ca": f"{tmp_path}/clients.pem",
        "client_cert": f"{tmp_path}/me.pem",
        "client_key": f"{tmp_path}/me.key",
        "server_ca": f"{tmp_path}/server.pem",
    }
    firewall = config.firewall
    assert firewall.geoip_db == f"{tmp_path}/geo/country.mmdb"
    limits = firewall.max_connections_per_ip, firewall.connection_rate_per_ip, firewall.connection_burst_per_ip
    assert limits == (20, 2.5, 10)
    assert asdict(config.proxy) == {
        "connect_timeout": 0.5,
        "handshake_timeout": 150.0,
        "idle_timeout": 3600.0,
        "half_close_timeout": 90.0,
        "backend_idle_timeout": 1.5,
        "shutdown_timeout": 0.25,
        "max_connections": 5000,
        "workers": "auto",
    }
    assert asdict(config.log) == {"level": "debug", "format": "json"}


def test_what_is_left_out_has_the_contracts_default(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert config.listeners == ()
    assert config.grpc is None
    assert list(config.seed_rules()) == []
    assert asdict(config.firewall) == {
        "geoip_db": "",
        "blocked_ips": (),
        "blocked_cidrs": (),
        "blocked_countries": (),
        "max_connections_per_ip": 0,
        "connection_rate_per_ip": 0.0,
        "connection_burst_per_ip": 0,
    }
    assert asdict(config.proxy) == {
        "connect_timeout": 5.0,
        "handshake_timeout": 10.0,
        "idle_timeout": 300.0,
        "half_close_timeout": 60.0,
        "backend_idle_timeout": 4.0,
        "shutdown_timeout": 30.0,
        "max_connections": 0,
        "workers": 1,
    }
    assert asdict(config.log) == {"level": "info", "format": "text"}
    grpc = read(tmp_path, MINIMAL + '[grpc]\ntls_cert = "a"\ntls_key = "b"\n').grpc
    assert grpc
    assert grpc.addr == "127.0.0.1:9090"
    assert read(tmp_path, MINIMAL + '[grpc]\naddr = "unix:/run/a.sock"').grpc


def test_a_listener_and_a_route_have_the_contracts_defaults(tmp_path: Path) -> None:
    text = MINIMAL + '[[listeners]]\naddr = ":1"\n[[listeners.routes]]\nhostname = "a.test"\nbackend = "b:2"'
    assert list(read(tmp_path, text).seed_listeners()) == [
        (Listener(":1", False, (), 0), [Route("a.test", Backend("b", 2), Mode.L4, "", "", False, "", "", False)])
    ]


def test_paths_are_relative_to_the_file_not_to_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "mcproxy.toml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load(Path("etc/mcproxy.toml")).database.path == f"{tmp_path}/etc/x.db"


def test_a_config_does_not_change(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    with pytest.raises(FrozenInstanceError):
        config.proxy.max_connections = 1  # type: ignore[misc]


FLEET = '[database]\nurl = "postgresql://ann:s3cret@h/x"\ncache = "x.db"\n'
LISTENER = '[[listeners]]\naddr = ":443"\n'
ROUTE = LISTENER + '[[listeners.routes]]\nhostname = "a.test"\nbackend = "b.test:1"\n'

# What is wrong, the key that is named, and a part of what is said.
WRONG = [
    ("[database]\npath = 1", "database.path", "must be a string"),
    ('[database]\npath = ""', "database.path", "must not be empty"),
    ("[database]", "database", "path is required, or url and cache"),
    ('[database]\nurl = "postgresql://h/x"', "database", "url needs cache"),
    ('[database]\ncache = "x.db"', "database", "set url too"),
    ('[database]\npath = "x.db"\nurl = "postgresql://h/x"\ncache = "y.db"', "database", "exclude each other"),
    ('[database]\nurl = "mysql://h/x"\ncache = "y.db"', "database.url", 'must begin with "postgresql://"'),
    ('[database]\nurl = 1\ncache = "y.db"', "database.url", "must be a string"),
    (MINIMAL + '[node]\nname = "a b"', "node.name", "1 to 64 letters"),
    ("database = 1", "database", "must be a table"),
    ("", "database", "is required"),
    (MINIMAL + "[proxi]", "proxi", "did you mean [proxy]?"),
    (MINIMAL + "[proxy]\nidle_time_out = 1", "proxy.idle_time_out", "did you mean idle_timeout?"),
    (MINIMAL + '[proxy]\n"a b" = 1', 'proxy."a b"', "[proxy] has connect_timeout"),
    (MINIMAL + '[proxy]\nidle_timeout = "5 minutes"', "proxy.idle_timeout", "is not a duration"),
    (MINIMAL + '[proxy]\nidle_timeout = "-5s"', "proxy.idle_timeout", "is not a duration"),
    (MINIMAL + "[proxy]\nidle_timeout = -5", "proxy.idle_timeout", "can't be negative"),
    (MINIMAL + "[proxy]\nidle_timeout = inf", "proxy.idle_timeout", "infinite"),
    (MINIMAL + "[proxy]\nidle_timeout = true", "proxy.idle_timeout", "not a duration"),
    (MINIMAL + '[proxy]\nconnect_timeout = "0s"', "proxy.connect_timeout", "must be more than 0"),
    (MINIMAL + "[proxy]\nhandshake_timeout = 0", "proxy.handshake_timeout", "must be more than 0"),
    (MINIMAL + "[proxy]\nmax_connections = -1", "proxy.max_connections", "must be at least 0"),
    (MINIMAL + "[proxy]\nmax_connections = 1.5", "proxy.max_connections", "must be a whole number"),
    (MINIMAL + "[proxy]\nmax_connections = true", "proxy.max_connections", "must be a whole number"),
    (MINIMAL + '[log]\nlevel = "loud"', "log.level", '"debug", "info", "warning" or "error"'),
    (MINIMAL + '[log]\nformat = "xml"', "log.format", '"text" or "json"'),
    (MINIMAL + "[grpc]", "grpc", "needs tls_cert and tls_key"),
    (MINIMAL + '[grpc]\ntls_cert = "a"', "grpc", "go together"),
    (MINIMAL + '[grpc]\naddr = "unix:/a"\nclient_key = "a"', "grpc", "go together"),
    (MINIMAL + '[grpc]\naddr = ":9090"', "grpc.addr", "name the host"),
    (MINIMAL + '[grpc]\ngroup = "a"\ntls_cert = "a"\ntls_key = "a"', "grpc", "group applies to a UNIX socket only"),
    (MINIMAL + '[grpc]\naddr = "unix:"', "grpc.addr", "absolute path"),
    (MINIMAL + f'[grpc]\naddr = "unix:/{"a" * 97}"', "grpc.addr", "longer than 97 bytes"),
    (MINIMAL + '[grpc]\naddr = "unix:a\\u0000"', "grpc.addr", "NUL"),
    ('[database]\npath = "a\\u0000"', "database.path", "NUL"),
    (MINIMAL + f"[proxy]\nidle_timeout = {'9' * 400}", "proxy.idle_timeout", "longer than ten years"),
    (MINIMAL + f"[proxy]\nidle_timeout = '{'9' * 400}s'", "proxy.idle_timeout", "infinite"),
    (MINIMAL + "[proxy]\nidle_timeout = 2024-01-01", "proxy.idle_timeout", "is not a duration"),
    (MINIMAL + "[proxy]\nidle_timeout = [1]", "proxy.idle_timeout", "is not a duration"),
    (MINIMAL + f"[proxy]\nmax_connections = {2**31}", "proxy.max_connections", "must be at most 2147483647"),
    (MINIMAL + f"[proxy]\nmax_connections = 0x{'f' * 5000}", "proxy.max_connections", "must be at most 2147483647"),
    (MINIMAL + f"[proxy]\nworkers = {'9' * 400}", "proxy.workers", "1 to 64"),
    (MINIMAL + f"[proxy]\nmax_connections = {'9' * 5000}", "", "is not TOML"),
    (MINIMAL + f"x = {'[' * 5000}", "", "nested too deeply"),
    (MINIMAL + '[firewall]\nblocked_ips = ["1.2.3"]', "firewall.blocked_ips[0]", "not an IP address"),
    (MINIMAL + '[firewall]\nblocked_ips = "192.0.2.1"', "firewall.blocked_ips", "must be an array"),
    (MINIMAL + '[firewall]\nblocked_cidrs = ["10.0.0.0/8", "10.0.0.1/8"]', "firewall.blocked_cidrs[1]", "10.0.0.0/8"),
    (MINIMAL + '[firewall]\ngeoip_db = "a"\nblocked_countries = ["UK"]', "firewall.blocked_countries[0]", '"GB"'),
    (MINIMAL + '[firewall]\nblocked_countries = ["DE"]', "firewall", "needs geoip_db"),
    (MINIMAL + "[firewall]\nconnection_burst_per_ip = 3", "firewall", "needs connection_rate_per_ip"),
    (MINIMAL + "[firewall]\nconnection_rate_per_ip = -0.5", "firewall.connection_rate_per_ip", "must be 0"),
    (MINIMAL + "[firewall]\nconnection_rate_per_ip = inf", "firewall.connection_rate_per_ip", "must be 0"),
    (MINIMAL + "[firewall]\nconnection_rate_per_ip = nan", "firewall.connection_rate_per_ip", "must be 0"),
    (MINIMAL + "[firewall]\nconnection_rate_per_ip = 1e-9", "firewall.connection_rate_per_ip", "from 0.00001 to"),
    (MINIMAL + f"[firewall]\nconnection_rate_per_ip = {'9' * 400}", "firewall.connection_rate_per_ip", "must be 0"),
    (MINIMAL + "[[listeners]]", "listeners[0].addr", "is required"),
    (MINIMAL + "[listeners]", "listeners", "must be an array"),
    (MINIMAL + '[[listeners]]\naddr = "example.org:443"', "listeners[0].addr", "not an IP address"),
    (MINIMAL + '[[listeners]]\naddr = "443"', "listeners[0].addr", "has no colon"),
    (MINIMAL + LISTENER + "proxy_protocol = true", "listeners[0]", "needs trusted_proxies"),
    (MINIMAL + LISTENER + 'trusted_proxies = ["::/0"]', "listeners[0]", "only works with proxy_protocol"),
    (
        MINIMAL + LISTENER + 'proxy_protocol = true\ntrusted_proxies = ["all"]',
        "listeners[0].trusted_proxies[0]",
        "not a network",
    ),
    (MINIMAL + LISTENER + 'proxy_protocol = "yes"', "listeners[0].proxy_protocol", "must be true or false"),
    (MINIMAL + ROUTE + "port = 1", "listeners[0].routes[0].port", "[[listeners.routes]] has hostname"),
    (MINIMAL + ROUTE + 'mode = "l5"', "listeners[0].routes[0].mode", '"l4" or "l7"'),
    (MINIMAL + ROUTE + 'mode = "l7"', "listeners[0].routes[0]", "needs tls_cert and tls_key"),
    (MINIMAL + ROUTE + 'tls_cert = "a"', "listeners[0].routes[0]", "tls_cert only works with"),
    (MINIMAL + ROUTE + 'backend_ca = "a"', "listeners[0].routes[0]", "backend_ca only works with"),
    (MINIMAL + ROUTE.replace("b.test:1", "b.test"), "listeners[0].routes[0].backend", "has no port"),
    (MINIMAL + ROUTE.replace("b.test:1", "b.test:0"), "listeners[0].routes[0].backend", "port 0"),
    (MINIMAL + ROUTE.replace("a.test", "*.test"), "listeners[0].routes[0].hostname", 'contains "*"'),
    (MINIMAL + ROUTE.replace("a.test", "192.0.2.1"), "listeners[0].routes[0].hostname", "is an IP address"),
]


@pytest.mark.parametrize(("text", "key", "message"), WRONG)
def test_each_problem_is_told_with_its_key(text: str, key: str, message: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.key == key
    assert message in problem.message


@pytest.mark.parametrize("workers", ["0", "-1", "1.5", '"all"', "true"])
def test_workers_are_a_number_or_auto(workers: str, tmp_path: Path) -> None:
    found = problems(tmp_path, f"{MINIMAL}[proxy]\nworkers = {workers}")
    assert {problem.key for problem in found} == {"proxy.workers"}


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = """
    colour = "red"
    [[listeners]]
    addr = "localhost:443"
      [[listeners.routes]]
      hostname = "a.test"
      backend = "127.0.0.1:80"
      [[listeners.routes]]
      hostname = "-a.test"
      backend = "127.0.0.1"
      mode = "l7 "
    [[listeners]]
    addr = ":1"
    proxy_protocol = true
    [firewall]
    blocked_ips = ["192.0.2.1", "nobody"]
    [proxy]
    idle_timeout = "soon"
    """
    found = problems(tmp_path, text)
    assert {problem.key for problem in found} == {
        "colour",
        "database",
        "listeners[0].addr",
        "listeners[0].routes[1].hostname",
        "listeners[0].routes[1].backend",
        "listeners[0].routes[1].mode",
        "listeners[1]",
        "firewall.blocked_ips[1]",
        "proxy.idle_timeout",
    }
    path = tmp_path / "mcproxy.toml"
    lines = str(ConfigError(path, found)).splitlines()
    assert len(lines) == len(found) == 9
    assert all(line.startswith(f"{path}: {problem.key}: ") for line, problem in zip(lines, found, strict=True))


def test_what_is_there_twice_is_told(tmp_path: Path) -> None:
    text = """
    [[listeners]]
    addr = "[::0:1]:444"
    routes = [{hostname = "b\u00fccher.test", backend = "a:1"}, {hostname = "b.test", backend = "a:1"},
              {hostname = "XN--BCHER-KVA.test.", backend = "a:2"}]
    [[listeners]]
    addr = ":443"
    routes = [{hostname = "b.test", backend = "a:1"}]
    [[listeners]]
    addr = ":443"
    """
    assert [(problem.key, problem.message) for problem in problems(tmp_path, MINIMAL + text)] == [
        ("listeners[0].routes[2].hostname", "xn--bcher-kva.test is also routes[0]; remove one of the two"),
        ("listeners[2].addr", ":443 is also listeners[1]; remove one of the two"),
    ]
    told = {problem.key for problem in problems(tmp_path, "colour = 1\n" + MINIMAL + text)}
    assert told == {"colour", "listeners[0].routes[2].hostname", "listeners[2].addr"}, (
        "in one round with other problems"
    )


def test_a_socket_is_relative_to_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text(MINIMAL + ROUTE.replace("b.test:1", "unix:run/b.sock") + '[grpc]\naddr = "unix:a.sock"')
    config = load(path)
    assert config.grpc
    assert config.grpc.addr == f"unix:{tmp_path}/a.sock"
    (_, (route,)) = config.listeners[0]
    assert route.backend == Backend(path=f"{tmp_path}/run/b.sock")


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[database]\npath = \n")
    assert problem.key == ""
    assert problem.message.startswith("line 2, column 8: is not TOML: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml")
    assert str(caught.value) == f"{tmp_path}/none.toml: can't be read: No such file or directory"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(tmp_path)


def test_the_commands_need_the_table_grpc_alone(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text('log = 5\n[databas]\n[[listeners]]\nadr = 1\n[grpc]\naddr = "unix:a.sock"\ntls_cert = 5\nx = 1\n')
    section = load_api(path)
    assert section
    assert section.addr == f"unix:{tmp_path}/a.sock"


def test_what_only_serves_clients_is_enough_for_the_commands(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text(
        '[grpc]\naddr = "a.test:9090"\nserver_ca = "ca.pem"\nclient_cert = "me.pem"\nclient_key = "/me.key"'
    )
    section = load_api(path)
    assert section
    assert section.model_dump() == {
        "addr": "a.test:9090",
        "client_cert": f"{tmp_path}/me.pem",
        "client_key": "/me.key",
        "server_ca": f"{tmp_path}/ca.pem",
    }


def test_the_servers_own_address_has_a_default_for_the_commands_too(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text('[grpc]\ntls_cert = "a.pem"\ntls_key = "a.key"')
    section = load_api(path)
    assert section
    assert section.addr == "127.0.0.1:9090"


def test_a_file_without_an_admin_api(tmp_path: Path) -> None:
    (tmp_path / "mcproxy.toml").write_text(MINIMAL)
    assert load_api(tmp_path / "mcproxy.toml") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[grpc]\nserver_ca = "ca.pem"', "grpc.addr: is required; write the server's, as in addr = "),
        ('[grpc]\naddr = "a.test"', "grpc.addr: "),
        ('[grpc]\naddr = "a.test:1"\nclient_cert = "x"', "grpc: client_cert and client_key go together"),
        ('[grpc]\naddr = "a.test:1"\nserver_ca = 5', "grpc.server_ca: "),
        ("grpc = 5", "grpc: must be a table"),
        ("[grpc\naddr = 1", "line 1, column 6: is not TOML: "),
    ],
)
def test_what_is_wrong_for_the_commands(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "mcproxy.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_api(tmp_path / "mcproxy.toml")
    assert str(caught.value).startswith(f"{tmp_path}/mcproxy.toml: {told}")


def changed(route: Route, field: str) -> Route:
    changes: Any = {field: _other(getattr(route, field))}
    return replace(route, **changes)


def _other(value: object) -> object:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case Mode():
            return next(mode for mode in Mode if mode is not value)
        case Backend():
            return Backend("192.0.2.9", 9)
        case str():
            return value + "x"
    raise TypeError(value)


def test_routes_that_a_table_has_alike_are_its_own(tmp_path: Path) -> None:
    """Comparing 100,000 routes with those of the database costs a start a tenth of a second then, not three."""
    loaded = read(tmp_path, COMPLETE)
    written = [route for _, routes in loaded.seed_listeners() for route in routes]

    def shared_with(routes: list[Route]) -> list[Route]:
        held = Table.build([(Listener(":443"), routes[:2]), (Listener("[::1]:8443"), routes[2:])])
        return [route for _, found in loaded.seed_listeners(held) for route in found]

    assert all(found is held for found, held in zip(shared_with(written), written, strict=True))
    for field in ROUTE_FIELDS[1:]:
        others = [changed(route, field.name) for route in written]
        assert shared_with(others) == written, f"a route with another {field.name} is another route"


SEED = """
[[listeners]]
addr = ":443"
  [[listeners.routes]]
  hostname = "git.example.org"
  backend = "127.0.0.1:3000"
[firewall]
blocked_ips = ["192.0.2.7"]
blocked_countries = ["aq"]
"""


@pytest.mark.parametrize("others", ["", '[log]\nlevel = "none"\n[database]\nnowhere = 1\n[proxy]\nx = 2\n'])
def test_a_seed_is_read_by_itself(tmp_path: Path, others: str) -> None:
    path = tmp_path / "seed.toml"
    path.write_text(f"{SEED}connection_rate_per_ip = []\n{others}")
    listeners, rules = load_seed(path)
    assert listeners == [(Listener(":443"), [Route("git.example.org", Backend("127.0.0.1", 3000))])]
    assert rules == [FirewallRule(RuleKind.IP, "192.0.2.7"), FirewallRule(RuleKind.COUNTRY, "AQ")]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("listener = []", "listener"),
        ("blocked_ips = []", "blocked_ips"),
        ("firewall = 3", "firewall"),
        ("[firewall]\nblocked_ip = []", "firewall.blocked_ip"),
        ('[[listeners]]\naddr = ":443"\n[[listeners]]\naddr = "127.0.0.1:443"', "listeners[1].addr"),
    ],
)
def test_a_seed_that_is_wrong_is_no_empty_one(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "seed.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_seed(path)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    """What was exported has the paths of the database, which the API takes as they are written."""
    path = tmp_path / "seed.toml"
    l7 = 'mode = "l7"\ntls_cert = "/etc//a.pem"\ntls_key = "/etc/./a.key"\n'
    path.write_text(SEED.replace("[firewall]", f"{l7}[firewall]"))
    ((_, (route,)),), _ = load_seed(path)
    assert (route.tls_cert, route.tls_key) == ("/etc//a.pem", "/etc/./a.key")
