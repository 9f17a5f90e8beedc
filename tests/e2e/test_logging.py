"""The log while the server runs: its level is changed, a flood is cut short and counted, what lives long has lines."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mcproxy.journal import REFUSALS_AT_ONCE
from mcproxy.net.census import ROUND
from tests.conftest import MakeBackend
from tests.e2e.test_service_manager import document, echoed
from tests.kit.hellos import TINY
from tests.kit.peers import connect, echo, free_port, is_reset, until
from tests.kit.program import Server, environment

FLOOD = REFUSALS_AT_ONCE + 500


def run(folder: Path, *arguments: str) -> str:
    command: list[str | Path] = [sys.executable, "-m", "mcproxy", *arguments, "-c", folder / "mcproxy.toml"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def admin(folder: Path, port: int, backend: str) -> dict[str, Any]:
    return {**document(f"127.0.0.1:{port}", backend), "grpc": {"addr": f"unix:{folder}/admin.sock"}}


def test_the_level_is_changed_while_it_runs(tmp_path: Path, backend: MakeBackend) -> None:
    port = free_port()
    with Server(tmp_path, admin(tmp_path, port, backend(echo).address)) as server:
        echoed(port)
        server.connections(1)
        assert run(tmp_path, "log-level", "warning") == "the log level is warning\n"
        echoed(port)
        run(tmp_path, "log-level", "info")
        echoed(port)
        ids = [re.findall(r" id=(\d+)", line) for line in server.connections(2)]
        assert ids == [["1"], ["3"]]


def test_a_flood_is_cut_short_and_counted(tmp_path: Path, backend: MakeBackend) -> None:
    port = free_port()
    with Server(tmp_path, admin(tmp_path, port, backend(echo).address)) as server:
        for _ in range(FLOOD):
            with connect(port) as client:
                client.sendall(b"x")
                assert is_reset(client)
        echoed(port)  # one that is routed has a line in any case
        server.line("verdict=routed")
        metrics = run(tmp_path, "metrics")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        told = sum("reason=hello_not_tls" in line for line in server.out)
        left_out = sum(int(found) for found in re.findall(r"left out (\d+) lines", "".join(server.out)))
        assert REFUSALS_AT_ONCE <= told < FLOOD
        assert told + left_out == FLOOD
        assert f"mcproxy_log_lines_left_out_total {left_out}.0" in metrics


def test_what_an_open_connection_has_moved_is_counted(tmp_path: Path, backend: MakeBackend) -> None:
    port = free_port()
    with Server(tmp_path, admin(tmp_path, port, backend(echo).address)) as server, connect(port) as client:
        client.sendall(TINY)
        assert client.recv(1000) == TINY
        wanted = f'mcproxy_bytes_total{{direction="sent",listener="127.0.0.1:{port}"}} {len(TINY)}.0'
        until(lambda: wanted in run(tmp_path, "metrics"), f"the census, every {ROUND:g} s")
        assert not any("connection id" in line for line in server.out)
        client.close()
        assert f"sent={len(TINY)} " in server.connections(1)[0]
