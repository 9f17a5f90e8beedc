from pathlib import Path

import pytest

from mcproxy.certificates.routes import RouteRefused
from tests.cli.runner import shell


def test_add_list_replace_remove(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        assert user.ok("routes", "add", "a.example.org", "unix:/run/a.sock") == (
            "a.example.org leads to unix:/run/a.sock (generation 2)\n"
        )
        assert user.fails(1, "routes", "add", "a.example.org", "127.0.0.1:1") == (
            "mcproxy: the route a.example.org on :443 exists; --replace replaces it"
        )
        assert user.fails(1, "routes", "add", "b.example.org", "127.0.0.1:1", "--replace") == (
            "mcproxy: there is no route b.example.org on :443; leave out --replace to add it"
        )
        assert user.fails(1, "routes", "add", "a.example.org", "127.0.0.1:1", "--replace", "--listener", ":1") == (
            "mcproxy: there is no listener :1; there are :443"
        )
        user.ok(
            "routes", "add", "a.example.org", "127.0.0.1:9", "--replace", "--send-proxy-protocol", "--listener", ":443"
        )
        assert user.rows("routes", "list")[0] == [":443", "a.example.org", "127.0.0.1:9", "l4", "send_proxy_protocol"]
        (first, *_rest) = user.json("routes", "list", "--listener", ":443")
        assert (first["listener"], first["hostname"], first["mode"]) == (":443", "a.example.org", "l4")
        assert user.json("routes", "remove", "A.example.org") == {"generation": 4}
        assert "a.example.org" not in control.writer.table.listeners[":443"].routes
        assert "no route a.example.org" in user.fails(1, "routes", "remove", "a.example.org")


def test_an_l7_route_with_paths_as_seen_from_here(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        options = (
            "--mode",
            "l7",
            "--tls-cert",
            "c.pem",
            "--tls-key",
            "/etc/k.pem",
            "--backend-tls",
            "--backend-ca",
            "ca.pem",
        )
        result = user.run("routes", "add", "l7.example.org", "127.0.0.1:1", *options)
        assert result.exit_code == 0
        assert "warning: its certificate ends in 3 days" in result.stderr
        route = control.writer.table.listeners[":443"].routes["l7.example.org"]
        assert (route.tls_cert, route.tls_key) == (str(Path("c.pem").absolute()), "/etc/k.pem")
        assert (route.backend_tls, route.backend_ca) == (True, str(Path("ca.pem").absolute()))
        assert user.rows("routes", "list")[1][3:] == [
            "l7", f"tls_cert={Path('c.pem').absolute()} backend_tls backend_ca={Path('ca.pem').absolute()}",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--mode", "l7"), "--mode l7 terminates TLS, so it needs --tls-cert and --tls-key"),
        (("--tls-cert", "x"), "--tls-cert only works with --mode l7; an l4 stream is never terminated"),
        (("--backend-tls", "--tls-key", "k"), "--tls-key, --backend-tls only work with --mode l7; an l4 stream"),
        (("--backend-ca", "x"), "--backend-ca only works with --backend-tls"),
        (("--backend-server-name", "a b"), "--backend-server-name: "),
    ],
)
def test_errors_name_the_options_that_were_typed(options: tuple[str, ...], told: str, tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.fails(2, "routes", "add", "a.test", "127.0.0.1:1", *options).startswith(f"mcproxy: {told}")


def test_an_error_about_a_file_names_its_option_and_leaves_its_path_alone(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        problem = "/etc/tls_key is not the key of backend_tls tls_cert"
        control.plane.fail["check_route"] = RouteRefused("tls_key", problem)
        options = ("--mode", "l7", "--tls-cert", "backend_tls tls_cert", "--tls-key", "/etc/tls_key")
        assert user.fails(2, "routes", "add", "a.test", "127.0.0.1:1", *options) == (f"mcproxy: --tls-key: {problem}")


def test_history_and_rollback(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        user.ok("routes", "add", "a.example.org", "127.0.0.1:1")
        user.ok("routes", "add", "a.example.org", "127.0.0.1:2", "--replace")
        user.ok("routes", "remove", "git.example.org")
        user.ok("firewall", "add", "ip", "203.0.113.7")
        rows = user.rows("routes", "history")
        assert [(row[0], row[3], row[4], row[5]) for row in rows[:3]] == [
            ("4", "route.remove", ":443 git.example.org", "removed"),
            ("3", "route.update", ":443 a.example.org", "backend=127.0.0.1:2"),
            ("2", "route.add", ":443 a.example.org", "backend=127.0.0.1:1, mode=l4"),
        ]
        assert len(user.rows("routes", "history", "A.example.org.")) == 2
        assert len(user.rows("routes", "history", "--limit", 1)) == 1
        assert user.json("routes", "history", "--everything", "--limit", 1)[0]["what"] == "rule"
        assert user.ok("rollback", 1) == "back at 1: 3 values changed (generation 6)\n"
        assert {row[1] for row in user.rows("routes", "list")} == {"git.example.org", "www.example.org"}
        assert user.json("rollback", 5)["changes"] == 3
        assert user.fails(2, "rollback", 99).startswith("mcproxy: generation: there is no generation 99")
