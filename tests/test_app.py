"""The whole, put together: a start that fails leaves nothing open."""

import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcproxy import __version__, config
from mcproxy.app import App, StartError
from mcproxy.configuration import Config
from mcproxy.model import Listener
from mcproxy.store.store import Store
from tests.conftest import MakeBackend, listener
from tests.kit.hub import HubThread, messages
from tests.kit.peers import DEADLINE, client_hello, connect, free_port, is_reset, read_all, says

Document = dict[str, Any]

L7: Document = {"hostname": "a.test", "backend": "127.0.0.1:1", "mode": "l7"}


@pytest.fixture
def parse(tmp_path: Path) -> Callable[[Document], Config]:
    """Reads a document as if it were a file in the test's folder."""
    return lambda document: config.parse({"database": {"path": "x.db"}, **document}, tmp_path / "mcproxy.toml")


Parse = Callable[[Document], Config]


def stop(hub: HubThread, app: App) -> bool:
    return hub.spawn(app.stop).result(DEADLINE)


# --- start and stop ---------------------------------------------------------------------------------------------------


def test_it_serves_until_it_is_stopped(hub: HubThread, parse: Parse, backend: MakeBackend) -> None:
    lines: list[str] = []
    with messages() as logged:
        app = hub.call(App, parse({"listeners": [listener({"a.test": backend(says("here")).address})]}), lines.extend)
        hub.call(app.start)
        assert repr(app) == "<App <DataPath <Worker listeners=1 sessions=0>>>"
        with connect(app.worker.addresses["127.0.0.1:0"][1]) as client:
            client.sendall(client_hello("a.test"))
            assert b"here" in read_all(client)
        assert stop(hub, app) is True
    assert [line.split(" connection ")[0][-5:] for line in lines] == [" info"]
    assert f"info mcproxy {__version__} started, generation 1" in logged
    assert logged[-1] == "info stopped"


def test_a_stop_that_had_to_cut_says_so(hub: HubThread, parse: Parse) -> None:
    document = {"listeners": [listener({})], "proxy": {"shutdown_timeout": "10ms"}}
    with messages() as logged:
        app = hub.call(App, parse(document), lambda line: None)
        hub.call(app.start)
        with connect(app.worker.addresses["127.0.0.1:0"][1]) as client:
            assert stop(hub, app) is False
            assert is_reset(client)
    assert logged[-1] == "info stopped; connections had to be cut"


@pytest.mark.parametrize(
    ("taken", "why"),
    [("127.0.0.1", "another program listens there"), ("192.0.2.1", "this machine has no such address")],
)
def test_a_listener_that_cannot_be_bound_closes_those_before_it(
    taken: str, why: str, hub: HubThread, parse: Parse
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
        first, second = free.getsockname()[1], other.getsockname()[1]
        free.close()
        document = {"listeners": [{"addr": f"127.0.0.1:{first}"}, {"addr": f"{taken}:{second}"}]}
        app = hub.call(App, parse(document), lambda line: None)
        with pytest.raises(StartError) as caught:
            hub.call(app.start)
        assert str(caught.value) == f"can't listen on {taken}:{second}: {why}"
        assert app.worker.addresses == {}
        with pytest.raises(ConnectionRefusedError):
            connect(first)
        assert stop(hub, app) is True  # which is allowed where nothing has started


@pytest.mark.parametrize("content", [None, b"", b"not a database" * 100])
def test_a_geoip_database_that_cannot_be_used_stops_the_start(
    content: bytes | None, hub: HubThread, parse: Parse, tmp_path: Path
) -> None:
    path = tmp_path / "geo.mmdb"
    if content is not None:
        path.write_bytes(content)
    document = {"listeners": [listener({})], "firewall": {"geoip_db": "geo.mmdb"}}
    with pytest.raises(StartError, match=rf"^firewall\.geoip_db: {path} "):
        hub.call(App, parse(document), lambda line: None)


def test_a_seed_that_can_not_be_made_durable_opens_nothing(hub: HubThread, parse: Parse, tmp_path: Path) -> None:
    document = {"listeners": [listener({})], "grpc": {"addr": f"unix:{tmp_path}/admin.sock"}}
    app = hub.call(App, parse(document), lambda line: None)
    with closing(Store.open(tmp_path / "x.db")) as other:
        other.seed([(Listener("127.0.0.1:1"), [])], [], 1.0)
    with pytest.raises(StartError, match=r"database\.path: .* another process has seeded it meanwhile"):
        hub.call(app.start)
    assert app.worker.addresses == {}
    assert not (tmp_path / "admin.sock").exists()
    assert stop(hub, app) is True


def test_a_start_says_whether_the_file_is_what_the_database_has(hub: HubThread, parse: Parse) -> None:
    """Else an operator changes the file, restarts, and wonders."""

    def told(document: Document) -> list[str]:
        with messages() as logged:
            app = hub.call(App, parse(document), lambda line: None)
            hub.call(app.start)
            stop(hub, app)
        return [line for line in logged if "differ" in line]

    document = {"listeners": [listener({"a.test": "127.0.0.1:1"})]}
    assert told(document) == []
    assert told(document) == [], "the second start finds what the first has made"
    differ = "the configuration file's listeners, routes and rules differ from the database in 2 values"
    assert told({"listeners": [listener({"b.test": "127.0.0.1:1"})]}) == [
        f"info {differ}; the database is in force: mcproxy diff"
    ]
    assert told({}) == [], "a file without any doesn't mean to say anything"


def test_a_listener_that_only_the_database_has_can_not_be_mended_in_the_file(
    hub: HubThread, parse: Parse, tmp_path: Path
) -> None:
    with closing(Store.open(tmp_path / "x.db")) as store:
        store.seed([(Listener("192.0.2.1:443"), [])], [], 1.0)
    app = hub.call(App, parse({"listeners": [listener({})]}), lambda line: None)
    with pytest.raises(StartError) as caught:
        hub.call(app.start)
    assert str(caught.value) == (
        "can't listen on 192.0.2.1:443: this machine has no such address; the listener is in the database "
        f"{tmp_path}/x.db, not in the configuration file: make the address available, or move the database away to "
        "start from the file"
    )


def test_several_workers_serve_as_one(hub: HubThread, parse: Parse, backend: MakeBackend) -> None:
    port, lines = free_port(), list[str]()
    routes = {"a.test": backend(says("here")).address}
    document = {"listeners": [listener(routes, addr=f"127.0.0.1:{port}")], "proxy": {"workers": 2}}
    with messages() as logged:
        app = hub.call(App, parse(document), lines.extend)
        hub.spawn(app.start).result(DEADLINE)
        with connect(port) as client:
            client.sendall(client_hello("a.test"))
            assert b"here" in read_all(client)
        assert stop(hub, app) is True
    assert f"info mcproxy {__version__} started, generation 1" in logged
    assert sum(" verdict=routed " in line for line in lines) == 1


TOLD_BEFORE = """
import os, signal, types
from mcproxy import app
from mcproxy.signals import Signals
signals = Signals()
os.kill(os.getpid(), signal.SIGTERM)
while signals.stop is None:
    pass
proxy = types.SimpleNamespace(shutdown_timeout=1.0)
reloader, config = types.SimpleNamespace(begin=print), types.SimpleNamespace(proxy=proxy)
app._wait(signals, types.SimpleNamespace(reloader=reloader, config=config))
print("stopped")
"""


def test_a_signal_that_comes_before_the_hub_waits_for_it_is_not_lost() -> None:
    """A server that was told to stop right after it had started went on for ever: nobody had started the watcher."""
    command = [sys.executable, "-c", TOLD_BEFORE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "stopped\n"
