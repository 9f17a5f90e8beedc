"""gRPC passes whole: Python's grpc on both sides, over h2c and over TLS to the backend."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.http2_peer import HOST
from tests.kit.l7_proxy import Server
from tests.kit.peers import DEADLINE, Authority

LARGE = 4 * 1024 * 1024 - 64  # just within grpc's own limit for a message
BINARY = bytes(range(256))


class Service:
    """Methods of bytes to bytes."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def echo(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-initial", str(metadata.get("x-asked", ""))),))
        context.set_trailing_metadata((("x-sum-bin", BINARY), ("x-from", str(metadata["x-forwarded-for"]))))
        return message

    def fail(self, _message: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \u00e9")

    def count(self, message: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(message)):
            yield b"%d" % number

    def total(self, messages: Iterator[bytes], _context: grpc.ServicerContext) -> bytes:
        return b"%d" % sum(len(message) for message in messages)

    def talk(self, messages: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for message in messages:
            yield message[::-1]

    def hang(self, _message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        yield b"first"
        assert self.cancelled.wait(DEADLINE)

    def handler(self) -> grpc.GenericRpcHandler:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            "test.Test",
            {
                "echo": unary(self.echo),
                "fail": unary(self.fail),
                "count": stream(self.count),
                "hang": stream(self.hang),
                "total": grpc.stream_unary_rpc_method_handler(self.total),
                "talk": grpc.stream_stream_rpc_method_handler(self.talk),
            },
        )


class Rig:
    def __init__(self, authority: Authority, backend_tls: bool) -> None:
        self.service = Service()
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self.service.handler(),))
        if backend_tls:
            certificate, key = (Path(part).read_bytes() for part in authority.pair(HOST))
            port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        else:
            port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.proxy = Server(authority, port, backend_tls=backend_tls)
        self.channel = grpc.secure_channel(
            f"127.0.0.1:{self.proxy.port}",
            grpc.ssl_channel_credentials(authority.path.read_bytes()),
            [("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", HOST)],
        )

    def call(self, kind: str, method: str) -> Any:
        return getattr(self.channel, kind)(f"/test.Test/{method}", None, None)

    def close(self) -> None:
        self.channel.close()
        self._server.stop(None).wait(DEADLINE)
        self.proxy.close()


@pytest.fixture(params=[False, True], ids=["h2c", "backend_tls"])
def rig(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Rig]:
    rig = Rig(authority, request.param)
    yield rig
    rig.close()


def test_unary_with_metadata_and_trailers(rig: Rig) -> None:
    reply, call = rig.call("unary_unary", "echo").with_call(
        b"hello", timeout=DEADLINE, metadata=(("x-asked", "this"), ("x-in-bin", BINARY))
    )
    assert reply == b"hello"
    assert ("x-initial", "this") in call.initial_metadata()
    trailers = dict(call.trailing_metadata())
    assert trailers["x-sum-bin"] == BINARY
    assert trailers["x-from"] == "127.0.0.1"


def test_many_calls_on_one_connection(rig: Rig) -> None:
    echo = rig.call("unary_unary", "echo")
    for number in range(60):
        assert echo(b"%d" % number, timeout=DEADLINE) == b"%d" % number
    futures = [echo.future(b"%d" % number, timeout=DEADLINE) for number in range(60)]
    assert [future.result(DEADLINE) for future in futures] == [b"%d" % number for number in range(60)]
    assert {s.status for s in rig.proxy.records} == {200}


def test_an_error_is_trailers_only(rig: Rig) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        rig.call("unary_unary", "fail")(b"", timeout=DEADLINE)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert failed.value.details() == "no such thing: \u00e9"


def test_streams_in_every_direction(rig: Rig) -> None:
    assert list(rig.call("unary_stream", "count")(b"500", timeout=DEADLINE)) == [b"%d" % n for n in range(500)]
    assert rig.call("stream_unary", "total")(iter([b"x" * 10_000] * 50), timeout=DEADLINE) == b"500000"
    sent = [b"%d" % number for number in range(100)]
    assert list(rig.call("stream_stream", "talk")(iter(sent), timeout=DEADLINE)) == [each[::-1] for each in sent]


def test_large_messages(rig: Rig) -> None:
    message = BINARY * (LARGE // 256)
    assert rig.call("unary_unary", "echo")(message, timeout=DEADLINE) == message


def test_a_deadline_and_a_cancellation_reach_the_backend(rig: Rig) -> None:
    stream = rig.call("unary_stream", "hang")(b"", timeout=0.5)
    assert next(stream) == b"first"
    with pytest.raises(grpc.RpcError) as late:
        next(stream)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert rig.service.cancelled.wait(DEADLINE)
    rig.service.cancelled.clear()
    stream = rig.call("unary_stream", "hang")(b"", timeout=DEADLINE)
    assert next(stream) == b"first"
    stream.cancel()
    assert rig.service.cancelled.wait(DEADLINE)


def test_a_backend_that_is_not_there_is_unavailable(authority: Authority) -> None:
    rig = Rig(authority, backend_tls=False)
    rig._server.stop(None).wait(DEADLINE)
    with pytest.raises(grpc.RpcError) as failed:
        rig.call("unary_unary", "echo")(b"", timeout=DEADLINE)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    rig.close()
