"""Which keys a reload applies, which wait for a restart, and which are not read again."""

from pathlib import Path
from typing import Any

import pytest

from mcproxy import config
from mcproxy.reload.keys import APPLIED, OF_COMMANDS, SEED, Plan, after, fixed, plan, values

TCP = {"addr": "127.0.0.1:9090", "tls_cert": "a.pem", "tls_key": "a.key"}
SOCKET = {"addr": "unix:/run/a.sock"}


def read(**tables: Any) -> dict[str, object]:
    return values(config.parse({"database": {"path": "x.db"}, **tables}, Path("/etc/mcproxy.toml")))


def told(found: Plan) -> tuple[list[str], list[str], list[str]]:
    return list(map(str, found.applied)), list(map(str, found.waiting)), list(found.seed)


def test_every_key_that_has_a_place_is_a_key() -> None:
    assert {*read(grpc=TCP), *read(acme={"accept_terms": True})} >= APPLIED | SEED | OF_COMMANDS
    assert not (APPLIED & SEED) | (APPLIED & OF_COMMANDS) | (SEED & OF_COMMANDS)


def test_nothing_to_do() -> None:
    assert told(plan(read(grpc=TCP), read(grpc=TCP))) == ([], [], [])
    assert told(plan(read(), read(log={"level": "info"}, proxy={"idle_timeout": 300}))) == ([], [], [])


@pytest.mark.parametrize(
    ("table", "old", "new", "text"),
    [
        ("log", {}, {"level": "debug"}, "log.level from info to debug"),
        ("log", {"format": "json"}, {}, "log.format from json to text"),
        ("proxy", {}, {"idle_timeout": "90s"}, "proxy.idle_timeout from 5m to 1m30s"),
        ("proxy", {"shutdown_timeout": 0}, {}, "proxy.shutdown_timeout from 0s to 30s"),
        ("proxy", {}, {"max_connections": 10}, "proxy.max_connections from 0 to 10"),
        ("firewall", {}, {"connection_rate_per_ip": 0.5}, "firewall.connection_rate_per_ip from 0 to 0.5"),
        ("firewall", {}, {"geoip_db": "/a.mmdb"}, 'firewall.geoip_db from "" to /a.mmdb'),
    ],
)
def test_what_is_applied(table: str, old: dict[str, Any], new: dict[str, Any], text: str) -> None:
    assert told(plan(read(**{table: old}), read(**{table: new}))) == ([text], [], [])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ({}, {"database": {"path": "/y.db"}}, "database.path from /etc/x.db to /y.db"),
        ({}, {"proxy": {"workers": "auto"}}, "proxy.workers from 1 to auto"),
        ({"grpc": TCP}, {"grpc": {**TCP, "addr": "[::1]:1"}}, "grpc.addr from 127.0.0.1:9090 to [::1]:1"),
        ({}, {"grpc": TCP}, "grpc from no table to a table"),
        ({"grpc": TCP}, {}, "grpc from a table to no table"),
        ({"grpc": TCP}, {"grpc": {**TCP, "client_ca": "/ca.pem"}}, 'grpc.client_ca from "" to /ca.pem'),
        ({"grpc": {**TCP, "client_ca": "/ca.pem"}}, {"grpc": TCP}, 'grpc.client_ca from /ca.pem to ""'),
    ],
)
def test_what_waits_for_a_restart(old: dict[str, Any], new: dict[str, Any], text: str) -> None:
    assert told(plan(read(**old), read(**new))) == ([], [text], [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"database": {"path": "/y.db"}}),
        ({}, {"proxy": {"workers": "auto"}}),
        ({"grpc": TCP}, {"grpc": {**TCP, "addr": "[::1]:1"}}),
        ({}, {"grpc": TCP}),
        ({"grpc": TCP}, {"grpc": {**TCP, "client_ca": "/ca.pem"}}),
    ],
)
def test_keys_that_wait_for_a_restart_have_another_digest(old: dict[str, Any], new: dict[str, Any]) -> None:
    """So that a reload knows that it takes a new process."""
    digests = [fixed(config.parse({"database": {"path": "x.db"}, **each}, Path("/x.toml"))) for each in (old, new)]
    assert digests[0] != digests[1]


def test_other_keys_have_the_same_digest() -> None:
    def digest(**tables: Any) -> str:
        return fixed(config.parse({"database": {"path": "x.db"}, **tables}, Path("/x.toml")))

    fresh = {
        "log": {"level": "debug"}, "firewall": {"blocked_ips": ["192.0.2.1"]}, "proxy": {"idle_timeout": "1s"},
        "listeners": [{"addr": ":1"}],
    }  # fmt: skip
    assert digest(**fresh) == digest()
    assert digest(grpc={**TCP, "tls_cert": "b.pem", "server_ca": "c.pem"}) == digest(grpc=TCP)


def test_a_key_that_no_list_has_waits_for_a_restart() -> None:
    found = plan({"proxy.colour": "red"}, {"proxy.colour": "blue", "node.name": "a"})
    assert [change.key for change in found.waiting] == ["proxy.colour", "node.name"]


def test_certificates_of_the_admin_api_wait_with_its_address() -> None:
    moved = {**TCP, "tls_cert": "b.pem", "tls_key": "b.key", "addr": "127.0.0.1:1"}
    assert [change.key for change in plan(read(grpc=TCP), read(grpc=moved)).waiting] == [
        "grpc.addr", "grpc.tls_cert", "grpc.tls_key",
    ]  # fmt: skip
    moved.update(addr=TCP["addr"], client_cert="c.pem", client_key="c.key", server_ca="ca.pem")
    applied, waiting, seed = told(plan(read(grpc=TCP), read(grpc=moved)))
    assert applied == ["grpc.tls_cert from /etc/a.pem to /etc/b.pem", "grpc.tls_key from /etc/a.key to /etc/b.key"]
    assert (waiting, seed) == ([], []), "what only commands read is nobody's business here"


def test_what_fills_an_empty_database_is_not_read_again() -> None:
    wanted = read(listeners=[{"addr": ":1"}], firewall={"blocked_ips": ["192.0.2.1"], "max_connections_per_ip": 3})
    applied, waiting, seed = told(plan(read(), wanted))
    assert applied == ["firewall.max_connections_per_ip from 0 to 3"]
    assert (waiting, sorted(seed)) == ([], ["firewall.blocked_ips", "listeners"])


def test_what_was_not_taken_is_told_again() -> None:
    old, new = read(), read(log={"level": "debug", "format": "json"}, proxy={"workers": 2})
    then = after(old, new, ["log.level"])
    assert told(plan(then, new)) == (["log.format from text to json"], ["proxy.workers from 1 to 2"], [])


def test_a_table_that_comes_and_goes_is_in_force_as_a_whole() -> None:
    """A reload with a new [acme] ended in a KeyError."""
    without, with_one = read(), read(acme={"accept_terms": True})
    other = read(acme={"accept_terms": True, "email": "me@example.org"})
    assert told(plan(without, with_one)) == (["acme from no table to a table"], [], [])
    assert after(without, with_one, ["acme"]) == with_one
    assert after(with_one, without, ["acme"]) == without
    assert told(plan(with_one, other)) == (['acme.email from "" to me@example.org'], [], [])
    assert after(with_one, other, ["acme.email"]) == other
