"""Connections to the admin API that make no call don't shut out those that do.

64 connections that sent nothing once held all places of the API for as long as they were renewed, and certificates of
clients didn't help: they are looked at later. Here the flood comes from the very address that the commands come from,
from another one, or from many: the commands' connections wait behind it in the kernel's queue, and have their turn.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.admin.room import MAX_CONNECTIONS
from tests.admin.test_server import Pair
from tests.kit.commands import Shell
from tests.kit.peers import DEADLINE, free_port, until
from tests.kit.program import ROOT, Program, Server, environment

FLOOD = 200  # connections at once
COMMANDS = 20
# A command at most: on a loaded machine it may stand still for longer than the half second of grace that its
# connection has for each step. Of those that a flood shut out, none passed at any attempt.
ATTEMPTS = 4
OWN = 40  # descriptors that the server has open when nobody is connected, at most


class Api:
    """A running server whose API listens on TCP, and a shell with a certificate for it."""

    def __init__(self, folder: Path, *, mutual: bool) -> None:
        ours = trustme.CA()
        self.ca = ours.cert_pem.bytes()
        (folder / "ca.pem").write_bytes(self.ca)
        self.alice = Pair.of(ours, folder, common_name="alice")
        pair = Pair.of(ours, folder, "127.0.0.1")
        self.port = free_port()
        self.grpc = {
            "addr": f"127.0.0.1:{self.port}", "tls_cert": str(pair.cert), "tls_key": str(pair.key),
            "server_ca": str(folder / "ca.pem"), "client_cert": str(self.alice.cert),
            "client_key": str(self.alice.key), **({"client_ca": str(folder / "ca.pem")} if mutual else {}),
        }  # fmt: skip
        self.server = Server(folder, {"grpc": self.grpc, "listeners": [{"addr": "127.0.0.1:0"}]})
        self.shell = Shell(folder / "mcproxy.toml")

    @contextmanager
    def stub(self) -> Iterator[pb_grpc.ProxyAdminServiceStub]:
        """A client with a connection of its own."""
        pair = self.alice.key.read_bytes(), self.alice.cert.read_bytes()
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(
            str(self.grpc["addr"]), grpc.ssl_channel_credentials(self.ca, *pair), options=options
        ) as channel:
            yield pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]

    @contextmanager
    def flooded(self, kind: str, addresses: int) -> Iterator[Program]:
        """While connections of this kind, from so many other addresses, are held and renewed."""
        command = (sys.executable, "-m", "tests.kit.flooder", self.port, FLOOD, kind, addresses)
        with Program(*map(str, command), cwd=ROOT, env=environment()) as flooder:
            flooder.line("flooding")
            yield flooder

    def ask(self) -> None:
        """A command; it is served."""
        for _ in range(ATTEMPTS - 1):
            if self.shell.run("status").exit_code == 0:
                return
        assert self.shell.ok("status").startswith("serving, mcproxy ")

    def size(self) -> tuple[int, int]:
        """How many descriptors and threads the server has."""
        process = Path(f"/proc/{self.server.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


@pytest.fixture(params=[False, True], ids=["tls", "mutual"])
def api(request: pytest.FixtureRequest, grpc_is_awake: None, tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, mutual=request.param)
    with made.server:
        yield made


@pytest.mark.parametrize("addresses", [0, 1, 100])
@pytest.mark.parametrize("kind", ["silent", "half"])
def test_a_flood_of_connections_without_calls_shuts_out_no_command(api: Api, kind: str, addresses: int) -> None:
    """Before, each of these commands ended with "it closed the connection", and exit status 3."""
    with api.stub() as stub, api.stub() as other:
        watch = stub.WatchConnections(pb.WatchConnectionsRequest())
        until(lambda: other.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE).generation, "the server")
        _, threads = api.size()
        with api.flooded(kind, addresses) as flooder:
            for _ in range(COMMANDS):
                api.ask()
            assert api.size()[0] <= OWN + 3 * MAX_CONNECTIONS
            flooder.line("renewed")
            assert watch.is_active(), "a stream that was open before goes on"
        assert watch.cancel()
    until(lambda: api.size()[0] <= OWN, "the descriptors to be closed")
    assert api.size()[1] <= threads + COMMANDS, "gRPC keeps some of its pollers; a thread for each of 200 would show"
