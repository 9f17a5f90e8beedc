"""etc/supervisor/conf.d/mcproxy.conf under a real supervisord.

It starts the proxy, starts it again after a kill -9, hands SIGHUP through, which may be an upgrade, and stops it with a
drain that ends before stopwaitsecs does. The file is used as it is, but for what this machine lacks: the user mcproxy
and /srv/mcproxy.
"""

import configparser
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcproxy import config
from tests.conftest import MakeBackend
from tests.kit.peers import DEADLINE, Backend, free_port, until
from tests.kit.program import ROOT, environment, write_config
from tests.kit.restarts import Clients
from tests.kit.upgrades import stays, talks

FILE = ROOT / "etc" / "supervisor" / "conf.d" / "mcproxy.conf"
HELLO_WAIT = "5s"

MAIN = """
[unix_http_server]
file={folder}/supervisor.sock
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/supervisor.sock
[include]
files = {folder}/conf.d/*.conf
"""


class Supervised:
    """A supervisord with the proxy as its program."""

    def __init__(self, folder: Path, port: int, backend: str) -> None:
        routes = [{"hostname": "a.test", "backend": backend}]
        self._folder = folder
        self._document = {"listeners": [{"addr": f"127.0.0.1:{port}", "routes": routes}]}
        self.configure(1)
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / FILE.name).write_text(_adapted(FILE.read_text(), folder))
        self._main = folder / "supervisord.conf"
        self._main.write_text(MAIN.format(folder=folder))
        (folder / "mcproxy").mkdir(0o750)
        self._log = folder / "mcproxy" / "mcproxy.log"
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self._main)]
        self.process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL, cwd=folder)

    def configure(self, workers: int) -> None:
        """Write the configuration file."""
        proxy = {"shutdown_timeout": "10s", "handshake_timeout": HELLO_WAIT, "workers": workers}
        write_config(self._folder, {**self._document, "proxy": proxy})

    def control(self, *arguments: str) -> str:
        """What supervisorctl says."""
        return self.begin(*arguments).communicate(timeout=DEADLINE)[0]

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """A supervisorctl at work."""
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self._main), *arguments]
        return subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True)

    def pid(self) -> int:
        """The proxy's, once it runs; 0: it doesn't."""
        status = self.control("status", "mcproxy")
        found = re.search(r"RUNNING +pid (\d+)", status)
        return int(found[1]) if found else 0

    def started(self) -> int:
        """Wait until the proxy runs and listens; its process id.

        supervisord calls it RUNNING when it has not ended in `startsecs`, whether it listens by then or not.
        """
        until(lambda: bool(self.pid()), "supervisord to call it RUNNING")
        until(lambda: "started, generation" in self.log(), "the proxy to listen")
        return self.pid()

    def log(self) -> str:
        """What the proxy has written."""
        return self._log.read_text() if self._log.exists() else ""

    def close(self) -> None:
        """End supervisord, which ends its program."""
        self.process.terminate()
        self.process.wait(DEADLINE)


def _environment() -> dict[str, str]:
    # supervisor finds its own pkg_resources; its warnings about it are not ours.
    return environment(PYTHONWARNINGS="ignore")


def _adapted(text: str, folder: Path) -> str:
    """The file for this machine: this interpreter, this folder, this user."""
    command = f"{sys.executable} -m mcproxy"
    text = text.replace("/srv/mcproxy/venv/bin/mcproxy", command)
    text = text.replace("/srv/mcproxy", str(folder)).replace("/var/log", str(folder))
    if os.geteuid() == 0:
        return text.replace("id=mcproxy", "id=root")
    return re.sub(r"command=setpriv .*? (?=/)", "command=", text)  # only root may become somebody else


@pytest.fixture
def supervised(tmp_path: Path, backend: MakeBackend) -> Iterator[tuple[Supervised, int, Backend]]:
    """supervisord, the proxy's port, and the backend of a.test, which sends back what it gets."""
    target = backend(_echo)
    port = free_port()
    made = Supervised(tmp_path, port, target.address)
    yield made, port, target
    made.close()


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def test_it_survives_kill_and_hands_signals_through(supervised: tuple[Supervised, int, Backend]) -> None:
    supervisor, port, _ = supervised
    first = supervisor.started()
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pid() not in (0, first), "another process after kill -9")
    until(lambda: supervisor.log().count("started, generation") == 2, "the other one to listen")
    socket.create_connection(("127.0.0.1", port), DEADLINE).close()
    assert "mcproxy: signalled" in supervisor.control("signal", "HUP", "mcproxy")
    until(lambda: "reloaded" in supervisor.log(), "the proxy to reload")
    assert supervisor.pid(), "SIGHUP ends nothing"


def test_it_follows_an_upgrade_and_nobody_notices(supervised: tuple[Supervised, int, Backend]) -> None:
    """Where a key has changed that needs a new process; an upgraded program is the same (tests/e2e/test_systemd.py)."""
    supervisor, port, _ = supervised
    pid = supervisor.started()
    clients = Clients(port)
    try:
        with stays(port) as client:
            supervisor.configure(2)
            supervisor.control("signal", "HUP", "mcproxy")
            until(lambda: "has taken over from process" in supervisor.log(), "the new one")
            clients.wait_for(clients.done + 50)
            talks(client)
            assert supervisor.pid() == pid
        until(lambda: supervisor.log().rstrip().count(" app: stopped") == 1, "the old one to end")
    finally:
        clients.stop()
    assert clients.failures == []
    supervisor.control("stop", "mcproxy")
    assert supervisor.log().rstrip().endswith("stopped")
    assert "RUNNING" not in supervisor.control("status", "mcproxy")


def test_it_stops_with_a_drain(supervised: tuple[Supervised, int, Backend]) -> None:
    supervisor, port, _ = supervised
    supervisor.started()
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
        until(lambda: "listening on" in supervisor.log(), "the log")
        stopping = supervisor.begin("stop", "mcproxy")
        until(lambda: "draining for up to" in supervisor.log(), "the drain")
        assert stopping.poll() is None, "a connection is open, so it waits"
        client.shutdown(socket.SHUT_WR)
        said, _ = stopping.communicate(timeout=DEADLINE)
    assert "mcproxy: stopped" in said
    assert supervisor.log().rstrip().endswith("stopped")
    assert "STOPPED" in supervisor.control("status", "mcproxy")


def test_stopwaitsecs_leaves_time_for_the_longest_drain() -> None:
    found = configparser.RawConfigParser()
    found.read(FILE)
    wait = found.getint("program:mcproxy", "stopwaitsecs")
    assert wait > config.ProxySection().shutdown_timeout + 10, "the drain, the cuts and the database"
