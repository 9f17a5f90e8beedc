"""Wraps every call: the end of the start, the deadline, the bound on open streams, and errors as statuses.

The service raises exceptions; here they become gRPC statuses. An unforeseen one is a bug of ours: the log has its
traceback, and the caller gets INTERNAL without any details of the server.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import grpc

from mcproxy.admin.contract import ABOUT, REFUSED, SERVICE
from mcproxy.admin.errors import STATUS, Busy, Refusal, Starting, TooMany

MAX_STREAMS = 16  # of all kinds, watch, health and reflection; each takes a thread, of those that `server.py` has

log = logging.getLogger(__name__)


# Calls that make long lists: one runs at a time, of a stream one answer. Each takes milliseconds of Python, and the hub
# shares the interpreter with them: it waits for its turn once behind one of them, and many times over behind eight.
LONG = frozenset(
    f"/{SERVICE}/{name}"
    for name in (
        "Export",
        "GetDiff",
        "GetMetrics",
        "ListConnections",
        "ListCertificates",
        "ListFirewallRules",
        "ListListeners",
        "ListNodes",
        "ListRevisions",
        "ListRouteCounters",
        "ListRoutes",
    )
)


class Guard(grpc.ServerInterceptor):
    """Wraps every method's handler. Refuses every call until `open`."""

    def __init__(
        self,
        max_streams: int = MAX_STREAMS,
        hint: Callable[[Exception], str] = lambda _: "",
        long_turn: AbstractContextManager[Any] | None = None,
        on_call: Callable[[str], Callable[[], None]] = lambda _: lambda: None,
    ) -> None:
        """`hint` returns the end of an exception's message; `long_turn` is held by one long call at a time.

        `on_call` is called with gRPC's name of the peer of each call, and returns what is called at the call's end.
        """
        self._hint = hint
        self._on_call = on_call
        self._is_open = False
        self._free_streams = threading.Semaphore(max_streams)
        self._long_turn = long_turn or threading.Lock()  # a call of LONG has it while it runs

    def open(self) -> None:
        """Let calls through from now on."""
        self._is_open = True

    def _refuse_early(self) -> None:
        if not self._is_open:
            raise Starting("the server is starting: try again")

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap one call's handler."""
        handler = continuation(details)
        if handler is None:
            return None  # no such method: gRPC answers UNIMPLEMENTED
        method = details.method
        coding = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            turn = self._long_turn if method in LONG else nullcontext()
            return grpc.unary_unary_rpc_method_handler(self._answering(handler.unary_unary, method, turn), **coding)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._streaming(handler.unary_stream, method), **coding)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._streaming(handler.stream_stream, method), **coding)
        return handler

    def _count(self, context: grpc.ServicerContext) -> None:
        ended = self._on_call(context.peer())
        if not context.add_callback(ended):
            ended()

    def _streaming(self, behaviour: Callable[..., Iterator[Any]], method: str) -> Callable[..., Iterator[Any]]:
        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self._count(context)
            if not self._free_streams.acquire(blocking=False):
                _refuse(context, TooMany("too many streams are open: end one first"), "")
            # At the call's end, however it ends; a generator that is never resumed would not get there.
            if not context.add_callback(self._free_streams.release):
                self._free_streams.release()
                return
            with _Translated(context, method, self._hint):
                self._refuse_early()
                answers = behaviour(request, context)
                yield from _in_turns(answers, self._long_turn) if method in LONG else answers

        return stream

    def _answering(
        self, behaviour: Callable[[Any, Any], Any], method: str, turn: AbstractContextManager[Any]
    ) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self._count(context)
            with turn, _Translated(context, method, self._hint):
                self._refuse_early()
                if not context.is_active():
                    raise Busy("the deadline passed before the call began: try again")
                return behaviour(request, context)

        return answer


def _in_turns(answers: Iterator[Any], turn: AbstractContextManager[Any]) -> Iterator[Any]:
    """Make each answer in a turn; a caller that is slow to take one delays no other."""
    while True:
        with turn:
            answer = next(answers, None)
        if answer is None:
            return
        yield answer


class _Translated:
    """Turns exceptions into statuses. A context manager by hand: it is entered for every call."""

    __slots__ = ("_context", "_hint", "_method")

    def __init__(self, context: grpc.ServicerContext, method: str, hint: Callable[[Exception], str]) -> None:
        self._context = context
        self._method = method
        self._hint = hint

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, grpc.RpcError):
            return  # the caller has gone, in the middle of a stream of requests
        if isinstance(error, tuple(STATUS)):
            _refuse(self._context, error, self._hint(error))
        log.error("bug in %s", self._method, exc_info=error)
        self._context.abort(grpc.StatusCode.INTERNAL, "a bug in mcproxy: its log has the details")


def _refuse(context: grpc.ServicerContext, error: Exception, hint: str) -> NoReturn:
    code = next(code for kind, code in STATUS.items() if isinstance(error, kind))
    about = error.about if isinstance(error, Refusal) else ""
    context.set_trailing_metadata(((REFUSED, "1"), (ABOUT, about)) if about else ((REFUSED, "1"),))
    context.abort(code, f"{error}{hint}")
    raise AssertionError("abort raises")
