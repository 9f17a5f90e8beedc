"""Commands that find the server without its file: by options, by variables, or by a file of their own.

A mistake elsewhere in the file must not take the commands away: they are needed most when something is wrong.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.admin.test_server import Pair
from tests.kit.peers import free_port
from tests.kit.program import Server, bounded, environment


class Elsewhere:
    """A folder on a machine that has no file, and its shell."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def run(self, *arguments: object, **variables: object) -> "subprocess.CompletedProcess[str]":
        """One command, however it ends."""
        env = environment(**{name: str(value) for name, value in variables.items()})
        command = [sys.executable, "-m", "mcproxy", *map(str, arguments)]
        with bounded(*command, cwd=self.folder, env=env) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def ok(self, *arguments: object, **variables: object) -> str:
        """One command that does what it should; its output."""
        done = self.run(*arguments, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, status: int, *arguments: object, **variables: object) -> str:
        """One command that ends with this status and this sentence."""
        done = self.run(*arguments, **variables)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Elsewhere:
    return Elsewhere(tmp_path / "elsewhere")


@pytest.fixture
def ours(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    return authority


@pytest.fixture
def alice(tmp_path: Path, ours: trustme.CA) -> Pair:
    return Pair.of(ours, tmp_path, common_name="alice")


@pytest.fixture
def addr(tmp_path: Path, ours: trustme.CA) -> Iterator[str]:
    """A server over TCP that wants certificates."""
    pair = Pair.of(ours, tmp_path, "127.0.0.1")
    (tmp_path / "server").mkdir()
    section = {"addr": f"127.0.0.1:{free_port()}", "tls_cert": str(pair.cert), "tls_key": str(pair.key)}
    document = {"grpc": {**section, "client_ca": str(tmp_path / "ca.pem")}, "listeners": [{"addr": "127.0.0.1:0"}]}
    with Server(tmp_path / "server", document):
        yield section["addr"]


def test_by_options_over_mutual_tls(tmp_path: Path, elsewhere: Elsewhere, addr: str, alice: Pair) -> None:
    way = ("--server", addr, "--ca", tmp_path / "ca.pem", "--cert", alice.cert, "--key", alice.key)
    assert (
        elsewhere.ok("routes", "add", "a.test", "127.0.0.1:1", *way) == "a.test leads to 127.0.0.1:1 (generation 2)\n"
    )
    assert "cert:alice" in elsewhere.ok("routes", "history", *way)


def test_by_variables_over_mutual_tls(tmp_path: Path, elsewhere: Elsewhere, addr: str, alice: Pair) -> None:
    way = {"MCPROXY_SERVER": addr, "MCPROXY_CA": tmp_path / "ca.pem"}
    way |= {"MCPROXY_CERT": alice.cert, "MCPROXY_KEY": alice.key}
    assert elsewhere.ok("status", **way).startswith("serving, mcproxy ")


def test_by_a_file_that_serves_clients_alone(tmp_path: Path, elsewhere: Elsewhere, addr: str, alice: Pair) -> None:
    lines = [f'addr = "{addr}"', f'server_ca = "{tmp_path}/ca.pem"', f'client_cert = "{alice.cert}"']
    (elsewhere.folder / "mcproxy.toml").write_text("\n".join(["[grpc]", *lines, 'client_key = "me.key"']))
    (elsewhere.folder / "me.key").write_bytes(alice.key.read_bytes())
    assert elsewhere.ok("status").startswith("serving, mcproxy ")


def test_each_missing_piece_has_its_remedy(
    tmp_path: Path, elsewhere: Elsewhere, addr: str, alice: Pair, ours: trustme.CA
) -> None:
    ca, me = ("--ca", tmp_path / "ca.pem"), ("--cert", alice.cert, "--key", alice.key)
    other = trustme.CA()
    (tmp_path / "other.pem").write_bytes(other.cert_pem.bytes())
    eve = Pair.of(other, tmp_path, common_name="eve")
    mallory = Pair.of(ours, tmp_path, common_name="mallory")
    at = f"mcproxy: can't reach the server at {addr}: "
    port = addr.rpartition(":")[2]
    tried: list[tuple[int, tuple[object, ...], str]] = [
        (3, (addr, *me), f"{at}its certificate is not signed by a CA that this machine trusts: set --ca"),
        (3, (addr, "--ca", tmp_path / "other.pem", *me), f"{at}its certificate is not signed by the CA in --ca"),
        (3, (addr, *ca), f"{at}it closed the connection: if it requires a certificate, set --cert and --key;"),
        (3, (addr, *ca, "--cert", eve.cert, "--key", eve.key), f"{at}it closed the connection: check --cert, and that"),
        (3, (f"localhost:{port}", *ca, *me), "its certificate is not for the name or address in --server"),
        (3, (f"127.0.0.1:{free_port()}", *ca, *me), "is `mcproxy server` running?"),
        (3, ("no.invalid:9090", *ca, *me), "its host name can't be resolved: check --server"),
        (2, (addr, "--ca", alice.key, *me), "mcproxy: --ca: "),
        (2, (addr, *ca, "--cert", alice.key, "--key", alice.cert), "mcproxy: --cert: "),
        (
            2,
            (addr, *ca, "--cert", alice.cert, "--key", mallory.key),
            f"mcproxy: --key: {mallory.key} is not the key of",
        ),
    ]
    for status, way, sentence in tried:
        assert sentence in elsewhere.fails(status, "status", "--server", *way)


def test_a_mistake_elsewhere_in_the_file_takes_no_command_away(tmp_path: Path, elsewhere: Elsewhere) -> None:
    with Server(tmp_path, {"grpc": {"addr": f"unix:{tmp_path}/admin.sock"}, "listeners": [{"addr": "127.0.0.1:0"}]}):
        broken = tmp_path / "mcproxy.toml"
        broken.write_text('[database]\n[log]\nlvel = "debug"\n[[listners]]\n[grpc]\naddr = "unix:admin.sock"\n')
        assert elsewhere.ok("firewall", "add", "192.0.2.1", "-c", broken).startswith("blocked ip 192.0.2.1")
        assert elsewhere.fails(2, "check", "-c", broken)
        broken.write_text("[grpc\n")
        told = elsewhere.fails(2, "firewall", "list", "-c", broken)
        assert "line 1, column 6: is not TOML" in told
        assert "--server ADDR" in told
        socket = f"unix:{tmp_path}/admin.sock"
        assert "192.0.2.1" in elsewhere.ok("firewall", "list", "--server", socket)
        assert "192.0.2.1" in elsewhere.ok("firewall", "list", MCPROXY_SERVER=socket)
