"""A file that hangs, as on a network's disk that is gone: it stops nobody but those who need it.

A certificate, its key, a backend's CA, the GeoIP database, the admin API's own files: each was opened on the hub or in
a thread of the admin API, so that one client, one SIGHUP or 32 calls stopped the whole process for good.
"""

import ctypes
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.certificates.contexts import RESERVED_BYTES
from tests.conftest import MakeBackend
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.geoip_files import located, write_database
from tests.kit.peers import Authority, client_hello, connect, free_port, is_reset, read_all, says
from tests.kit.program import Program, Server, environment, write_config
from tests.kit.proxy import parse_line

WHO_READS = 32  # as many as the admin API has threads
MNT_DETACH = 2

Run = Callable[..., "Running"]
Hang = Callable[[Path], None]


class Running:
    """The program with one route in l4, which needs no file, and one in l7."""

    def __init__(self, stack: ExitStack, folder: Path, target: str, **document: Any) -> None:
        self.port = free_port()
        routes = [
            {"hostname": "l4.test", "backend": target},
            {
                "hostname": "l7.test",
                "backend": target,
                "mode": "l7",
                "tls_cert": "disk/l7.pem",
                "tls_key": "disk/l7.key",
            },
        ]  # fmt: skip
        listeners = [{"addr": f"127.0.0.1:{self.port}", "routes": routes}]
        self.document = {"listeners": listeners, "grpc": grpc_section(folder), **document}
        self.folder = folder
        self.server = stack.enter_context(Server(folder, self.document))

    def neighbour_is_served(self) -> bool:
        with connect(self.port) as client:
            client.sendall(client_hello("l4.test"))
            return b"here" in read_all(client)

    def refusal(self, name: str = "l7.test") -> dict[str, str]:
        """What the log has of a client of that name that is refused."""
        with connect(self.port) as client:
            client.sendall(client_hello(name))
            assert is_reset(client)
        return parse_line(self.server.line(f"sni={name}", "verdict=refused"))

    def ends(self) -> int:
        self.server.signal(signal.SIGTERM)
        return self.server.wait()


@pytest.fixture
def run(nothing_left: None, tmp_path: Path, backend: MakeBackend, authority: Authority) -> Iterator[Run]:
    (tmp_path / "disk").mkdir()
    pair = authority.pair("l7.test")
    # Too long to be held in reserve, so that the first connection has nothing but the files.
    (tmp_path / "disk/l7.pem").write_bytes(b"comment\n" * (RESERVED_BYTES // 8) + pair[0].read_bytes())
    shutil.copy(pair[1], tmp_path / "disk/l7.key")
    with ExitStack() as stack:
        yield lambda **document: Running(stack, tmp_path, backend(says("here")).address, **document)


@pytest.fixture(params=["pipe", "disk"])
def hang(request: pytest.FixtureRequest) -> Iterator[Hang]:
    """Makes a file hang: a FIFO in its place, or its whole folder on a disk that answers nothing."""
    with ExitStack() as stack:

        def pipe(path: Path) -> None:
            path.unlink(missing_ok=True)
            os.mkfifo(path)

        def disk(path: Path) -> None:
            stack.enter_context(dead_disk(path.parent))

        yield pipe if request.param == "pipe" else disk


@contextmanager
def dead_disk(folder: Path) -> Iterator[None]:
    """Mount a file system whose server never answers, so that even stat() hangs until the end of the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    options = b"fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other" % (server, os.getuid(), os.getgid())
    try:
        if libc.mount(b"hangs", bytes(folder), b"fuse", 0, options):
            pytest.skip(f"may not mount: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            os.close(server)
            server = -1
            libc.umount2(bytes(folder), MNT_DETACH)
    finally:
        if server >= 0:
            os.close(server)


def test_a_client_of_a_hanging_certificate_is_refused_and_nobody_else(run: Run, hang: Hang, tmp_path: Path) -> None:
    running = run()
    hang(tmp_path / "disk/l7.pem")
    with connect(running.port) as waiting:
        waiting.sendall(client_hello("l7.test"))
        assert running.neighbour_is_served()
        assert is_reset(waiting)
    line = running.refusal()
    assert line["reason"] == "certificate_unusable"
    assert f"{tmp_path}/disk/l7.pem" in line["detail"]
    with stub(tmp_path) as admin:
        assert admin.GetStatus(pb.GetStatusRequest(), timeout=60).generation == 1
    assert running.ends() == 0
    assert running.server.err == []


def test_a_reload_keeps_what_was_loaded(run: Run, hang: Hang, tmp_path: Path, authority: Authority) -> None:
    database = write_database(tmp_path / "disk/geo.mmdb", {"192.0.2.0/24": located("XX")})
    running = run(firewall={"geoip_db": str(database)})
    context = authority.client_context()

    def shown() -> str:
        with context.wrap_socket(connect(running.port), server_hostname="l7.test") as client:
            return str(client.getpeercert())

    before = shown()
    hang(tmp_path / "disk/l7.pem")
    write_config(tmp_path, {**running.document, "proxy": {"idle_timeout": 7}})
    running.server.signal(signal.SIGHUP)
    assert running.neighbour_is_served()
    running.server.line("error reload:", f"{tmp_path}/disk/l7.pem", "the certificate that was loaded stays in use")
    running.server.line("reloaded", "proxy.idle_timeout from 5m to 7s")
    assert shown() == before
    assert running.ends() == 0


def test_calls_that_name_a_hanging_file_leave_the_admin_api_alone(run: Run, hang: Hang, tmp_path: Path) -> None:
    running = run()
    hang(tmp_path / "disk/l7.pem")
    route = pb.Route(
        hostname="new.test", backend="127.0.0.1:1", mode=pb.MODE_L7,
        tls_cert=str(tmp_path / "disk/l7.pem"), tls_key=str(tmp_path / "disk/l7.pem"),
    )  # fmt: skip
    request = pb.AddRouteRequest(listener=f"127.0.0.1:{running.port}", route=route)
    with stub(tmp_path) as admin:
        calls = [admin.AddRoute.future(request, timeout=60) for _ in range(WHO_READS)]
        errors: list[Any] = [call.exception() for call in calls]
        codes, said = {error.code() for error in errors}, {error.details() for error in errors}
        assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}, said
        assert grpc.StatusCode.INVALID_ARGUMENT in codes
        assert any(str(tmp_path / "disk/l7.pem") in each for each in said)
        began = time.monotonic()
        assert admin.GetStatus(pb.GetStatusRequest(), timeout=60).generation == 1
        assert time.monotonic() - began < 30
    assert running.neighbour_is_served()
    assert running.ends() == 0


def test_the_apis_own_certificate_hangs_and_it_answers(
    run: Run, hang: Hang, tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "api").mkdir()
    pair = authority.pair("localhost")
    shutil.copy(pair[0], tmp_path / "api/cert.pem")
    shutil.copy(pair[1], tmp_path / "api/key.pem")
    addr = f"127.0.0.1:{free_port()}"
    running = run(grpc={"addr": addr, "tls_cert": "api/cert.pem", "tls_key": "api/key.pem"})
    hang(tmp_path / "api/cert.pem")
    credentials = grpc.ssl_channel_credentials(authority.path.read_bytes())
    options = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(addr, credentials, options=options) as channel:
        grpc.channel_ready_future(channel).result(60)
    running.server.line("the admin API keeps its old certificate", "api/cert.pem")
    assert running.ends() == 0


def test_a_start_says_which_file_hangs(run: Run, hang: Hang, tmp_path: Path) -> None:
    hang(tmp_path / "disk/geo.mmdb")
    write_config(tmp_path, {"firewall": {"geoip_db": "disk/geo.mmdb"}})
    with Program(sys.executable, "-m", "mcproxy", "server", "-c", tmp_path / "mcproxy.toml", env=environment()) as it:
        assert it.wait() == 2
        assert f"firewall.geoip_db: {tmp_path}/disk/geo.mmdb" in "".join(it.err)


@pytest.mark.parametrize("command", ["server", "check", "status", "diff", "apply"])
def test_a_configuration_that_hangs_is_named(command: str, hang: Hang, tmp_path: Path) -> None:
    """A start hung for good, and so did every command; only a reload had a deadline."""
    (tmp_path / "disk").mkdir()
    write_config(tmp_path / "disk", {})
    file = tmp_path / "disk/mcproxy.toml"
    hang(file)
    arguments: list[str | Path] = ["-c", file]
    if command == "apply":
        arguments = [file, "--server", f"unix:{tmp_path}/none.sock"]
    with Program(sys.executable, "-m", "mcproxy", command, *arguments, env=environment()) as it:
        assert it.wait() == 2
        assert f"{file}: can't be read: it has not answered in" in "".join(it.err)


def test_a_second_signal_ends_it_while_a_file_hangs(run: Run, tmp_path: Path) -> None:
    running = run(proxy={"shutdown_timeout": "10m"})
    with connect(running.port) as silent, dead_disk(tmp_path / "disk"):
        silent.sendall(client_hello("l7.test"))
        running.server.signal(signal.SIGHUP)
        assert running.neighbour_is_served()
        running.server.signal(signal.SIGTERM)
        running.server.line("draining")
        running.server.signal(signal.SIGTERM)
        assert running.server.wait() == 1


def test_a_file_that_is_gone_ends_no_connection_of_the_admin_api(run: Run, tmp_path: Path) -> None:
    """Each status kept its call alive, by an exception and a frame that held each other, until a garbage collection.

    gRPC refuses calls (REFUSED_STREAM) on a connection that has more of them than the bound on its streams.
    """
    running = run()
    (tmp_path / "disk/l7.pem").unlink()
    with stub(tmp_path) as admin:
        for _ in range(3 * WHO_READS):
            assert admin.GetStatus(pb.GetStatusRequest(), timeout=60).problems
    assert running.ends() == 0
