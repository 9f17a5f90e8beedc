import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from mcproxy.admin.contract import ABOUT, REFUSED
from mcproxy.admin.errors import AlreadyThere, InvalidField, NotThere
from mcproxy.admin.guard import LONG, Guard
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import What
from mcproxy.store.errors import Unavailable
from tests.kit.peers import DEADLINE, until

ANONYMOUS: dict[str, Any] = {"peer": lambda: "", "add_callback": lambda _: True}  # of a context
LISTS = ("ListRouteCounters", "GetMetrics", "ListRoutes")


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


def answering(max_streams: int = 2, **seams: Any) -> Guard:
    guard = Guard(max_streams, **seams)
    guard.open()
    return guard


@contextmanager
def serving(folder: Path, behaviour: Behaviour, guard: Guard | None = None) -> Iterator[Any]:
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool, interceptors=[guard or answering()])
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


def test_nobody_is_answered_before_the_start_is_over(tmp_path: Path, behaviour: Behaviour) -> None:
    guard = Guard()
    with serving(tmp_path, behaviour, guard) as channel:
        for early in (lambda: call(channel), lambda: list(channel.unary_stream("/t/many")(b"x", timeout=DEADLINE))):
            with pytest.raises(grpc.RpcError) as caught:
                early()
            answer: Any = caught.value
            assert (answer.code(), answer.details()) == (
                grpc.StatusCode.UNAVAILABLE,
                "the server is starting: try again",
            )
        guard.open()
        assert call(channel) == b"x"


def refused(tmp_path: Path, behaviour: Behaviour, error: Exception) -> Any:
    """What a caller gets where the method raises."""
    behaviour.raising = error
    with serving(tmp_path, behaviour) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel)
    return caught.value


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotThere("it is gone"), grpc.StatusCode.NOT_FOUND), (Unavailable("disk full"), grpc.StatusCode.UNAVAILABLE)],
)
def test_a_refusal_becomes_a_status_that_is_known_as_ours(
    tmp_path: Path, behaviour: Behaviour, error: Exception, code: grpc.StatusCode
) -> None:
    answer = refused(tmp_path, behaviour, error)
    assert (answer.code(), answer.details()) == (code, str(error))
    assert (REFUSED, "1") in [tuple(pair) for pair in answer.trailing_metadata()]


@pytest.mark.parametrize(
    ("error", "about"),
    [
        (InvalidField("route.tls_key", "is none"), "route.tls_key"),
        (AlreadyThere("the route a.b exists", What.ROUTE), "route"),
        (NotThere("there is no connection 5"), None),
        (Unavailable("disk full"), None),
    ],
)
def test_programs_are_told_what_a_refusal_is_about(
    tmp_path: Path, behaviour: Behaviour, error: Exception, about: str | None
) -> None:
    assert dict(refused(tmp_path, behaviour, error).trailing_metadata()).get(ABOUT) == about


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
    with serving(tmp_path, behaviour) as channel:
        for _ in range(10):
            streams = [opened(channel), opened(channel)]
            with pytest.raises(grpc.RpcError) as caught:
                next(channel.unary_stream("/t/many")(b"x", timeout=DEADLINE))
            answer: Any = caught.value
            assert answer.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert call(channel) == b"x", "calls are not streams"
            for stream in streams:
                stream.cancel()


class Turn:
    """Counts who comes for a lock, before they wait for it."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self.came = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.came.release()
        self._lock.__enter__()

    def __exit__(self, *_exception: object) -> None:
        self._lock.__exit__(None, None, None)


def test_long_lists_are_made_one_at_a_time() -> None:
    turn = Turn(threading.Lock())  # to see who comes
    guard, inside = answering(long_turn=turn), list[str]()
    entered, leave = threading.Semaphore(0), threading.Event()
    context = SimpleNamespace(is_active=lambda: True, **ANONYMOUS)

    def call_of(name: str) -> Callable[[], Any]:
        def behaviour(_request: bytes, _context: object) -> None:
            inside.append(name)
            entered.release()
            assert name not in LISTS or leave.wait(DEADLINE)

        details = SimpleNamespace(method=f"/mc_proxy.v1.ProxyAdminService/{name}")
        handler = guard.intercept_service(lambda _: grpc.unary_unary_rpc_method_handler(behaviour), details)
        return lambda: handler.unary_unary(b"", context)

    with ThreadPoolExecutor(len(LISTS)) as pool:
        calls = [pool.submit(call_of(name)) for name in LISTS]
        try:
            assert entered.acquire(timeout=DEADLINE)
            assert all(turn.came.acquire(timeout=DEADLINE) for _ in LISTS), "all have come"
            assert len(inside) == 1, "and one is let in"
            call_of("GetStatus")()
            assert inside[1:] == ["GetStatus"], "a short call takes no turn"
        finally:
            leave.set()
        for each in calls:
            each.result(timeout=DEADLINE)
    assert sorted(inside) == sorted([*LISTS, "GetStatus"])


def test_a_long_stream_has_a_turn_for_each_answer_and_none_between() -> None:
    lock, turns = threading.Lock(), list[bool]()
    guard = Guard(long_turn=lock)
    guard.open()

    def export(_request: bytes, _context: object) -> Iterator[bytes]:
        for _ in range(3):
            turns.append(lock.locked())
            yield b"x"

    details = SimpleNamespace(method="/mc_proxy.v1.ProxyAdminService/Export")
    handler = guard.intercept_service(lambda _: grpc.unary_stream_rpc_method_handler(export), details)
    between = [lock.locked() for _ in handler.unary_stream(b"", SimpleNamespace(**ANONYMOUS))]
    assert turns == [True] * 3
    assert between == [False] * 3


def test_every_long_call_is_one_of_the_proto() -> None:
    methods = pb.DESCRIPTOR.services_by_name["ProxyAdminService"].methods_by_name
    names = {f"/mc_proxy.v1.ProxyAdminService/{name}" for name in methods}
    assert names >= LONG
    assert {name for name in names if "/List" in name} <= LONG


@pytest.mark.parametrize("method", ["one", "many"])
def test_the_beginning_and_the_end_of_each_call_are_reported(tmp_path: Path, behaviour: Behaviour, method: str) -> None:
    began, ended = list[str](), threading.Event()

    def on_call(peer: str) -> Callable[[], None]:
        began.append(peer)
        return ended.set

    with serving(tmp_path, behaviour, answering(on_call=on_call)) as channel:
        if method == "one":
            call(channel)
        else:
            stream = channel.unary_stream("/t/many")(b"x", timeout=DEADLINE)
            assert next(stream) == b"x"
            assert not ended.is_set()
            stream.cancel()
        assert ended.wait(DEADLINE)
    assert began == ["unix:"]


def test_a_call_that_is_over_before_it_begins_has_an_end_too() -> None:
    ended: list[bool] = []
    guard = answering(on_call=lambda _: lambda: ended.append(True))
    handler = guard.intercept_service(
        lambda _: grpc.unary_unary_rpc_method_handler(lambda *_: b""), SimpleNamespace(method="/t/one")
    )
    gone = SimpleNamespace(is_active=lambda: True, peer=lambda: "", add_callback=lambda _: False)
    assert handler.unary_unary(b"", gone) == b""
    assert ended == [True]
