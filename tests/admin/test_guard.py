import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mcproxy.admin.errors import NotThere
from mcproxy.admin.guard import REFUSED, Guard, who
from mcproxy.store.errors import Unavailable
from tests.control_plane import DEADLINE
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
