import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcproxy.admin import bulk
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import is_temporary, table_values, values
from mcproxy.cli.export import HEAD, document
from mcproxy.config import load_seed
from mcproxy.model import Backend, FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.table import Table
from tests.kit.commands import shell
from tests.kit.control_plane import route
from tests.kit.tables import tables


def exported(table: Table) -> str:
    whole = pb.Values()
    for part in bulk.exported(table):
        whole.MergeFrom(part)
    return document(whole)


@settings(deadline=None)
@given(table=tables())
def test_the_file_says_what_the_table_says(table: Table, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("export") / "exported.toml"
    path.write_text(exported(table), encoding="utf-8")
    permanent = {key: value for key, value in table_values(table).items() if not is_temporary(value)}
    assert values(*load_seed(path)) == permanent


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_every_text_is_escaped_as_toml_has_it(text: str) -> None:
    listener = pb.Listener(addr=text, trusted_proxies=[text])
    found = tomllib.loads(document(pb.Values(listeners=[listener])))["listeners"][0]
    assert (found["addr"], found["trusted_proxies"]) == (text, [text])


WHOLE = Table.build(
    [
        (Listener(":8443", max_connections=5), []),
        (
            Listener(":443", True, ("192.0.2.0/24", "198.51.100.0/24")),
            [
                route("www.example.org"),
                Route("api.example.org", Backend("127.0.0.1", 8080), Mode.L7, "/etc/a.pem", "/etc/a.key"),
            ],
        ),
    ],
    [
        FirewallRule(RuleKind.COUNTRY, "AQ"),
        FirewallRule(RuleKind.IP, "192.0.2.9"),
        FirewallRule(RuleKind.IP, "192.0.2.7", 1_000_000_000.0),
        FirewallRule(RuleKind.IP, "192.0.2.1"),
    ],
    7,
)
FILE = f"""\
{HEAD}

[[listeners]]
addr = ":443"
proxy_protocol = true
trusted_proxies = ["192.0.2.0/24", "198.51.100.0/24"]

  [[listeners.routes]]
  hostname = "api.example.org"
  backend = "127.0.0.1:8080"
  mode = "l7"
  tls_cert = "/etc/a.pem"
  tls_key = "/etc/a.key"

  [[listeners.routes]]
  hostname = "www.example.org"
  backend = "127.0.0.1:3000"

[[listeners]]
addr = ":8443"
max_connections = 5

[firewall]
blocked_ips = [
  "192.0.2.1",
  "192.0.2.9",
]
blocked_countries = [
  "AQ",
]

# Temporary rules, which are not applied:
#   ip 192.0.2.7 until 2001-09-09 01:46:40Z
"""


def test_it_is_sorted_and_leaves_out_defaults() -> None:
    assert exported(WHOLE) == FILE


def test_nothing_is_a_file_too() -> None:
    assert exported(Table()) == f"{HEAD}\n"


def test_to_standard_output_or_to_a_file(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        printed = user.ok("export")
        assert tomllib.loads(printed)["listeners"][0]["routes"][0]["hostname"] == "git.example.org"
        assert user.ok("export", "-o", tmp_path / "a.toml") == f"{tmp_path}/a.toml: 5 values of generation 1\n"
        assert (tmp_path / "a.toml").read_text() == printed
        assert "no/a.toml can't be written: No such file" in user.fails(1, "export", "-o", tmp_path / "no" / "a.toml")


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    """What another user placed there was written through: `sudo mcproxy export -o` over a link, or a hard link."""
    target, other = tmp_path / "exported.toml", tmp_path / "other"
    other.write_text("of somebody else")
    with shell(tmp_path) as (user, _):
        target.hardlink_to(other)
        target.chmod(0o640)
        user.ok("export", "-o", target)
        assert target.read_text().startswith(HEAD)
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        assert other.read_text() == "of somebody else"
        user.ok("export", "-o", target)
        assert sorted(each.name for each in tmp_path.iterdir() if "exported" in each.name) == ["exported.toml"]


def test_a_new_file_has_the_mode_that_a_shell_would_give_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with shell(tmp_path) as (user, _):
            user.ok("export", "-o", tmp_path / "exported.toml")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "exported.toml").stat().st_mode) == 0o640


def test_what_is_no_file_is_not_written_to(tmp_path: Path) -> None:
    """A link was followed, so that whoever owns the folder could have root overwrite any file."""
    link, fifo, other = tmp_path / "link", tmp_path / "fifo", tmp_path / "other"
    other.write_text("of somebody else")
    link.symlink_to(other)
    os.mkfifo(fifo)
    with shell(tmp_path) as (user, _):
        told = user.fails(1, "export", "-o", link)
        assert told == f"mcproxy: {link} can't be written: it is a symbolic link; name the file that it leads to"
        assert user.fails(1, "export", "-o", fifo).endswith("it is not a regular file; leave out -o, and use > or |")
        assert link.is_symlink()
        assert stat.S_ISFIFO(fifo.stat().st_mode)
        assert "Permission denied" in user.fails(1, "export", "-o", "/proc/1/exported.toml") or os.getuid() == 0
    assert other.read_text() == "of somebody else"
