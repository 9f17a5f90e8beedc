import errno
import json
from pathlib import Path

import pytest

from mcproxy.certificates.routes import RouteProblem
from mcproxy.store import history
from tests.kit.commands import SEED, shell
from tests.kit.control_plane import Control

NEW = """
[[listeners]]
addr = ":443"
  [[listeners.routes]]
  hostname = "git.example.org"
  backend = "127.0.0.1:9"
  [[listeners.routes]]
  hostname = "new.example.org"
  backend = "127.0.0.1:3002"
"""
PLAN = """\
~ route git.example.org on :443: backend 127.0.0.1:3000 -> 127.0.0.1:9
+ route new.example.org on :443: backend=127.0.0.1:3002, mode=l4
"""
PRUNED = """\
~ route git.example.org on :443: backend 127.0.0.1:3000 -> 127.0.0.1:9
+ route new.example.org on :443: backend=127.0.0.1:3002, mode=l4
- route www.example.org on :443
- firewall rule cidr 198.51.100.0/24
- firewall rule ip 192.0.2.1
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "routes.toml"
    path.write_text(text)
    return path


def hosts(control: Control) -> dict[str, str]:
    return {name: str(route.backend) for name, route in control.writer.table.listeners[":443"].routes.items()}


def test_a_file_becomes_the_database_and_again_changes_nothing(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.warnings = []
        file = write(tmp_path, NEW)
        assert user.ends(1, "apply", file, "--dry-run") == f"{PLAN}1 to add, 1 to change (generation 1)\n"
        assert user.ok("apply", file) == f"{PLAN}1 added, 1 changed (generation 2)\n"
        assert hosts(control) == {
            "git.example.org": "127.0.0.1:9", "new.example.org": "127.0.0.1:3002", "www.example.org": "127.0.0.1:3001",
        }  # fmt: skip
        for again in ((), ("--dry-run",)):
            assert user.ok("apply", file, *again) == "nothing to change (generation 2)\n"


def test_what_the_file_lacks_is_removed_where_it_is_asked_for(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.warnings = []
        file = write(tmp_path, NEW)
        user.ok("firewall", "add", "192.0.2.77", "--ttl", "1h")
        planned = user.ends(1, "apply", file, "--prune", "--dry-run")
        assert planned == f"{PRUNED}1 to add, 1 to change, 3 to remove (generation 2)\n"
        done = user.ok("apply", file, "--prune", "--yes")
        assert done == f"{PRUNED}1 added, 1 changed, 3 removed (generation 3)\n"
        assert hosts(control) == {"git.example.org": "127.0.0.1:9", "new.example.org": "127.0.0.1:3002"}
        assert [each["value"] for each in user.json("firewall", "list")] == ["192.0.2.77"]
        assert user.ok("apply", file, "--prune") == "nothing to change (generation 3)\n"


def test_removing_is_asked_about(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        file = write(tmp_path, NEW)
        before = control.writer.table
        assert "--yes" in user.run("apply", file, "--prune").stderr
        assert control.writer.table is before


def test_what_is_exported_changes_nothing(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        user.ok("firewall", "add", "192.0.2.77", "--ttl", "1h")
        user.ok("export", "-o", tmp_path / "all.toml")
        assert user.ok("apply", tmp_path / "all.toml", "--prune") == "nothing to change (generation 2)\n"


def test_a_whole_configuration_file_is_taken_and_its_settings_are_not_looked_at(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        file = write(tmp_path, f"[log]\nlvel = 1\n[database]\npath = 3\n[grpc]\naddr = 7\n{SEED}geoip_db = 5\n")
        assert user.ok("apply", file, "--prune") == "nothing to change (generation 1)\n"


@pytest.mark.parametrize("text", ["[[listener]]\naddr = ':443'\n", "[firewall]\nblocked_ip = []\n"])
def test_a_misspelt_key_is_no_empty_file(tmp_path: Path, text: str) -> None:
    with shell(tmp_path) as (user, _):
        told = user.fails(2, "apply", write(tmp_path, text), "--prune", "--yes")
        assert told.startswith(f"{tmp_path}/routes.toml: ")


def test_every_problem_of_the_file_is_named_with_its_place(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        before = control.writer.table
        bad = NEW.replace("127.0.0.1:9", "127.0.0.1").replace("new.example.org", "-")
        file = write(tmp_path, bad)
        told = user.fails(2, "apply", file).splitlines()
        assert [line.split(": ")[:2] for line in told] == [
            [str(file), "listeners[0].routes[0].backend"],
            [str(file), "listeners[0].routes[1].hostname"],
        ]
        assert control.writer.table is before


def test_what_the_server_finds_has_the_places_of_the_file(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        file = write(tmp_path, f'[[listeners]]\naddr = ":8443"\n{NEW}')
        control.plane.problems = [
            RouteProblem(":443", "git.example.org", "tls_cert", "/a.pem can't be read"),
            RouteProblem(":443", "new.example.org", "tls_key", "/a.key can't be read"),
        ]
        assert user.fails(2, "apply", file).splitlines() == [
            f"{file}: listeners[1].routes[0].tls_cert: /a.pem can't be read",
            f"{file}: listeners[1].routes[1].tls_key: /a.key can't be read",
        ]


def test_an_address_that_cannot_be_had(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        before = control.writer.table
        control.plane.fail["bind_listener"] = OSError(errno.EADDRINUSE, "Address already in use")
        told = user.fails(1, "apply", write(tmp_path, f'{NEW}\n[[listeners]]\naddr = ":8443"\n'))
        assert told == "mcproxy: can't listen on :8443: another program listens there; nothing has changed"
        assert control.writer.table is before


def test_the_last_listener_is_kept(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        told = user.fails(2, "apply", write(tmp_path, ""), "--prune", "--yes")
        assert told == "mcproxy: --prune: would remove every listener: keep at least one"


def test_the_generation_that_is_expected(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        file = write(tmp_path, NEW)
        assert "the generation is 1, not 5" in user.fails(1, "apply", file, "--expect", "5")
        assert "generation 2" in user.ok("apply", file, "--expect", "1")


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    with shell(tmp_path) as (user, control):
        l7 = 'mode = "l7"\n  tls_cert = "a.pem"\n  tls_key = "/etc/a.key"\n'
        user.ok("apply", write(tmp_path / "conf", NEW + l7))
        route = control.writer.table.listeners[":443"].routes["new.example.org"]
        assert (route.tls_cert, route.tls_key) == (f"{tmp_path}/conf/a.pem", "/etc/a.key")


def test_a_value_that_no_message_can_carry(tmp_path: Path) -> None:
    networks = ", ".join(f'"10.{i // 256}.{i % 256}.0/24"' for i in range(6000))
    listener = f'[[listeners]]\naddr = ":443"\nproxy_protocol = true\ntrusted_proxies = [{networks}]\n'
    with shell(tmp_path) as (user, _):
        file = write(tmp_path, listener)
        assert user.fails(2, "apply", file) == f"{file}: listeners[0]: is larger than 60 KiB, which is the limit"


def test_for_programs(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        file = write(tmp_path, NEW)
        planned = user.run("apply", file, "--dry-run", "--json")
        found = json.loads(planned.stdout)
        assert planned.exit_code == 1
        assert found["generation"] == 1
        assert found["warnings"] == ["its certificate expires in 3 days"]
        assert [(each["change"], each["what"], each["scope"], each["name"]) for each in found["changes"]] == [
            ("change", "route", ":443", "git.example.org"),
            ("add", "route", ":443", "new.example.org"),
        ]
        assert user.json("apply", file)["generation"] == 2


def test_many_routes_go_in_messages_that_the_server_takes(tmp_path: Path) -> None:
    routes = "".join(
        f'[[listeners.routes]]\nhostname = "r{i}.example.org"\nbackend = "unix:/{"x" * 100}"\n' for i in range(2000)
    )
    with shell(tmp_path) as (user, control):
        told = user.ok("apply", write(tmp_path, f'[[listeners]]\naddr = ":443"\n{routes}'))
        assert told.endswith("2000 added (generation 2)\n")
        assert len(hosts(control)) == 2002
        assert {row.action for row in history.revisions(control.writer.store, 2000)} == {"apply"}
