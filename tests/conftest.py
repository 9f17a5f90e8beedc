"""What tests share: certificates, a proxy, and the proof that nothing is left behind."""

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from gevent.hub import get_hub
from hypothesis import settings

from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, Authority, Backend, until
from tests.kit.postgres import PostgresServer, postgres_server
from tests.kit.proxy import Proxy, live_greenlets, open_descriptors

MakeProxy = Callable[..., Proxy]
MakeBackend = Callable[..., Backend]

settings.register_profile("any machine", deadline=None)  # however slow or loaded it is
settings.load_profile("any machine")

SHORT_BYTES = 40  # that may be in a test's name


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a test by the parameter instead of by long bytes: a ClientHello of OpenSSL's differs in each process, and
    all processes that share a run have to find tests of the same names."""
    return argname if isinstance(val, bytes) and len(val) > SHORT_BYTES else None


@pytest.fixture(scope="session", autouse=True)
def _interrupts_reach_what_tests_start() -> None:
    """A shell without job control starts what runs in the background with SIGINT ignored, which is inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _nobody_elses_settings() -> None:
    """The shell that starts the tests may administer an mcproxy; and a make of theirs is not part of `make test`."""
    for name in [each for each in os.environ if each.startswith(("MCPROXY_", "MAKE", "MFLAGS"))]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _only_what_tests_make_is_collected() -> None:
    """Each test collects garbage, twice: not again and again all that was imported, which is most of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Objects that hold each other stay."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of the test run."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for tests that leave it running; each makes a database of its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def grpc_is_awake() -> Iterator[None]:
    """gRPC opens pollers with its first object and closes them some time after its last: they are nobody's leak."""
    pool = ThreadPoolExecutor(1)
    server = grpc.server(pool)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=DEADLINE)
        yield
    server.stop(0).wait()
    pool.shutdown()


@pytest.fixture(scope="module")  # tests of other modules may end theirs
def main_hub() -> None:
    """The main thread's hub has its descriptors before anything is counted."""
    get_hub().loop.run_callback(get_hub().loop.now)
    get_hub().join(timeout=0)


@pytest.fixture
def nothing_left(grpc_is_awake: None) -> Iterator[None]:
    """After the test there are as many greenlets, descriptors and threads as before it."""
    threads, descriptors, greenlets = set(threading.enumerate()), open_descriptors(), live_greenlets()
    yield
    until(lambda: set(threading.enumerate()) <= threads, f"threads to end: {threading.enumerate()}")
    left = {k: v for k, v in open_descriptors().items() if descriptors.get(k) != v}
    assert not left, "descriptors left"
    assert not set(live_greenlets()) - set(greenlets), "greenlets left"


@pytest.fixture
def hub(nothing_left: None) -> Iterator[HubThread]:
    """A running hub."""
    running = HubThread()
    yield running
    running.close()


@pytest.fixture
def backend(nothing_left: None) -> Iterator[MakeBackend]:
    """Makes backends that end with the test."""
    made: list[Backend] = []

    def make(*args: Any, **options: Any) -> Backend:
        made.append(Backend(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def proxy(nothing_left: None, tmp_path: Path) -> Iterator[MakeProxy]:
    """Makes proxies, each from a configuration document, that end with the test."""
    made: list[Proxy] = []

    def make(document: dict[str, Any]) -> Proxy:
        made.append(Proxy(document, tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def listener(routes: dict[str, str], **options: Any) -> dict[str, Any]:
    """One listener on a free port, with l4 routes from name to backend."""
    given = [{"hostname": name, "backend": target} for name, target in routes.items()]
    return {"addr": "127.0.0.1:0", "routes": given, **options}
