import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mcproxy.admin.errors import NotThere
from mcproxy.admin.guard import LONG, REFUSED, Guard, who
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.plane import RouteCounters
from mcproxy.store.errors import Unavailable
from tests.control_plane import DEADLINE, running
from tests.peers import until


class Behaviour:
    """Two methods that do what a test wants."""

    def __init__(self) -> None:
        self.raising: Exception | None = None

    def one(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if self.raising:
            raise self.raising
        return request

    def many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield request
        if self.raising:
            raise self.raising
        while context.is_active():
            yield request


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@contextmanager
def serving(folder: Path, behaviour: Behaviour, max_streams: int = 2) -> Iterator[Any]:
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool, interceptors=[Guard(max_streams)])
    handlers: dict[str, Any] = {
        "one": grpc.unary_unary_rpc_method_handler(behaviour.one),
        "many": grpc.unary_stream_rpc_method_handler(behaviour.many),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t", handlers)])
    server.add_insecure_port(f"unix:{folder}/s")
    server.start()
    with grpc.insecure_channel(f"unix:{folder}/s") as channel:
        yield channel
    server.stop(0).wait()
    pool.shutdown()


def call(channel: Any) -> Any:
    return channel.unary_unary("/t/one")(b"x", timeout=DEADLINE)


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotThere("it is gone"), grpc.StatusCode.NOT_FOUND), (Unavailable("disk full"), grpc.StatusCode.UNAVAILABLE)],
)
def test_a_refusal_becomes_a_status_that_is_known_as_ours(
    tmp_path: Path, behaviour: Behaviour, error: Exception, code: grpc.StatusCode
) -> None:
    behaviour.raising = error
    with serving(tmp_path, behaviour) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel)
        answer: Any = caught.value
        assert (answer.code(), answer.details()) == (code, str(error))
        assert (REFUSED, "1") in [tuple(pair) for pair in answer.trailing_metadata()]


def test_a_bug_is_logged_and_tells_the_caller_nothing_of_the_inside(
    tmp_path: Path, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    behaviour.raising = ZeroDivisionError("the secret")
    with caplog.at_level(logging.ERROR), serving(tmp_path, behaviour) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel)
        answer: Any = caught.value
        assert answer.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in answer.details()
    assert "bug in /t/one" in caplog.text
    assert "the secret" in caplog.text


def test_a_stream_can_be_refused_in_its_middle(tmp_path: Path, behaviour: Behaviour) -> None:
    behaviour.raising = NotThere("it went")
    with serving(tmp_path, behaviour) as channel:
        stream = channel.unary_stream("/t/many")(b"x", timeout=DEADLINE)
        assert next(stream) == b"x"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        answer: Any = caught.value
        assert answer.code() is grpc.StatusCode.NOT_FOUND


def opened(channel: Any) -> Any:
    """A stream, as soon as there is a place for it."""
    found: list[Any] = []

    def attempt() -> bool:
        stream = channel.unary_stream("/t/many")(b"x", timeout=DEADLINE)
        try:
            found.append(stream if next(stream) == b"x" else None)
        except grpc.RpcError:
            return False
        return True

    until(attempt, "a place for a stream")
    return found[0]


def test_open_streams_have_a_bound_and_give_their_place_back(tmp_path: Path, behaviour: Behaviour) -> None:
    with serving(tmp_path, behaviour, max_streams=2) as channel:
        for _ in range(10):
            streams = [opened(channel), opened(channel)]
            with pytest.raises(grpc.RpcError) as caught:
                next(channel.unary_stream("/t/many")(b"x", timeout=DEADLINE))
            answer: Any = caught.value
            assert answer.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert call(channel) == b"x", "calls are not streams"
            for stream in streams:
                stream.cancel()


def test_long_lists_are_made_one_at_a_time(tmp_path: Path) -> None:
    with running(tmp_path) as control:
        inside, most = [0], [0]

        def route_counters() -> list[RouteCounters]:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)  # long enough for another one to come, if it could
            inside[0] -= 1
            return []

        control.plane.route_counters = route_counters  # type: ignore[method-assign]
        calls = [control.stub.ListRouteCounters.future(pb.ListRouteCountersRequest()) for _ in range(5)]
        calls += [control.stub.GetMetrics.future(pb.GetMetricsRequest()) for _ in range(5)]
        for each in calls:
            each.result(timeout=DEADLINE)
        assert most == [1]


def test_every_long_call_is_one_of_the_proto() -> None:
    methods = pb.DESCRIPTOR.services_by_name["ProxyAdminService"].methods_by_name
    names = {f"/mc_proxy.v1.ProxyAdminService/{name}" for name in methods}
    assert names >= LONG
    assert {name for name in names if "/List" in name} <= LONG


class Caller:
    """As much of gRPC's context as tells who calls."""

    def __init__(self, peer: str, **certified: list[bytes]) -> None:
        self._peer = peer
        self._certified = certified

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._certified


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        (Caller("ipv4:127.0.0.1:5", x509_common_name=[b"alice"]), "cert:alice"),
        (Caller("ipv4:127.0.0.1:5", x509_common_name=[b"eve\n\x1b[2J"]), "cert:eve??[2J"),
        (Caller("ipv4:127.0.0.1:5", x509_subject_alternative_name=[b"ops.example.org"]), "cert:ops.example.org"),
        (Caller("ipv4:127.0.0.1:5", transport_security_type=[b"ssl"]), "tls"),
        (Caller("unix-abstract:mcproxy-00ff-1000-7"), "uid:1000"),
    ],
)
def test_who_calls(caller: Any, name: str) -> None:
    assert who(caller) == name
