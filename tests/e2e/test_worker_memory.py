"""What a worker adds to the memory of the whole."""

import socket
from pathlib import Path
from typing import Any

from tests.conftest import MakeBackend
from tests.kit.peers import DEADLINE, client_hello, free_port, read_all, says
from tests.kit.program import Server

MOST = 20.0  # MB for each worker more
FEW, MANY = 2, 5
SOURCES = [f"127.0.{n}.1" for n in range(1, 41)]  # enough that each worker serves some of them


def processes(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in processes(int(child)))]


def proportional_size(pid: int) -> float:
    """MB of a process's memory, in which what several share is divided among them (proc_pid_smaps_rollup(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(size) / 1024


def whole(folder: Path, workers: int, backend: str) -> float:
    """MB of a server with so many workers, each of which has served somebody."""
    port = free_port()
    route = {"hostname": "a.test", "backend": backend}
    document: dict[str, Any] = {
        "listeners": [{"addr": f"127.0.0.1:{port}", "routes": [route]}],
        "proxy": {"workers": workers},
    }
    folder.mkdir()
    with Server(folder, document) as server:
        for source in SOURCES:
            with socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=(source, 0)) as client:
                client.sendall(client_hello("a.test"))
                assert b"here" in read_all(client)
        return sum(map(proportional_size, processes(server.process.pid)))


def test_a_worker_more_takes_little_memory(tmp_path: Path, backend: MakeBackend) -> None:
    """One that is executed for itself adds 37 MB before its first connection."""
    target = backend(says("here")).address
    few, many = (whole(tmp_path / str(count), count, target) for count in (FEW, MANY))
    each = (many - few) / (MANY - FEW)
    assert each < MOST
