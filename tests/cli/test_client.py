import datetime as dt
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import grpc
import pytest
import trustme

from mcproxy.admin.contract import REFUSED
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.cli import client
from mcproxy.cli.target import Sourced, Target
from mcproxy.configuration import GrpcConfig
from mcproxy.store.errors import Unavailable
from tests.admin.test_server import Pair, tls
from tests.kit.commands import Shell, shell, typed, write_config
from tests.kit.control_plane import Control, running
from tests.kit.peers import free_port


def target(addr: str) -> Target:
    nothing = Sourced("", "")
    return Target(Sourced(addr, "grpc.addr"), nothing, nothing, nothing)


class Refusal(grpc.RpcError):
    """What a call ends with."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return ((REFUSED, "1"),)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 'route: mode = "l7" terminates TLS, so it needs tls_cert and tls_key'),
        (grpc.StatusCode.INVALID_ARGUMENT, "route.backend: has no port"),
        (grpc.StatusCode.NOT_FOUND, "there is no route a.b on :443"),
        (grpc.StatusCode.ALREADY_EXISTS, "the route a.b exists"),
    ],
)
def test_the_sentences_of_a_server_that_does_not_tell_what_they_are_about_are_shown_as_they_are(
    code: grpc.StatusCode, details: str
) -> None:
    def refuse(_request: object, timeout: float, metadata: object) -> None:
        raise Refusal(code, details)

    def failed(told: str, status: int) -> NoReturn:
        assert (told, status) == (f"mcproxy: {details}", 2 if code is grpc.StatusCode.INVALID_ARGUMENT else 1)
        raise SystemExit

    caller = client.Client(SimpleNamespace(AddRoute=refuse), target(""), failed=failed)
    remedies = {(client.EXISTS, "route"): "replace it", (client.MISSING, "route"): "add it"}
    with pytest.raises(SystemExit):
        caller.call("AddRoute", pb.AddRouteRequest(), remedies)


def test_what_a_server_says_commands_no_terminal() -> None:
    """The file may name a server that is not ours. What it said went to the terminal as it came."""

    def refuse(_request: object, timeout: float, metadata: object) -> None:
        raise Refusal(grpc.StatusCode.INTERNAL, "\x1b]0;a\x07\x9b2J\u202e\r\nb\u00fcrgl")

    def failed(told: str, _status: int) -> NoReturn:
        assert told == "mcproxy: \\x1b]0;a\\x07\\x9b2J\\u202e\\r\nb\u00fcrgl"
        raise SystemExit

    caller = client.Client(SimpleNamespace(AddRoute=refuse), target(""), failed=failed)
    with pytest.raises(SystemExit):
        caller.call("AddRoute", pb.AddRouteRequest())


def test_no_server(tmp_path: Path) -> None:
    nobody = Shell(write_config(tmp_path, f'addr = "unix:{tmp_path}/admin.sock"'))
    told = nobody.fails(3, "routes", "list")
    assert told == f"mcproxy: can't reach the server at unix:{tmp_path}/admin.sock: is `mcproxy server` running?"
    port = free_port()
    pair = Pair.of(trustme.CA(), tmp_path, "127.0.0.1")
    lines = f'addr = "127.0.0.1:{port}"\ntls_cert = "{pair.cert}"\ntls_key = "{pair.key}"'
    assert "is `mcproxy server` running?" in Shell(write_config(tmp_path, lines)).fails(3, "status")


def test_no_admin_api(tmp_path: Path) -> None:
    told = Shell(write_config(tmp_path, "")).fails(2, "status")
    assert "has no [grpc]" in told
    assert "restart the server" in told


def test_a_server_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"unix:{tmp_path}/admin.sock"
    with socket.socket(socket.AF_UNIX) as silent, grpc.insecure_channel(address) as channel:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen()
        stub = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(SystemExit) as caught:
            client.Client(stub, target(address), timeout=0.1).call("GetStatus", pb.GetStatusRequest())
    assert caught.value.code == 3
    assert capsys.readouterr().err == f"mcproxy: the server at {address} doesn't answer\n"


def test_what_the_server_refuses_is_no_matter_of_reaching_it(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.fail["status"] = Unavailable("the disk is full: free some space on it")
        assert user.fails(1, "status") == "mcproxy: the disk is full: free some space on it"


def test_bad_input_is_wrong_usage(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _):
        assert user.fails(2, "routes", "add", "a b", "127.0.0.1:1").startswith("mcproxy: HOST: ")
        assert user.fails(2, "routes", "add", "a.b", "x", "--listener", "x").startswith("mcproxy: --listener: ")


def section(folder: Path, control: Control, **files: object) -> Path:
    lines = [f'addr = "{control.server.address}"', f'tls_cert = "{folder}/127.0.0.1.pem"']
    lines += [f'tls_key = "{folder}/127.0.0.1.key"', *(f'{name} = "{file}"' for name, file in files.items())]
    return write_config(folder, "\n".join(lines))


def test_over_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    ours = trustme.CA()
    alice = Pair.of(ours, tmp_path, common_name="alice")
    with running(tmp_path, tls(tmp_path, ours, mutual=True)) as control:
        ca = tmp_path / "ca.pem"
        user = Shell(section(tmp_path, control, server_ca=ca, client_cert=alice.cert, client_key=alice.key))
        user.ok("routes", "add", "a.example.org", "127.0.0.1:1")
        assert user.json("routes", "history")[0]["who"] == "cert:alice"

        without = Shell(section(tmp_path, control, server_ca=ca))
        assert "grpc.client_cert" in without.fails(3, "status")

        other = trustme.CA()
        (tmp_path / "other.pem").write_bytes(other.cert_pem.bytes())
        astray = Shell(section(tmp_path, control, server_ca=tmp_path / "other.pem"))
        assert "grpc.server_ca" in astray.fails(3, "status")

        eve = Pair.of(other, tmp_path, common_name="eve")
        evil = Shell(section(tmp_path, control, server_ca=ca, client_cert=eve.cert, client_key=eve.key))
        assert "grpc.client_cert" in evil.fails(3, "status")

        lost = Shell(section(tmp_path, control, server_ca=tmp_path / "no.pem"))
        assert "grpc.server_ca: /" in lost.fails(2, "status")


@pytest.mark.parametrize(
    ("configured", "target"),
    [
        ("0.0.0.0:9090", "127.0.0.1:9090"),
        ("[::]:9090", "[::1]:9090"),
        ("192.0.2.1:9090", "192.0.2.1:9090"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
    ],
)
def test_a_server_that_listens_everywhere_is_here_too(configured: str, target: str) -> None:
    assert client._here(configured) == target


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    ours = trustme.CA()
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    pair = Pair.of(ours, tmp_path, "127.0.0.1", not_before=past, not_after=past + dt.timedelta(days=1))
    (tmp_path / "ca.pem").write_bytes(ours.cert_pem.bytes())
    api = GrpcConfig(addr="127.0.0.1:0", tls_cert=str(pair.cert), tls_key=str(pair.key))
    with running(tmp_path, api) as control:
        result = typed("status", "--server", control.server.address, "--ca", tmp_path / "ca.pem")
    assert result.exit_code == 3
    assert "its certificate has expired: renew it there" in result.stderr


@pytest.mark.parametrize(
    ("details", "remedy"),
    [
        ("connect failed: Permission denied", "the socket belongs to another user: run this as root or as that user"),
        ("connect failed: No route to host", "there is no route to its address: check --server, and the network"),
        ("OPENSSL_internal:WRONG_VERSION_NUMBER", "it doesn't speak TLS: check that --server is the address of"),
        ("something new", "something new"),
    ],
)
def test_why_a_server_cannot_be_reached(details: str, remedy: str) -> None:
    asked = Target(Sourced("a.test:1", "--server"), *[Sourced("", f"--{name}") for name in ("ca", "cert", "key")])
    sentence, status = client._unreachable(asked, details)
    assert sentence.startswith(f"mcproxy: can't reach the server at a.test:1: {remedy}")
    assert status == 3
