"""The calls that act on the running server: closing connections, reloading, the log's level."""

from pathlib import Path

import grpc
import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import KeyChange, ReloadReport
from mcproxy.certificates.routes import CertificateStatus
from mcproxy.messages import ConnectionInfo
from mcproxy.model import LOG_LEVELS, Backend, Listener, Mode, Route, Tls
from tests.kit.admin_calls import call, refused
from tests.kit.control_plane import Control, running


def test_connections_can_be_cut(control: Control) -> None:
    control.plane.open = [ConnectionInfo(5, ":443", "192.0.2.1:5", 0.0, "relaying")]
    call(control, "CloseConnection", pb.CloseConnectionRequest(id=5))
    assert ("close_connections", 5) in control.plane.calls
    code, words = refused(control, "CloseConnection", pb.CloseConnectionRequest(id=6))
    assert (code, words) == (grpc.StatusCode.NOT_FOUND, "there is no connection 6: it may have ended")


def test_several_connections_are_cut_at_once(control: Control) -> None:
    control.plane.open = [ConnectionInfo(i, ":443", "192.0.2.1:5", 0.0, "relaying") for i in (5, 6)]
    answer = call(control, "CloseConnections", pb.CloseConnectionsRequest(ids=[9, 5, 8, 5, 6]))
    assert list(answer.missing) == [9, 8]
    assert control.plane.calls[-1] == ("close_connections", 9, 5, 8, 6)
    code, words = refused(control, "CloseConnections", pb.CloseConnectionsRequest(ids=range(1001)))
    assert (code, words) == (grpc.StatusCode.INVALID_ARGUMENT, "ids: must be at most 1000 in one call")


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_the_log_level(control: Control, level: str) -> None:
    call(control, "SetLogLevel", pb.SetLogLevelRequest(level=level))
    assert control.plane.level == level


def test_a_reload_says_what_it_did(control: Control) -> None:
    change, waits = KeyChange("log.level", "info", "debug"), KeyChange("proxy.workers", "1", "4")
    control.plane.reloaded = ReloadReport(1.0, "", ["a.test: broken"], [change], [waits], ["listeners"])
    answer = call(control, "Reload", pb.ReloadRequest())
    assert [(each.key, each.old, each.new) for each in answer.applied] == [("log.level", "info", "debug")]
    assert [each.key for each in answer.needs_restart] == ["proxy.workers"]
    assert (list(answer.seed), list(answer.problems)) == (["listeners"], ["a.test: broken"])
    control.plane.reloaded = ReloadReport(1.0, "/etc/m.toml has 2 problems", ["log.level: x", "proxy.y: z"])
    code, words = refused(control, "Reload", pb.ReloadRequest())
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert words == "/etc/m.toml has 2 problems, nothing has changed: log.level: x; proxy.y: z"


def test_reloads(control: Control) -> None:
    control.plane.certificates = [CertificateStatus(":443", "a.b", "/c.pem", 9.0)]
    assert call(control, "ReloadGeoip", pb.ReloadGeoipRequest()).geoip.path == "/geo.mmdb"
    assert call(control, "ReloadCertificates", pb.ReloadCertificatesRequest()).certificates[0].not_after == 9.0
    control.plane.fail = {name: ValueError("it is broken") for name in ("reload_geoip", "reload_certificates")}
    for method, request in (
        ("ReloadGeoip", pb.ReloadGeoipRequest()),
        ("ReloadCertificates", pb.ReloadCertificatesRequest()),
    ):
        code, words = refused(control, method, request)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "it is broken" in words
        assert "stay" in words


def test_a_certificate_is_renewed_where_acme_has_it(tmp_path: Path) -> None:
    backend = Backend("127.0.0.1", 1)
    routes = [
        Route("a.test", backend, Mode.L7, tls=Tls.ACME),
        Route("b.test", backend, Mode.L7, "/b", "/b"),
        Route("c.test", backend),
    ]
    with running(tmp_path, seed=[(Listener(":443"), routes)]) as control:
        answer = call(control, "RenewCertificate", pb.RenewCertificateRequest(hostname="A.test"))
        assert (answer.hostname, answer.listener, answer.ordered) == ("a.test", ":443", True)
        assert ("renew", "a.test") in control.plane.calls
        control.plane.obstacle = "the CA is away"
        answer = call(control, "RenewCertificate", pb.RenewCertificateRequest(hostname="a.test"))
        assert (answer.obstacle, answer.ordered) == ("the CA is away", False)
        for name, code, words in (
            ("b.test", grpc.StatusCode.FAILED_PRECONDITION, "the certificate of b.test comes from files"),
            ("c.test", grpc.StatusCode.NOT_FOUND, "there is no l7 route c.test"),
            ("-", grpc.StatusCode.INVALID_ARGUMENT, "hostname"),
        ):
            found = refused(control, "RenewCertificate", pb.RenewCertificateRequest(hostname=name))
            assert found[0] is code
            assert words in found[1]
