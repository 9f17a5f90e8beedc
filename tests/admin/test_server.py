import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mcproxy.admin import contract, room, server
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.admin.server import AdminError, AdminServer
from mcproxy.configuration import GrpcConfig
from tests.kit.control_plane import Control, running
from tests.kit.peers import DEADLINE, until

SHORT = 2.0  # seconds for a call that is to fail


@dataclass
class Pair:
    """A certificate and its key, on disk."""

    cert: Path
    key: Path

    @classmethod
    def of(cls, authority: trustme.CA, folder: Path, *names: str, **options: Any) -> "Pair":
        issued = authority.issue_cert(*names, **options)
        stem = names[0] if names else str(options["common_name"])
        made = cls(folder / f"{stem}.pem", folder / f"{stem}.key")
        made.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        made.key.write_bytes(issued.private_key_pem.bytes())
        return made


@pytest.fixture
def ours() -> trustme.CA:
    return trustme.CA()


def tls(folder: Path, authority: trustme.CA, *, mutual: bool) -> GrpcConfig:
    """A server on TCP, whose clients must have a certificate of the same authority if it is mutual."""
    pair = Pair.of(authority, folder, "127.0.0.1", "::1")
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    return GrpcConfig(
        addr="127.0.0.1:0",
        tls_cert=str(pair.cert),
        tls_key=str(pair.key),
        client_ca=str(folder / "ca.pem") if mutual else "",
    )


@contextmanager
def client(control: Control, authority: trustme.CA, pair: Pair | None = None) -> Iterator[Any]:
    """A stub over TLS, with a certificate or without."""
    chain, key = (pair.cert.read_bytes(), pair.key.read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)
    with grpc.secure_channel(control.server.address, credentials) as channel:
        yield pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]


@contextmanager
def channel_to(address: str, authority: trustme.CA) -> Iterator[Any]:
    """A stub for a UNIX socket, or over TLS."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.insecure_channel(address, options=options)
        if address.startswith("unix:")
        else grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.cert_pem.bytes()), options=options)
    ) as channel:
        yield pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]


def status(stub: Any, timeout: float = DEADLINE) -> Any:
    return stub.GetStatus(pb.GetStatusRequest(), timeout=timeout)


def refusal(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    answer: Any = caught.value
    code: grpc.StatusCode = answer.code()
    return code


def test_tls_without_client_certificates(tmp_path: Path, ours: trustme.CA) -> None:
    with running(tmp_path, tls(tmp_path, ours, mutual=False)) as control, client(control, ours) as stub:
        assert status(stub).generation == 1


def test_mutual_tls_records_the_certificates_name(tmp_path: Path, ours: trustme.CA) -> None:
    alice = Pair.of(ours, tmp_path, common_name="alice")
    with running(tmp_path, tls(tmp_path, ours, mutual=True)) as control, client(control, ours, alice) as stub:
        stub.AddRoute(pb.AddRouteRequest(route=pb.Route(hostname="a.b", backend="127.0.0.1:1")), timeout=DEADLINE)
        (newest,) = stub.ListRevisions(pb.ListRevisionsRequest(page_size=1), timeout=DEADLINE).revisions
        assert newest.who == "cert:alice"


@pytest.mark.parametrize(
    ("host", "ip", "network"), [("127.0.0.1", "127.0.0.1", "127.0.0.0/8"), ("[::1]", "::1", "::/120")]
)
def test_a_rule_against_the_address_that_a_call_comes_from_is_a_risk(
    tmp_path: Path, ours: trustme.CA, host: str, ip: str, network: str
) -> None:
    config = replace(tls(tmp_path, ours, mutual=False), addr=f"{host}:0")
    with running(tmp_path, config) as control, client(control, ours) as stub:
        request = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_CIDR, value=network, dry_run=True)
        assert list(stub.AddFirewallRule(request, timeout=DEADLINE).effect.risks) == [
            f"it blocks {ip}, your own address"
        ]


@pytest.mark.parametrize("kind", ["none", "other authority", "expired", "not yet valid"])
def test_mutual_tls_refuses(tmp_path: Path, ours: trustme.CA, kind: str) -> None:
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    made: dict[str, Callable[[], Pair | None]] = {
        "none": lambda: None,
        "other authority": lambda: Pair.of(trustme.CA(), tmp_path, common_name="eve"),
        "expired": lambda: Pair.of(ours, tmp_path, common_name="old", not_before=now - 2 * day, not_after=now - day),
        "not yet valid": lambda: Pair.of(ours, tmp_path, common_name="new", not_before=now + day),
    }
    with running(tmp_path, tls(tmp_path, ours, mutual=True)) as control:
        with client(control, ours, made[kind]()) as stub:
            assert refusal(lambda: status(stub, SHORT)) in {
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            }
        with client(control, ours, Pair.of(ours, tmp_path, common_name="bob")) as stub:
            assert status(stub).generation == 1, "the server is well"


def test_plain_tcp_gets_nowhere(tmp_path: Path, ours: trustme.CA) -> None:
    with running(tmp_path, tls(tmp_path, ours, mutual=False)) as control:
        with grpc.insecure_channel(control.server.address) as channel:
            stub = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
            assert refusal(lambda: status(stub, SHORT)) is grpc.StatusCode.UNAVAILABLE
        host, _, port = control.server.address.rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE) as plain:
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert b"grpc" not in plain.recv(1000)


def test_old_tls_is_refused(tmp_path: Path, ours: trustme.CA) -> None:
    with running(tmp_path, tls(tmp_path, ours, mutual=False)) as control:
        host, _, port = control.server.address.rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.configure_trust(context)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with socket.create_connection((host, int(port)), DEADLINE) as plain, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(plain, server_hostname=host)


def test_a_server_without_certificate_is_not_started(tmp_path: Path) -> None:
    section = GrpcConfig("127.0.0.1:0")
    with running(tmp_path) as control, pytest.raises(AdminError, match="needs tls_cert and tls_key"):
        AdminServer(section, control.service)


@pytest.mark.parametrize("unix", [True, False])
def test_an_address_is_taken_before_it_answers(tmp_path: Path, ours: trustme.CA, unix: bool) -> None:
    """So that no change comes before the seed, and an address that is in use is found out before it."""
    section = GrpcConfig(addr=f"unix:{tmp_path}/early.sock") if unix else tls(tmp_path, ours, mutual=False)
    with running(tmp_path) as control:
        early = AdminServer(section, control.service)
        try:
            with pytest.raises(AdminError, match="can't listen on"):
                AdminServer(replace(section, addr=early.address), control.service)
            with channel_to(early.address, ours) as channel:
                assert refusal(lambda: status(channel, SHORT)) in {
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                }
            early.open()
            with channel_to(early.address, ours) as channel:
                assert status(channel).generation == 1
        finally:
            early.close()


def test_a_socket_without_a_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(AdminError, match=r"No such file or directory: make its folder"),
        running(tmp_path, GrpcConfig(addr=f"unix:{tmp_path}/no/a.sock")),
    ):
        pass


def test_an_address_in_use(tmp_path: Path, ours: trustme.CA) -> None:
    section = tls(tmp_path, ours, mutual=False)
    with running(tmp_path, section) as control:
        taken = replace(section, addr=control.server.address)
        with pytest.raises(AdminError, match="can't listen on"):
            AdminServer(taken, control.service)
        occupied = replace(section, addr=f"unix:{tmp_path}")
        with pytest.raises(AdminError, match="can't listen on"):
            AdminServer(occupied, control.service)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("missing", r"^grpc\.tls_key: .*127\.0\.0\.1\.key can't be read: No such file"),
        ("broken", r"^grpc\.tls_key: .*127\.0\.0\.1\.key holds no private key in PEM form: it has no line"),
        ("of another key", r"^grpc\.tls_key: .*127\.0\.0\.1\.key is not the key of "),
    ],
)
def test_certificates_that_can_not_be_used(tmp_path: Path, ours: trustme.CA, damage: str, told: str) -> None:
    section = tls(tmp_path, ours, mutual=False)
    key = Path(section.tls_key)
    if damage == "missing":
        key.unlink()
    elif damage == "broken":
        key.write_text("nothing of use")
    else:
        key.write_bytes(ours.issue_cert("x.example.org").private_key_pem.bytes())
    with running(tmp_path) as control, pytest.raises(AdminError, match=told):
        AdminServer(section, control.service)


def test_certificates_are_read_again_when_no_more_than_their_mode_has_changed(tmp_path: Path, ours: trustme.CA) -> None:
    section = tls(tmp_path, ours, mutual=False)
    pair, key = server._Certificates(section), Path(section.tls_key)
    assert pair() is None, "nothing has changed"
    before = key.stat().st_ctime_ns
    while key.stat().st_ctime_ns == before:  # the kernel's clock for files ticks slowly
        key.chmod(0o640)
    assert pair() is not None
    assert pair() is None


def test_other_certificates_are_used_from_the_next_handshake_on(tmp_path: Path, ours: trustme.CA) -> None:
    section = tls(tmp_path, ours, mutual=True)
    theirs, folder = trustme.CA(), tmp_path / "theirs"
    folder.mkdir()
    other = replace(tls(folder, theirs, mutual=True), addr=section.addr)
    with running(tmp_path, section) as control:
        with client(control, ours, Pair.of(ours, tmp_path, common_name="alice")) as stub:
            assert status(stub).generation == 1
            control.server.reload(other)
            assert status(stub).generation == 1, "a connection that is open stays"
        with client(control, theirs, Pair.of(theirs, tmp_path, common_name="bob")) as stub:
            assert status(stub).generation == 1
        with client(control, theirs, Pair.of(ours, tmp_path, common_name="carol")) as stub:
            assert refusal(lambda: status(stub, SHORT)) is grpc.StatusCode.UNAVAILABLE
        control.server.reload(replace(other, client_ca=""))
        with client(control, theirs) as stub:
            assert refusal(lambda: status(stub, SHORT)) is grpc.StatusCode.UNAVAILABLE, "it stays mutual"


@pytest.mark.parametrize("key", ["tls_cert", "tls_key", "client_ca"])
def test_certificates_that_can_not_be_used_replace_none(tmp_path: Path, ours: trustme.CA, key: str) -> None:
    section = tls(tmp_path, ours, mutual=True)
    (tmp_path / "junk.pem").write_text("junk")
    with running(tmp_path, section) as control:
        for name in ("junk.pem", "absent.pem"):
            with pytest.raises(AdminError, match=rf"^grpc\.{key}: .*{name} "):
                control.server.reload(replace(section, **{key: str(tmp_path / name)}))
        with client(control, ours, Pair.of(ours, tmp_path, common_name="alice")) as stub:
            assert status(stub).generation == 1


@pytest.mark.parametrize("mutual", [False, True])
def test_connections_that_make_no_call_shut_nobody_out(tmp_path: Path, ours: trustme.CA, mutual: bool) -> None:
    """64 of them, of which nothing ever came, did: each held its place until gRPC's timeout, and was renewed."""
    bob = Pair.of(ours, tmp_path, common_name="bob")
    with running(tmp_path, tls(tmp_path, ours, mutual=mutual)) as control, ExitStack() as held:
        host, _, port = control.server.address.rpartition(":")
        for _ in range(2 * room.MAX_CONNECTIONS):
            held.enter_context(socket.create_connection((host, int(port)), DEADLINE))
        with client(control, ours, bob) as stub:
            assert status(stub).generation == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0.0.0.0", "[::]", "localhost"])
def test_each_form_of_an_address_is_listened_on(tmp_path: Path, ours: trustme.CA, host: str) -> None:
    """Every address of this machine stands for IPv4 and IPv6, as gRPC has it."""
    config = replace(tls(tmp_path, ours, mutual=False), addr=f"{host}:0")
    with running(tmp_path, config) as control:
        assert control.server.address.startswith(f"{host}:")
        port = control.server.address.rpartition(":")[2]
        for each in {"0.0.0.0": ["127.0.0.1", "[::1]"], "[::]": ["127.0.0.1", "[::1]"]}.get(host, [host]):
            options = [("grpc.ssl_target_name_override", "127.0.0.1")]
            credentials = grpc.ssl_channel_credentials(ours.cert_pem.bytes())
            with grpc.secure_channel(f"{each}:{port}", credentials, options=options) as channel:
                assert status(pb_grpc.ProxyAdminServiceStub(channel)).generation == 1  # type: ignore[no-untyped-call]


def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path, ours: trustme.CA) -> None:
    with running(tmp_path, tls(tmp_path, ours, mutual=False)) as control:
        other = trustme.CA()
        Path(tmp_path / "127.0.0.1.key").write_text("half written")
        with client(control, ours) as stub:
            assert status(stub).generation == 1, "the old one stays"
        Pair.of(other, tmp_path, "127.0.0.1")
        with client(control, other) as stub:
            assert status(stub).generation == 1
        with client(control, ours) as stub:
            assert refusal(lambda: status(stub, SHORT)) is grpc.StatusCode.UNAVAILABLE


def test_health(tmp_path: Path) -> None:
    with running(tmp_path) as control:
        health: Any = health_pb2_grpc.HealthStub(control.channel)
        for name in ("", "mc_proxy.v1.ProxyAdminService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        request = health_pb2.HealthCheckRequest(service="other")
        assert refusal(lambda: health.Check(request, timeout=DEADLINE)) is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        control.server.drain()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert status(control.stub).generation == 1, "calls are answered while it drains"


def test_reflection(tmp_path: Path) -> None:
    with running(tmp_path) as control:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(control.channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="mc_proxy.v1.ProxyAdminService"),
        ]
        listed, file = stub.ServerReflectionInfo(iter(asked), timeout=DEADLINE)
        assert "mc_proxy.v1.ProxyAdminService" in {each.name for each in listed.list_services_response.service}
        first, *_imported = file.file_descriptor_response.file_descriptor_proto
        assert b"mc_proxy/v1/admin.proto" in first


def test_a_request_has_a_bound(tmp_path: Path) -> None:
    with running(tmp_path) as control:
        huge = pb.AddRouteRequest(route=pb.Route(hostname="a" * (contract.MAX_REQUEST + 1)))
        call = lambda: control.stub.AddRoute(huge, timeout=DEADLINE)  # noqa: E731
        assert refusal(call) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_have_a_bound(tmp_path: Path) -> None:
    with running(tmp_path) as control:
        metadata = [("padding", "x" * (2 * server.MAX_METADATA))]
        call = lambda: control.stub.GetStatus(pb.GetStatusRequest(), metadata=metadata, timeout=DEADLINE)  # noqa: E731
        assert refusal(call) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_at_once_have_a_bound_and_none_waits_in_a_queue(tmp_path: Path) -> None:
    request = pb.RemoveListenerRequest(addr=":443")
    # Two connections: the first one soon has all the streams that one may have.
    with running(tmp_path) as control, _another(control) as stub:
        with control.writer._lock:  # mutations pile up
            waiting = [control.stub.RemoveListener.future(request, timeout=DEADLINE) for _ in range(server.MAX_CALLS)]

            def one_more_is_too_many() -> bool:
                waiting.append(stub.RemoveListener.future(request, timeout=DEADLINE))
                return _is_full(stub)

            until(one_more_is_too_many, "all places to be taken")
        assert [each.code() for each in waiting].count(grpc.StatusCode.OK) == 1
        until(lambda: not _is_full(stub), "places to be free")


@contextmanager
def _another(control: Control) -> Iterator[Any]:
    with grpc.insecure_channel(control.server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]


def _is_full(stub: Any) -> bool:
    try:
        status(stub)
    except grpc.RpcError as error:
        answer: Any = error
        assert answer.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return True
    return False


def test_closing_ends_streams_and_leaves_nothing(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    with running(tmp_path) as control:
        stream = control.stub.WatchConnections(pb.WatchConnectionsRequest())
        assert control.plane.subscribed.wait(DEADLINE)
        control.server.close()
        assert list(stream) == []
        assert not control.plane.sinks
    until(lambda: set(threading.enumerate()) <= threads, "threads to end")
    assert not (tmp_path / "admin.sock").exists()
