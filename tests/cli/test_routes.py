import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from mcproxy.certificates.routes import RouteRefused
from mcproxy.messages import Look, Step
from mcproxy.model import Reason, Route
from mcproxy.notation.address import parse_backend
from tests.kit.commands import shell, typed
from tests.kit.operator_terminal import at_terminal


def test_add_list_replace_remove(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        assert user.ok("routes", "add", "a.example.org", "unix:/run/a.sock") == (
            "a.example.org leads to unix:/run/a.sock (generation 2)\n"
        )
        assert user.fails(1, "routes", "add", "a.example.org", "127.0.0.1:1") == (
            "mcproxy: the route a.example.org on :443 exists, with backend unix:/run/a.sock; "
            "`mcproxy routes set a.example.org` changes what you name, --replace all of it"
        )
        assert user.fails(1, "routes", "add", "b.example.org", "127.0.0.1:1", "--replace") == (
            "mcproxy: there is no route b.example.org on :443; leave out --replace to add it"
        )
        assert user.fails(1, "routes", "add", "a.example.org", "127.0.0.1:1", "--replace", "--listener", ":1") == (
            "mcproxy: there is no listener :1; the listeners are :443"
        )
        user.ok(
            "routes", "add", "a.example.org", "127.0.0.1:9", "--replace", "--send-proxy-protocol", "--listener", ":443"
        )
        assert user.rows("routes", "list")[0] == [":443", "a.example.org", "127.0.0.1:9", "l4", "send_proxy_protocol"]
        (first, *_rest) = user.json("routes", "list", "--listener", ":443")
        assert (first["listener"], first["hostname"], first["mode"]) == (":443", "a.example.org", "l4")
        removed = user.json("routes", "remove", "A.example.org")
        assert removed["generation"] == 4
        assert [change["new_json"] for change in removed["effect"]["changes"]] == [None]
        assert "a.example.org" not in control.writer.table.listeners[":443"].routes
        assert "no route a.example.org" in user.fails(1, "routes", "remove", "a.example.org")


def test_adding_what_is_there_is_done_already(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        for replace in ((), ("--replace",)):
            told = user.ok("routes", "add", "Git.example.org", "127.0.0.1:3000", *replace)
            assert told == "Git.example.org leads to 127.0.0.1:3000 already (generation 1)\n"
        assert user.json("routes", "add", "git.example.org", "127.0.0.1:3000")["effect"]["changes"] == []
        assert control.writer.table.generation == 1


L7 = ("--mode", "l7", "--tls-cert", "/c.pem", "--tls-key", "/k.pem")


def test_replacing_says_what_it_drops_and_needs_a_yes_for_another_mode(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        user.ok("routes", "add", "a.test", "127.0.0.1:1", *L7, "--backend-tls", "--send-proxy-protocol")
        assert user.fails(2, "routes", "add", "a.test", "127.0.0.1:2", "--replace") == (
            "mcproxy: the route a.test on :443 changes from l7 to l4; there is no terminal to ask on: "
            "add --yes to do it"
        )
        assert control.writer.table.generation == 2
        kept = user.run("routes", "add", "a.test", "127.0.0.1:2", "--replace", *L7, "--backend-tls")
        assert kept.exit_code == 0
        assert "dropped: send_proxy_protocol=true; `routes set` would have kept it" in kept.stderr
        done = user.run("routes", "add", "a.test", "127.0.0.1:2", "--replace", "--yes")
        assert done.stdout == "a.test leads to 127.0.0.1:2 (generation 4)\n"
        assert "dropped: mode=l7, tls_cert=/c.pem, tls_key=/k.pem, backend_tls=true;" in done.stderr


def test_set_changes_what_is_named(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        user.ok("routes", "add", "a.test", "127.0.0.1:1", *L7, "--backend-tls", "--backend-server-name", "b.test")

        def route() -> Route:
            return control.writer.table.listeners[":443"].routes["a.test"]

        before = route()
        assert user.ok("routes", "set", "A.test", "--backend", "127.0.0.1:2") == (
            "A.test: backend 127.0.0.1:1 -> 127.0.0.1:2 (generation 3)\n"
        )
        assert route() == replace(before, backend=parse_backend("127.0.0.1:2"))
        user.ok("routes", "set", "a.test", "--listener", ":443", "--no-backend-server-name", "--send-proxy-protocol")
        assert (route().backend_server_name, route().send_proxy_protocol) == ("", True)
        user.ok("routes", "set", "a.test", "--no-send-proxy-protocol", "--backend-server-name", "c.test")
        assert (route().backend_server_name, route().send_proxy_protocol) == ("c.test", False)
        assert user.ok("routes", "set", "a.test", "--mode", "l7") == "a.test: set already (generation 5)\n"
        told = user.ok(
            "routes", "set", "a.test", "--mode", "l4",
            "--no-tls-cert", "--no-tls-key", "--no-backend-tls", "--no-backend-server-name",
        )  # fmt: skip
        assert told.startswith('a.test: mode l7 -> l4, tls_cert /c.pem -> "", tls_key')
        assert route() == Route("a.test", parse_backend("127.0.0.1:2"))


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        ((), 2, "name what to change: --backend, --mode, --tls-cert,"),
        (("--tls-cert", "c", "--no-tls-cert"), 2, "--tls-cert and --no-tls-cert exclude each other"),
        (("--backend", "nowhere"), 2, 'mcproxy: --backend: "nowhere" has no port'),
        (("--mode", "l7"), 2, "mcproxy: --mode l7 terminates TLS, so it needs --tls-cert and --tls-key"),
        (("--backend", "a:1", "--listener", ":1"), 1, "mcproxy: there is no listener :1"),
    ],
)
def test_set_refuses_in_the_words_that_were_typed(
    options: tuple[str, ...], status: int, told: str, tmp_path: Path
) -> None:
    with shell(tmp_path) as (user, control):
        assert told in user.fails(status, "routes", "set", "git.example.org", *options)
        assert "there is no route b.test on :443" in user.fails(1, "routes", "set", "b.test", "--backend", "a:1")
        assert control.writer.table.generation == 1


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
        assert "warning: its certificate expires in 3 days" in result.stderr
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


def test_an_error_about_acme_names_its_option_in_add_and_set(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.fail["check_route"] = RouteRefused("tls", "there is no [acme]")
        for command in (("add", "a.test", "127.0.0.1:1"), ("set", "git.example.org")):
            told = user.fails(2, "routes", *command, "--mode", "l7", "--acme")
            assert told.startswith("mcproxy: --acme: there is no [acme]")


def test_set_says_how_to_reset_what_the_new_mode_has_no_use_for(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        user.ok("routes", "add", "a.test", "127.0.0.1:1", *L7)
        assert user.fails(2, "routes", "set", "a.test", "--mode", "l4") == (
            "mcproxy: --tls-cert, --tls-key only work with --mode l7; an l4 stream is never terminated; "
            "use the --no- form, or the default, to reset an option"
        )
        told = user.fails(2, "routes", "set", "git.example.org", "--mode", "l7")
        assert told == "mcproxy: --mode l7 terminates TLS, so it needs --tls-cert and --tls-key, or --acme"


def test_a_route_that_becomes_l4_has_no_certificate_ordered_any_more(tmp_path: Path) -> None:
    """Regression: it was refused for an option, --acme, that nobody had typed."""
    with shell(tmp_path) as (user, _):
        user.ok("routes", "add", "a.test", "127.0.0.1:1", "--mode", "l7", "--acme")
        assert "tls" in user.ok("routes", "set", "a.test", "--mode", "l4"), "which it says"
        told = user.fails(2, "routes", "set", "git.example.org", "--mode", "l4", "--acme")
        assert told.startswith("mcproxy: --acme only works with --mode l7")


def test_history(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        user.ok("routes", "add", "a.example.org", "127.0.0.1:1", "--comment", "for the trial")
        user.ok("routes", "set", "a.example.org", "--backend", "127.0.0.1:2")
        user.ok("routes", "remove", "git.example.org", "--comment", "nobody\tuses it")
        user.ok("firewall", "add", "ip", "203.0.113.7")
        rows = user.rows("routes", "history")
        assert [(row[0], *row[3:]) for row in rows[:3]] == [
            ("4", "route.remove", "git.example.org on :443", "removed", "nobody uses it"),
            ("3", "route.update", "a.example.org on :443", "backend 127.0.0.1:1 -> 127.0.0.1:2", "-"),
            ("2", "route.add", "a.example.org on :443", "backend=127.0.0.1:1, mode=l4", "for the trial"),
        ]
        assert len(user.rows("routes", "history", "A.example.org.")) == 2
        assert len(user.rows("routes", "history", "--limit", 1)) == 1
        (newest,) = user.json("routes", "history", "--everything", "--limit", 1)
        assert (newest["what"], newest["comment"], newest["claim"]) == ("rule", "", "")
        assert user.fails(2, "routes", "remove", "a.example.org", "--comment", "x" * 501) == (
            "mcproxy: --comment: has 501 characters; the audit keeps at most 500"
        )


def test_history_has_whom_sudo_was_run_by(tmp_path: Path) -> None:
    me = f"user:{pwd.getpwuid(os.getuid()).pw_name}:{os.getuid()}"
    with shell(tmp_path) as (user, _):
        assert typed("routes", "remove", "git.example.org", "-c", user.config, SUDO_USER="alice").exit_code == 0
        assert user.rows("routes", "history")[0][2] == f"{me} for alice"
        newest = user.json("routes", "history", "--limit", 1)[0]
        assert (newest["who"], newest["claim"]) == (me, "alice")


def test_at_a_terminal_the_backend_is_looked_at(tmp_path: Path) -> None:
    """A script would wait a second for each backend that is silent."""
    with shell(tmp_path) as (user, control):
        control.plane.seen = Look([Step("connect", False, "127.0.0.1:9: Connection refused")], Reason.BACKEND_REFUSED)
        control.plane.warnings = ()
        warning = "warning: clients will be refused: 127.0.0.1:9: Connection refused\n"
        for arguments in (("add", "a.example.org", "127.0.0.1:9"), ("set", "a.example.org", "--send-proxy-protocol")):
            status, screen = at_terminal(user.config, "routes", *arguments)
            assert status == 0
            assert screen.endswith(warning)
            assert warning not in at_terminal(user.config, "routes", *arguments, piped=True)[1]
        assert sum(call[0] == "look" for call in control.plane.calls) == 2


def test_at_a_terminal_it_says_what_an_l7_backend_speaks(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        found = "HTTP/1.1 (answered 400 to HTTP/2's preface)"
        control.plane.seen = Look([Step("connect", True, "connected"), Step("backend HTTP", True, found)])
        control.plane.warnings = ()
        l7 = ("--mode", "l7", "--tls-cert", "c.pem", "--tls-key", "k.pem")
        _, screen = at_terminal(user.config, "routes", "add", "a.example.org", "127.0.0.1:9", *l7)
        assert screen.endswith(f"a.example.org leads to 127.0.0.1:9 (generation 2)\nits backend speaks {found}\n")


def test_what_an_l7_backend_is_asked_in(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        l7 = ("--mode", "l7", "--tls-cert", "/c.pem", "--tls-key", "/k.pem")
        chosen = ("--backend-protocol", "http/1.1", "--max-backend-connections", "5")
        user.ok("routes", "add", "a.example.org", "127.0.0.1:9", *l7, *chosen)

        def route() -> tuple[str, int]:
            found = control.writer.table.listeners[":443"].routes["a.example.org"]
            return found.backend_protocol, found.max_backend_connections

        assert route() == ("http/1.1", 5)
        assert user.rows("routes", "list")[0][4] == (
            "tls_cert=/c.pem backend_protocol=http/1.1 max_backend_connections=5"
        )
        listed = user.json("routes", "list")[0]
        assert (listed["backend_protocol"], listed["max_backend_connections"]) == ("http/1.1", 5)
        exported = user.ok("export")
        assert 'backend_protocol = "http/1.1"' in exported
        assert "max_backend_connections = 5" in exported
        user.ok("routes", "set", "a.example.org", "--max-backend-connections", "6")
        assert route() == ("http/1.1", 6)
        user.ok("routes", "set", "a.example.org", "--backend-protocol", "auto", "--max-backend-connections", "64")
        assert route() == ("auto", 64)
        assert "backend_protocol" not in user.ok("export")
        assert "max_backend_connections 5 -> 6" in user.ok("routes", "history", "a.example.org")
        user.ok("rollback", "2", "--yes")
        assert route() == ("http/1.1", 5)
        wrong = user.run("routes", "set", "a.example.org", "--mode", "l4")
        assert wrong.exit_code == 2
