"""Signals, sent to the real program: it stops without losing a connection that it accepted, or says that it had to."""

import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBackend
from tests.kit.geoip_files import located, write_database
from tests.kit.peers import DEADLINE, client_hello, connect, echo, free_port, is_reset, read_all, receive, says, until
from tests.kit.program import Program, Server, environment, write_config
from tests.kit.proxy import parse_line

HELLO = client_hello("a.test")
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


class Running:
    """The program with one listener and one route."""

    def __init__(self, stack: ExitStack, folder: Path, target: str, document: dict[str, Any]) -> None:
        self.port = free_port()
        route = {"hostname": "a.test", "backend": target}
        listeners = [{"addr": f"127.0.0.1:{self.port}", "routes": [route]}]
        self.server = stack.enter_context(Server(folder, {"listeners": listeners, **document}))

    def client(self, sends: bytes = HELLO) -> socket.socket:
        client = connect(self.port)
        client.sendall(sends)
        return client

    def told_to_stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it the signal and wait until it accepts no more clients."""
        self.server.signal(number)
        self.server.line("no longer listening")
        until(self._refuses, "no one to listen")  # the last of several workers may not have stopped yet

    def _refuses(self) -> bool:
        try:
            connect(self.port).close()
        except ConnectionError:
            return True
        return False

    def is_served(self) -> bool:
        with self.client() as client:
            return b"here" in read_all(client)

    def connections(self, count: int) -> list[dict[str, str]]:
        return [parse_line(line) for line in self.server.connections(count)]


Run = Callable[..., Running]


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def run(nothing_left: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Run]:
    def started(target: str, proxy: dict[str, Any] | None = None, **document: Any) -> Running:
        return Running(stack, tmp_path, target, {"proxy": {"workers": request.param, **(proxy or {})}, **document})

    with ExitStack() as stack:
        yield started


class Answer:
    """A backend whose answer is half sent until it is let go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes(1 << 20))
        assert self.go_on.wait(DEADLINE)
        connection.sendall(bytes(1 << 20))


@BOTH
def test_a_live_transfer_finishes_and_nobody_new_is_accepted(
    number: signal.Signals, run: Run, backend: MakeBackend
) -> None:
    answer = Answer()
    running = run(backend(answer).address)
    with running.client() as client:
        assert len(receive(client, 1 << 20)) == 1 << 20
        running.told_to_stop(number)
        assert f"info app: {number.name}: draining for up to 30 s" in running.server.line("draining")
        answer.go_on.set()
        assert len(read_all(client)) == 1 << 20
    assert running.server.wait() == 0
    (line,) = running.connections(1)
    assert (line["end"], line["sent"]) == ("closed", str(2 << 20))
    assert running.server.out[-1].endswith(" info app: stopped\n")


@BOTH
def test_who_hangs_is_cut_when_the_time_is_over(number: signal.Signals, run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address, proxy={"shutdown_timeout": "300ms"})
    with running.client() as relayed, running.client(b"") as silent:
        assert len(receive(relayed, len(HELLO))) == len(HELLO)
        running.told_to_stop(number)
        assert is_reset(relayed)
        assert is_reset(silent)
        assert running.server.wait() == 1
    found = {(line["reason"], line["verdict"], line["end"]) for line in running.connections(2)}
    assert found == {("ok", "routed", "shutdown"), ("shutdown", "refused", "shutdown")}
    assert running.server.err == []


def test_no_time_at_all_is_allowed(run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address, proxy={"shutdown_timeout": 0})
    with running.client() as client:
        assert len(receive(client, len(HELLO))) == len(HELLO)
        running.server.signal(signal.SIGTERM)
        assert is_reset(client)
    assert running.server.wait() == 1


def test_who_is_refused_meanwhile_does_not_count_as_cut(run: Run, backend: MakeBackend) -> None:
    running = run(backend(echo).address, proxy={"handshake_timeout": "300ms"})
    with running.client(HELLO[:50]) as client:
        running.server.signal(signal.SIGTERM)
        assert is_reset(client)
    assert running.server.wait() == 0
    assert running.connections(1)[0]["reason"] == "handshake_timeout"


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@BOTH
def test_a_second_signal_ends_it_at_once(
    number: signal.Signals, first: signal.Signals, run: Run, backend: MakeBackend
) -> None:
    running = run(backend(echo).address, proxy={"shutdown_timeout": "10m"})
    with running.client() as client:
        assert len(receive(client, len(HELLO))) == len(HELLO)
        running.told_to_stop(first)
        running.server.signal(number)
        assert running.server.wait() == 1
        assert client.recv(1) == b"" or is_reset(client)
    assert "exiting at once; connections cut without a line: " in running.server.line(number.name, "again")
    assert running.server.err == []


def test_sighup_opens_the_country_database_anew(run: Run, backend: MakeBackend, tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": located("XX")})
    answer = Answer()
    here = says("here")
    first = threading.Event()

    def serve(connection: socket.socket) -> None:
        if first.is_set():
            here(connection)
        else:
            first.set()
            answer(connection)

    firewall = {"geoip_db": str(path), "blocked_countries": ["XX"]}
    running = run(backend(serve).address, firewall=firewall)
    with running.client() as client:
        assert len(receive(client, 1 << 20)) == 1 << 20
        path.write_bytes(b"broken")
        running.server.signal(signal.SIGHUP)
        running.server.line("error reload: firewall.geoip_db:", "the open database stays in use")
        assert running.is_served()
        write_database(path, {"127.0.0.0/8": located("XX")})
        running.server.signal(signal.SIGHUP)
        running.server.line("info reload: reloaded", "GeoIP database of")
        with pytest.raises(ConnectionResetError):
            running.is_served()
        answer.go_on.set()
        assert len(read_all(client)) == 1 << 20, "who is open stays open"
    reasons = [line["reason"] for line in running.connections(3)]
    assert reasons == ["ok", "blocked_country", "ok"]
    running.server.signal(signal.SIGTERM)
    assert running.server.wait() == 0


def test_sighup_reloads_under_nohup_too(nothing_left: None, tmp_path: Path) -> None:
    """There it is ignored from the start; a terminal that goes away must end nothing, which a reload doesn't."""
    path = write_config(tmp_path, {"listeners": [{"addr": f"127.0.0.1:{free_port()}"}]})
    command = ["nohup", sys.executable, "-m", "mcproxy", "server", "-c", str(path)]
    with Program(*command, env=environment()) as program:
        program.line("started, generation")
        program.signal(signal.SIGHUP)
        program.line("info reload: reloaded")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0


def test_sigpipe_is_ignored(run: Run, backend: MakeBackend) -> None:
    running = run(backend(says("here")).address)
    ignored = re.search(r"SigIgn:\s*([0-9a-f]+)", Path(f"/proc/{running.server.process.pid}/status").read_text())
    assert ignored
    assert int(ignored[1], 16) >> (signal.SIGPIPE - 1) & 1
    running.server.signal(signal.SIGPIPE)
    assert running.is_served()
    running.server.signal(signal.SIGTERM)
    assert running.server.wait() == 0


class Load:
    """Clients, one after the other in each of some threads, until nobody listens."""

    def __init__(self, port: int, threads: int) -> None:
        self._port = port
        self.served = self.reset = self.wrong = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while (found := self._one()) is not None:
            with self._lock:
                setattr(self, found, getattr(self, found) + 1)

    def _one(self) -> str | None:
        try:
            client = connect(self._port)
        except ConnectionRefusedError:
            return None
        except ConnectionResetError:
            return "reset"
        with client:
            try:
                client.sendall(HELLO)
                data = read_all(client)
            except ConnectionError:
                return "reset"
        return "served" if data.endswith(b"\r\n\r\nhere\n") else "wrong"

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


def test_under_load_nobody_who_was_accepted_is_lost(run: Run, backend: MakeBackend) -> None:
    running = run(backend(says("here")).address)
    load = Load(running.port, threads=8)
    until(lambda: load.served >= 300, "some load")
    running.server.signal(signal.SIGTERM)
    load.join()
    assert running.server.wait() == 0
    lines = running.connections(load.served)
    assert {(line["reason"], line["end"]) for line in lines} == {("ok", "closed")}
    assert (len(lines), load.wrong) == (load.served, 0)
    # Whom the kernel connects between the last accept() and the close() it resets itself: one for each thread at most.
    assert load.reset <= 8
