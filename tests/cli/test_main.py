"""The command line: where the configuration is found, what is said, and the exit status of each ending."""

import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from mcproxy import __version__
from mcproxy.cli.main import main
from mcproxy.cli.options import INVALID, PLACES
from mcproxy.native import BUILD
from tests.conftest import listener
from tests.kit.peers import Authority, client_hello, connect, free_port, is_reset
from tests.kit.program import Program, Server, environment, write_config

GOOD = '[database]\npath = "x.db"\n[[listeners]]\naddr = "127.0.0.1:0"\n'
BAD = '[database]\npath = 1\n[proxy]\nidle_timeout = "long"\ncolour = "red"\n'

# Our own SIGHUP may be blocked here: `server` blocks it until it can answer.
RELOADED = """
import signal
signal.signal(signal.SIGHUP, lambda *_: print("reloads", flush=True))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
print("runs", flush=True)
while True:
    signal.pause()
"""


def run(*arguments: str | Path, env: Mapping[str, str | None] | None = None) -> Result:
    return CliRunner(env={"MCPROXY_CONFIG": None, **(env or {})}).invoke(main, list(map(str, arguments)))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- help and usage ---------------------------------------------------------------------------------------------------


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"mcproxy {__version__} ({BUILD})\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [(), ("server",), ("check",)])
def test_help(command: tuple[str, ...], option: str) -> None:
    result = run(*command, option)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    if command:
        assert "$MCPROXY_CONFIG" in result.stdout
    else:
        assert "server" in result.stdout
        assert "check" in result.stdout


def commands(command: click.Command = main, path: str = "mcproxy") -> Iterator[tuple[str, click.Command]]:
    """Every command and group, with what is typed for it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, f"{path} {name}")


def examples(command: click.Command) -> list[str]:
    """The examples of a help page, each on one line."""
    _, head, *lines = (command.epilog or "\n").replace("\\\n", "").splitlines()
    assert head == ("Examples:" if len(lines) > 1 else "Example:")
    return [line.strip() for line in lines]


@pytest.mark.parametrize("path", list(dict(commands())))
def test_every_help_page_has_an_example_that_can_be_typed(path: str, elsewhere: Path) -> None:
    found = examples(dict(commands())[path])
    assert found
    assert any(path in each for each in found)
    for each in found:
        (typed,) = re.findall(r"mcproxy [^>|)]*", each.removeprefix('eval "$('))[:1]
        result = run(*shlex.split(typed)[1:], env={"MCPROXY_CONFIG": str(elsewhere / "absent.toml")})
        assert "Usage: " not in result.stderr, each


@pytest.mark.parametrize(
    "arguments", [("serve",), ("--verbose",), ("check", "--fix"), ("check", "-c"), ("server", "x")]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_python_dash_m_is_the_same_program(nothing_left: None) -> None:
    with Program(sys.executable, "-m", "mcproxy", "--version", env=environment()) as program:
        assert program.wait() == 0
        assert program.out == [f"mcproxy {__version__} ({BUILD})\n"]


# --- which configuration ----------------------------------------------------------------------------------------------


def test_the_places_are_the_contracts() -> None:
    assert PLACES == ("./mcproxy.toml", "/srv/mcproxy/mcproxy.toml", "/etc/mcproxy/mcproxy.toml")


def test_the_option_comes_before_the_environment_before_the_current_folder(elsewhere: Path, tmp_path: Path) -> None:
    env = {"MCPROXY_CONFIG": str(written(tmp_path / "environment.toml", GOOD))}
    option = written(tmp_path / "option.toml", GOOD)
    written(elsewhere / "mcproxy.toml", GOOD)
    assert run("check", "-c", option, env=env).stdout.startswith(f"{tmp_path}/option.toml: OK")
    assert run("check", "--config", option, env=env).stdout.startswith(f"{tmp_path}/option.toml: OK")
    assert run("check", env=env).stdout.startswith(f"{tmp_path}/environment.toml: OK")
    assert run("check", env={"MCPROXY_CONFIG": ""}).stdout.startswith("mcproxy.toml: OK")
    assert run("check").stdout.startswith("mcproxy.toml: OK")


def test_the_first_one_is_used_even_if_it_is_bad_or_not_there(elsewhere: Path, tmp_path: Path) -> None:
    written(elsewhere / "mcproxy.toml", GOOD)
    for named in (written(tmp_path / "bad.toml", BAD), tmp_path / "none.toml"):
        assert run("check", env={"MCPROXY_CONFIG": str(named)}).exit_code == 2
        assert run("check", "-c", named).exit_code == 2


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_of_a_good_file(tmp_path: Path, authority: Authority) -> None:
    certificate, key = map(str, authority.pair("a.test"))
    l7 = {"hostname": "a.test", "backend": "b.test:1", "mode": "l7", "tls_cert": certificate, "tls_key": key}
    both = [{"addr": ":1", "routes": [l7, {"hostname": "b.test", "backend": "b.test:1"}]}, {"addr": ":2"}]
    path = write_config(tmp_path, {"listeners": both})
    result = run("check", "-c", path)
    assert (result.exit_code, result.output) == (0, f"{path}: OK (2 listeners, 2 routes)\n")


def test_check_tells_every_problem_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path / "bad.toml", BAD)
    result = run("check", "-c", path)
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [str(path), "database.path"],
        [str(path), "proxy.idle_timeout"],
        [str(path), "proxy.colour"],
    ]


def test_check_looks_at_what_the_file_points_to(tmp_path: Path) -> None:
    path = write_config(tmp_path, {"firewall": {"geoip_db": "geo.mmdb"}})
    result = run("check", "-c", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{path}: firewall.geoip_db: {tmp_path}/geo.mmdb does not exist")


def test_check_opens_no_listener(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = write_config(tmp_path, {"listeners": [{"addr": f"127.0.0.1:{taken.getsockname()[1]}"}]})
        result = run("check", "-c", path)
        assert result.exit_code == 0, "it may be the program that mcproxy is about to replace"
        assert (
            f"warning: listeners[0].addr: can't listen on 127.0.0.1:{taken.getsockname()[1]}: in use by "
            in result.stderr
        )
    assert run("check", "-c", path).exit_code == 0
    assert not (tmp_path / "mcproxy.db").exists()


# --- server -----------------------------------------------------------------------------------------------------------


def serve(path: Path) -> Program:
    return Program(sys.executable, "-m", "mcproxy", "server", "-c", path, env=environment())


def test_server_runs_in_the_foreground_and_ends_clean(nothing_left: None, tmp_path: Path) -> None:
    port = free_port()
    with Server(tmp_path, {"listeners": [{"addr": f"127.0.0.1:{port}"}]}) as server:
        with connect(port) as client:
            client.sendall(client_hello("nobody.test"))
            assert is_reset(client)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.err == []
        assert "reason=route_unknown" in "".join(server.out)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"proxy": {"idle_timeout": "long"}}, "proxy.idle_timeout: "),
        ({"firewall": {"geoip_db": "none.mmdb"}}, "firewall.geoip_db: "),
    ],
)
def test_server_with_an_invalid_configuration(
    document: dict[str, Any], message: str, nothing_left: None, tmp_path: Path
) -> None:
    path = write_config(tmp_path, {"listeners": [listener({})], **document})
    with serve(path) as program:
        assert program.wait() == 2
        assert program.err[0].startswith(f"{path}: {message}")
        assert "Traceback" not in "".join(program.err)
        assert program.out == []


def test_server_that_cannot_start(nothing_left: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        with serve(write_config(tmp_path, {"listeners": [{"addr": addr}]})) as program:
            assert program.wait() == 1
            assert program.err == [f"mcproxy: can't listen on {addr}: another program listens there\n"]


@pytest.mark.parametrize(("text", "status"), [(GOOD, 0), (BAD, 2)])
def test_a_reload_is_sighup_where_nobody_can_take_over(text: str, status: int, tmp_path: Path) -> None:
    """And where the file is invalid, which the server reports too; tests/takeover/test_renewal.py has the rest."""
    path, program = written(tmp_path / "mcproxy.toml", text), written(tmp_path / "mcproxy", RELOADED)
    with Program(sys.executable, str(program), "server", "-c", path.name, cwd=tmp_path) as server:
        server.line("runs")
        done = run("server", "--reload", str(server.process.pid), "-c", path)
        assert done.exit_code == status
        assert ("idle_timeout" in done.stderr) == bool(status)
        assert ("only a restart upgrades it" in done.stdout) == (not status)
        server.line("reloads")


@pytest.mark.parametrize(("text", "status"), [(GOOD, 1), (BAD, 2)])
def test_a_reload_sends_no_signal_to_a_process_that_is_not_a_server(text: str, status: int, tmp_path: Path) -> None:
    """Any process was killed that was named, and with exit status 0 where no server ran."""
    with Program(sys.executable, "-c", RELOADED) as other:
        other.line("runs")
        done = run("server", "--reload", str(other.process.pid), "-c", written(tmp_path / "mcproxy.toml", text))
        assert done.exit_code == status
        assert status == INVALID or f"process {other.process.pid} is not a server with" in done.stderr
        other.signal(signal.SIGTERM)
        other.wait()
        assert other.out == ["runs\n"]


def test_a_reload_of_a_process_that_has_ended(tmp_path: Path) -> None:
    with Program(sys.executable, "-c", "") as ended:
        ended.wait()
        done = run("server", "--reload", str(ended.process.pid), "-c", written(tmp_path / "mcproxy.toml", GOOD))
    assert (done.exit_code, done.stderr) == (3, f"mcproxy: there is no process {ended.process.pid}\n")
