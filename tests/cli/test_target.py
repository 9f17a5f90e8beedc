"""Which server a command talks to: an option comes before a variable, and a variable before the file."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mcproxy.cli.main import main
from mcproxy.cli.target import Sourced, Target, find_target, target_options
from tests.kit.commands import FOREIGN, typed

REMOTE = '[grpc]\naddr = "file.test:1"\nserver_ca = "ca.pem"\nclient_cert = "me.pem"\nclient_key = "me.key"\n'
# Commands that read the whole file, or none at all; every other one is a client of the admin API.
WHOLE_FILE = {"server", "check", "database", "diff", "snapshot"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command is typed: a folder with a file that says where a server is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mcproxy.toml").write_text(REMOTE)
    return tmp_path


def found(*arguments: str, **environment: str) -> Target:
    """What a command with these arguments and variables talks to."""
    seen: list[Target] = []

    @click.command()
    @target_options
    def command(config_file: Path | None) -> None:
        seen.append(find_target(config_file))

    result = CliRunner().invoke(command, arguments, env={**dict.fromkeys(FOREIGN), **environment})
    assert result.exit_code == 0, result.output
    return seen[0]


def of_file(folder: Path) -> Target:
    return Target(
        Sourced("file.test:1", "grpc.addr"),
        Sourced(f"{folder}/ca.pem", "grpc.server_ca"),
        Sourced(f"{folder}/me.pem", "grpc.client_cert"),
        Sourced(f"{folder}/me.key", "grpc.client_key"),
    )


def test_the_file(folder: Path) -> None:
    assert found() == of_file(folder)


def test_options_need_no_file(folder: Path) -> None:
    (folder / "mcproxy.toml").unlink()
    assert found("--server", "A.test:1", "--ca", "ca", "--cert", "c", "--key", "k") == Target(
        Sourced("A.test:1", "--server"), Sourced("ca", "--ca"), Sourced("c", "--cert"), Sourced("k", "--key")
    )


def test_variables_need_no_file(folder: Path) -> None:
    (folder / "mcproxy.toml").unlink()
    assert found(MCPROXY_SERVER="a.test:1", MCPROXY_CA="ca", MCPROXY_CERT="c", MCPROXY_KEY="k") == Target(
        Sourced("a.test:1", "MCPROXY_SERVER"), Sourced("ca", "MCPROXY_CA"), Sourced("c", "MCPROXY_CERT"),
        Sourced("k", "MCPROXY_KEY"),
    )  # fmt: skip


def test_nothing_of_the_file_mixes_with_another_server(folder: Path) -> None:
    assert found("--server", "a.test:1") == Target(
        Sourced("a.test:1", "--server"), Sourced("", "--ca"), Sourced("", "--cert"), Sourced("", "--key")
    )


def test_an_option_comes_before_a_variable(folder: Path) -> None:
    target = found("--server", "a.test:1", "--ca", "mine", MCPROXY_SERVER="b.test:1", MCPROXY_CA="theirs")
    assert (target.addr, target.ca) == (Sourced("a.test:1", "--server"), Sourced("mine", "--ca"))


def test_a_variable_comes_before_the_file(folder: Path) -> None:
    assert found(MCPROXY_SERVER="unix:/run/a.sock").addr == Sourced("unix:/run/a.sock", "MCPROXY_SERVER")
    target = found(MCPROXY_CERT="mine.pem", MCPROXY_KEY="mine.key")
    assert target.addr == Sourced("file.test:1", "grpc.addr")
    assert target.cert == Sourced("mine.pem", "MCPROXY_CERT")


def test_a_file_that_was_given_comes_before_the_variable_of_the_server(folder: Path) -> None:
    assert found("-c", "mcproxy.toml", MCPROXY_SERVER="a.test:1") == of_file(folder)


def test_a_variable_for_the_server_comes_before_one_for_the_file(folder: Path) -> None:
    assert found(MCPROXY_SERVER="a.test:1", MCPROXY_CONFIG="mcproxy.toml").addr.value == "a.test:1"


def test_an_empty_variable_is_none(folder: Path) -> None:
    assert found(MCPROXY_SERVER="", MCPROXY_CA="") == of_file(folder)


def fails(*arguments: str, **environment: str) -> str:
    result = typed(*arguments, **environment)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--server", "a.test:1", "-c", "x"], "--server and -c exclude each other"),
        (["--server", "a.test"], '--server: "a.test" has no port; write "a.test:PORT"'),
        (["--server", ":9090"], '--server: name the host, as in "proxy.example.org:9090"'),
        (["--server", ""], "--server: "),
        (["--server", "https://a.test:1"], "--server: "),
        (["--server", "unix:a.sock"], "--server: "),
        (["--server", "unix:/" + "a" * 200], "--server: the socket's path has 201 bytes"),
        (["--server", "a.test:1", "--cert", "c"], "--cert needs --key"),
        (["--server", "a.test:1", "--key", "k"], "--key needs --cert"),
        (["--key", "k"], "--key"),
    ],
)
def test_what_is_typed_wrongly(folder: Path, arguments: list[str], told: str) -> None:
    (folder / "mcproxy.toml").write_text('[grpc]\naddr = "file.test:1"\n')
    assert told in fails("status", *arguments)


def test_a_variable_is_named_where_it_is_wrong(folder: Path) -> None:
    assert "MCPROXY_SERVER: " in fails("status", MCPROXY_SERVER="a.test")
    assert "MCPROXY_CERT needs --key" in fails("status", MCPROXY_SERVER="a.test:1", MCPROXY_CERT="c")


def test_a_certificate_does_not_mix_with_the_files_key(folder: Path) -> None:
    assert "--cert needs --key" in fails("status", "--cert", "mine.pem")


def test_files_that_are_not_there_are_all_named(folder: Path) -> None:
    told = fails("status", "--server", "a.test:1", "--ca", "a", "--cert", "b", "--key", "c")
    assert told.splitlines() == [
        f"mcproxy: --{name}: {file} can't be read: No such file or directory"
        for name, file in (("ca", "a"), ("key", "c"), ("cert", "b"))
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[grpc", "mcproxy.toml: line 1"),
        ("[database]", "has no [grpc]"),
        ("[grpc]", "grpc.addr: is required"),
        ('[grpc]\naddr = "a.test"', "grpc.addr: "),
        ("grpc = 1", "grpc: must be a table"),
    ],
)
def test_a_file_that_says_nothing_of_the_server_has_a_way_round_it(folder: Path, text: str, told: str) -> None:
    (folder / "mcproxy.toml").write_text(text)
    sentence = fails("status")
    assert told in sentence
    assert "--server ADDR" in sentence


def test_no_file_has_the_same_way_round_it(folder: Path) -> None:
    if any(Path(place).exists() for place in ("/srv/mcproxy/mcproxy.toml", "/etc/mcproxy/mcproxy.toml")):
        pytest.skip("this machine has a configuration in a usual place")
    (folder / "mcproxy.toml").unlink()
    assert "--server ADDR" in fails("status")


def commands(group: click.Group, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        inner = commands(command, *path, name) if isinstance(command, click.Group) else [((*path, name), command)]
        found += inner
    return found


def test_every_client_of_the_admin_api_has_the_options() -> None:
    for path, command in commands(main):
        names = {param.name for param in command.params}
        if "config_file" in names and path[0] not in WHOLE_FILE:
            assert {"server", "ca", "cert", "key"} <= names, f"{path} takes config_option, not target_options"


def test_the_variables_are_in_the_help(folder: Path) -> None:
    told = typed("routes", "add", "--help").stdout
    assert "--server ADDR" in told
    assert "MCPROXY_SERVER" in told
