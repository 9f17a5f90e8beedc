"""What a connection, a message and a gigabyte cost the proxy, in CPU time; beside HAProxy where it is installed.

    python -m tests.bench.l4 [--seconds 3] [--rounds 2] [--only mcproxy] [--workers 1]

The proxy runs on core 0, load and backend on core 1. CPU time is what /proc says the proxy's processes used, divided by
the work done. Only ratios within one run mean anything: the rounds alternate, so that noise hits all alike.

With --workers the proxy (HAProxy by nbthread) has that many cores, and load and backend the next one; the clients have
40 addresses. Where there is no next core, load and backend share the last: then they compete for it, and the rates mean
nothing, only the CPU time.
"""

import argparse
import itertools
import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.peers import another, client_hello, free_port

CONNECTIONS_AT_ONCE = 64
TALKERS = 50
IDLE = 5000
SETTLING = 0.3  # seconds without a change, after which memory is taken to have settled
HELLO = client_hello("a.test")
ANSWER = bytes(64)
TICKS = os.sysconf("SC_CLK_TCK")
SOURCES = itertools.cycle([f"127.0.0.{number}" for number in range(1, 41)])
Load = Callable[[int, float], float]  # port, seconds -> units of work done


def backend(sock: socket.socket) -> None:
    """Answer the hello, then echo; a hello that ends in "B" is answered with bytes without end."""
    poll, open_sockets = select.epoll(), {sock.fileno(): sock}
    poll.register(sock, select.EPOLLIN)
    bulk = bytes(1 << 20)
    while True:
        for fd, events in poll.poll():
            if fd == sock.fileno():
                accepted, _ = sock.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_sockets[accepted.fileno()] = accepted
                poll.register(accepted, select.EPOLLIN)
                continue
            each = open_sockets[fd]
            try:
                if events & select.EPOLLOUT:
                    each.send(bulk)
                elif data := each.recv(65536):
                    if data.endswith(b"B"):
                        poll.modify(fd, select.EPOLLOUT)
                    each.send(ANSWER)
                    continue
                else:
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                poll.unregister(fd)
                open_sockets.pop(fd).close()


def dial(port: int, first: bytes = HELLO) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), source_address=(next(SOURCES), 0))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(another(first))
    return client


def connections(port: int, seconds: float) -> float:
    """Connect, hello, answer, close; so many at once."""
    poll, clients, done, end = select.epoll(), {}, 0, time.monotonic() + seconds
    for _ in range(CONNECTIONS_AT_ONCE):
        client = dial(port)
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
    while time.monotonic() < end:
        for fd, _ in poll.poll(1):
            client = clients.pop(fd)
            assert client.recv(256) == ANSWER
            poll.unregister(client)
            client.close()
            done += 1
            client = dial(port)
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
    for client in clients.values():
        client.close()
    return done


def messages(port: int, seconds: float) -> float:
    """64 bytes there and back, on open connections."""
    poll, done, end = select.epoll(), 0, time.monotonic() + seconds
    clients = {client.fileno(): client for client in (dial(port) for _ in range(TALKERS))}
    for client in clients.values():
        poll.register(client, select.EPOLLIN)
    while time.monotonic() < end:
        for fd, _ in poll.poll(1):
            clients[fd].recv(256)
            clients[fd].send(ANSWER)
            done += 1
    for client in clients.values():
        client.close()
    return done


def gigabytes(port: int, seconds: float) -> float:
    """As fast as it comes, on one connection."""
    client, got, end = dial(port, HELLO + b"B"), 0, time.monotonic() + seconds
    room = bytearray(1 << 20)
    while time.monotonic() < end:
        got += client.recv_into(room)
    client.close()
    return got / 1e9


def tree(pid: int) -> list[int]:
    """A process and all below it that live."""
    below = " ".join(each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [pid, *(found for each in below for found in tree(int(each)))]


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, and all below it."""
    stats = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in tree(pid)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICKS


def settled(pid: int) -> int:
    """The resident bytes of a process, and all below it, once they have stopped changing.

    That a client has its answer is not enough: what passes the other way is begun later, for a third of them.
    """
    seen = [0, 1]
    while seen[-1] != seen[-2]:
        time.sleep(SETTLING)
        pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree(pid))
        seen.append(pages * resource.getpagesize())
    return seen[-1]


def descriptors(pid: int) -> int:
    """How many a process has open, and all below it."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in tree(pid))


def idle_kilobytes(pid: int, port: int) -> float:
    """Memory for each open connection that is silent."""
    before, open_files = settled(pid), descriptors(pid)
    clients = [dial(port) for _ in range(IDLE)]
    for client in clients:
        client.recv(256)
    after = settled(pid)
    for client in clients:
        client.close()
    while descriptors(pid) > open_files:  # or the next load would be measured together with their ends
        time.sleep(SETTLING)
    return (after - before) / 1024 / IDLE


@contextmanager
def running(command: list[str], port: int, cores: int = 1) -> Iterator[int]:
    """A proxy on so many cores from core 0, until the block ends."""
    with subprocess.Popen(["taskset", "-c", f"0-{cores - 1}", *command], stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.1)
            yield process.pid
        finally:
            process.kill()


def commands(folder: Path, target: int, workers: int) -> dict[str, tuple[list[str], int]]:
    """Each proxy's command and port."""
    port = free_port()
    (folder / "mcproxy.toml").write_text(
        f'database.path = "mcproxy.db"\nproxy.workers = {workers}\n[[listeners]]\naddr = "127.0.0.1:{port}"\n'
        f'routes = [{{ hostname = "a.test", backend = "127.0.0.1:{target}" }}]\n'
    )
    found = {"mcproxy": ([sys.executable, "-m", "mcproxy", "server", "-c", f"{folder}/mcproxy.toml"], port)}
    if haproxy := shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin"):
        port = free_port()
        (folder / "haproxy.cfg").write_text(
            f"global\n nbthread {workers}\n maxconn 6000\n"
            "defaults\n mode tcp\n timeout client 1m\n timeout server 1m\n timeout connect 5s\n"
            f"frontend f\n bind 127.0.0.1:{port}\n tcp-request inspect-delay 5s\n"
            " tcp-request content accept if { req.ssl_hello_type 1 }\n use_backend b if { req.ssl_sni -i a.test }\n"
            f"backend b\n option splice-auto\n server s 127.0.0.1:{target}\n"
        )
        found["haproxy"] = ([haproxy, "-f", f"{folder}/haproxy.cfg"], port)
    return found


def load_core(workers: int) -> int:
    """The core of load and backend: the next after the proxy's, or the last if all are the proxy's."""
    return min(workers, (os.cpu_count() or 1) - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {load_core(options.workers)})
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    threading.Thread(target=backend, args=(listening,), daemon=True).start()
    loads: dict[str, tuple[Load, float, str]] = {
        "connection": (connections, 1e6, "us"),
        "message": (messages, 1e6, "us"),
        "bulk": (gigabytes, 1, "s/GB"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, (command, port) in commands(Path(folder), listening.getsockname()[1], options.workers).items():
                if name not in (options.only or [name]):
                    continue
                with running(command, port, options.workers) as pid:
                    line = [f"{name:8}", f"idle {idle_kilobytes(pid, port):5.1f} KB"]
                    for what, (load, scale, unit) in loads.items():
                        before = cpu(pid)
                        done = load(port, options.seconds)
                        line.append(f"{what} {(cpu(pid) - before) / done * scale:7.2f} {unit}")
                        if what == "connection":
                            line.append(f"{done / options.seconds:6.0f}/s")
                print("   ".join(line), flush=True)


if __name__ == "__main__":
    main()
