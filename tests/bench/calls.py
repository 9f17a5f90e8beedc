"""gRPC by Python's grpc on both sides: unary calls of 64 bytes, and messages of bidirectional streams.

    python -m tests.bench.calls serve PORT
    python -m tests.bench.calls unary|stream PORT SECONDS CA

Client and server are processes of their own: grpc must not be forked with.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc

from tests.bench.figures import Done, figure
from tests.bench.l4 import Measure, Site, listens
from tests.kit.peers import free_port

AT_ONCE = 8
MESSAGE = bytes(64)
PATIENCE = 60.0  # seconds


def serve(port: int) -> None:
    """Echo, until this process is ended."""

    def talk(messages: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from messages

    methods: dict[str, Any] = {
        "unary": grpc.unary_unary_rpc_method_handler(lambda message, _context: message),
        "stream": grpc.stream_stream_rpc_method_handler(talk),
    }
    server = grpc.server(ThreadPoolExecutor(2 * AT_ONCE))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


@contextmanager
def backend() -> Iterator[int]:
    """The port of a server, on the core of the caller."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "tests.bench.calls", "serve", str(port)]) as child:
        try:
            if not listens(child, port):
                raise OSError("the backend of gRPC doesn't start")
            yield port
        finally:
            child.kill()


def call(channel: grpc.Channel, end: float, took: list[float]) -> None:
    """Unary calls, one after the other."""
    ask: Any = channel.unary_unary("/bench.Echo/unary")
    while (began := time.perf_counter()) < end:
        assert ask(MESSAGE, timeout=PATIENCE) == MESSAGE
        took.append(time.perf_counter() - began)


def talk(channel: grpc.Channel, end: float, took: list[float]) -> None:
    """Messages of one stream, one after the other."""
    says: SimpleQueue[bytes | None] = SimpleQueue()
    answers: Any = channel.stream_stream("/bench.Echo/stream")(iter(says.get, None), timeout=PATIENCE)  # type: ignore[arg-type]
    while (began := time.perf_counter()) < end:
        says.put(MESSAGE)
        assert next(answers) == MESSAGE
        took.append(time.perf_counter() - began)
    says.put(None)
    assert not list(answers)


def load(
    what: Callable[[grpc.Channel, float, list[float]], None], port: int, seconds: float, ca: Path
) -> tuple[float, list[float]]:
    """So many threads on one connection. Returns the seconds that it took, and those of each call."""
    credentials = grpc.ssl_channel_credentials(ca.read_bytes())
    options = [("grpc.ssl_target_name_override", "a.test")]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        grpc.channel_ready_future(channel).result(PATIENCE)
        took: list[float] = []
        start = time.perf_counter()
        threads = [threading.Thread(target=what, args=(channel, start + seconds, took)) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start, took


def asked(name: str, ca: Path, site: Site) -> Done:
    """The load, in a process of its own; its one handshake is counted, too."""
    command = [sys.executable, "-m", "tests.bench.calls", name, str(site.port), str(site.seconds), str(ca)]
    before = site.used()
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE + site.seconds, check=False)
    if done.returncode:
        raise OSError(f"calls failed: {done.stderr[-500:]}")
    seconds, took = json.loads(done.stdout)
    return Done(len(took), seconds, site.used() - before, took)


def works(ca: Path) -> dict[str, Measure]:
    """Each work's measurement."""
    return {
        "unary": lambda site: figure(1e6, asked("unary", ca, site)),
        "stream": lambda site: figure(1e6, asked("stream", ca, site)),
    }


def main(what: str, port: str, seconds: str = "", ca: str = "") -> None:
    """The server, or a load, whose result is printed."""
    if what == "serve":
        serve(int(port))
    else:
        print(json.dumps(load(call if what == "unary" else talk, int(port), float(seconds), Path(ca))))


if __name__ == "__main__":
    main(*sys.argv[1:])
