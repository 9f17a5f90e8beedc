"""Loads for raw streams, what they cost a proxy in CPU time and memory, and the backend behind it.

CPU time is what the kernel says the proxy's processes used, in nanoseconds. Load and backend are two processes on one
core, the next after the proxy's; the clients have 40 addresses. Where there is no next core, load and backend share the
last: then they compete for it, and the rates mean nothing, only the CPU time.
"""

import itertools
import multiprocessing
import os
import resource
import select
import socket
import struct
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.bench.figures import Done, Figure, figure
from tests.kit.peers import another, client_hello

CONNECTIONS_AT_ONCE = 64
TALKERS = 50
IDLE = 3000  # connections; a router in Go has six descriptors for each, and 20,000 are usual
QUIET = 2.0  # seconds of silence before memory is looked at: some give it back after a while
SETTLING = 0.3  # seconds without a change, after which memory is taken to have settled
STIRRING = 1 << 16  # bytes that are no change: 22 for each idle connection
RESTING = 0.2  # seconds in which a proxy uses less than a twentieth, after which it has started
PATIENCE = 60.0  # seconds for anything that a proxy has to do
HELLO = client_hello("a.test")
ANSWER = bytes(64)
SOURCES = itertools.cycle([f"127.0.0.{number}" for number in range(1, 41)])


class Site(NamedTuple):
    """A proxy that runs, and how long to load it."""

    pid: int
    port: int
    seconds: float

    def used(self) -> float:
        """Seconds of CPU that it has used."""
        return cpu(self.pid)


Measure = Callable[[Site], Figure]


def serve(sock: socket.socket) -> None:
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


@contextmanager
def process(run: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a backend, a process that runs a function with the listening socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        child = multiprocessing.get_context("fork").Process(target=run, args=(listening,), daemon=True)
        child.start()
        try:
            yield listening.getsockname()[1]
        finally:
            child.kill()
            child.join()


def connected(port: int) -> socket.socket:
    """A client, from the next of the addresses. What it waits for too long raises BlockingIOError."""
    client = socket.create_connection(("127.0.0.1", port), source_address=(next(SOURCES), 0))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
    return client


def dial(port: int, first: bytes = HELLO) -> socket.socket:
    """A client that has said hello."""
    client = connected(port)
    client.sendall(another(first))
    return client


def connections(site: Site, hellos: Sequence[bytes] = (HELLO,)) -> Done:
    """Connect, hello, answer, close; so many at once."""
    poll, latencies, turns = select.epoll(), list[float](), itertools.cycle(hellos)
    clients: dict[int, tuple[socket.socket, float]] = {}

    def begin() -> None:
        began = time.perf_counter()
        client = dial(site.port, next(turns))
        clients[client.fileno()] = client, began
        poll.register(client, select.EPOLLIN)

    before, start = site.used(), time.perf_counter()
    for _ in range(CONNECTIONS_AT_ONCE):
        begin()
    while time.perf_counter() < start + site.seconds:
        for fd, _ in poll.poll(1):
            client, began = clients.pop(fd)
            assert client.recv(256) == ANSWER
            latencies.append(time.perf_counter() - began)
            poll.unregister(client)
            client.close()
            begin()
    done = Done(len(latencies), time.perf_counter() - start, site.used() - before, latencies)
    for client, _ in clients.values():
        client.close()
    return done


def warm(port: int) -> None:
    """Wait until clients reach the backend: some proxies listen before they have read where to."""
    end = time.monotonic() + PATIENCE
    while True:
        with dial(port) as client, suppress(OSError):
            if client.recv(256) == ANSWER:
                return
        if time.monotonic() > end:
            raise OSError("it listens and doesn't serve")
        time.sleep(0.05)


def calm(pid: int) -> None:
    """Wait until a proxy that has started rests."""
    end = time.monotonic() + PATIENCE
    while True:
        before = cpu(pid)
        time.sleep(RESTING)
        if cpu(pid) - before < RESTING / 20 or time.monotonic() > end:
            return


def messages(site: Site) -> Done:
    """64 bytes there and back, on open connections."""
    clients = greeted(site.port, TALKERS)
    time.sleep(SETTLING)  # what is done once for a connection, later
    done = talk(site, clients)
    for client in clients:
        client.close()
    return done


def greeted(port: int, count: int) -> list[socket.socket]:
    """So many clients that are connected to the backend."""
    clients: list[socket.socket] = []
    while len(clients) < count:
        some = [dial(port) for _ in range(min(CONNECTIONS_AT_ONCE, count - len(clients)))]
        for client in some:
            assert client.recv(256) == ANSWER
        clients += some
    return clients


def talk(site: Site, clients: list[socket.socket]) -> Done:
    """So many messages under way at once; the client that has been silent for longest has the next one."""
    poll, latencies, sent = select.epoll(), list[float](), dict[int, float]()
    by_fd, silent = {client.fileno(): client for client in clients}, deque(clients)
    for client in clients:
        poll.register(client, select.EPOLLIN)

    def send() -> None:
        client = silent.popleft()
        sent[client.fileno()] = time.perf_counter()
        client.send(ANSWER)

    def receive(fd: int) -> None:
        by_fd[fd].recv(256)
        latencies.append(time.perf_counter() - sent.pop(fd))
        silent.append(by_fd[fd])

    before, start = site.used(), time.perf_counter()
    for _ in range(TALKERS):
        send()
    while time.perf_counter() < start + site.seconds:
        for fd, _ in poll.poll(1):
            receive(fd)
            send()
    for fd in list(sent):  # what is under way: the next load is not to meet it
        receive(fd)
    return Done(len(latencies), time.perf_counter() - start, site.used() - before, latencies)


def gigabytes(site: Site) -> Done:
    """As fast as it comes, on one connection."""
    client, got, room = dial(site.port, HELLO + b"B"), 0, bytearray(1 << 20)
    before, start = site.used(), time.perf_counter()
    while time.perf_counter() < start + site.seconds:
        got += client.recv_into(room)
    done = Done(got / 1e9, time.perf_counter() - start, site.used() - before)
    client.close()
    return done


def tree(pid: int) -> list[int]:
    """A process and all below it that live."""
    below = " ".join(each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [pid, *(found for each in below for found in tree(int(each)))]


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, and all below it, as clock_getcpuclockid(3) has them."""
    return sum(time.clock_gettime((~each << 3) | 2) for each in tree(pid))


def settled(pid: int) -> int:
    """The resident bytes of a process, and all below it, once they have stopped changing.

    That a client has its answer is not enough: what passes the other way is begun later, for a third of them.
    """
    seen = [resident(pid)]
    while len(seen) < PATIENCE / SETTLING:
        time.sleep(SETTLING)
        seen.append(resident(pid))
        if abs(seen[-1] - seen[-2]) < STIRRING:
            break
    return seen[-1]


def resident(pid: int) -> int:
    """The resident bytes of a process, and all below it."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree(pid))
    return pages * resource.getpagesize()


def descriptors(pid: int) -> int:
    """How many a process has open, and all below it."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in tree(pid))


def idle_kilobytes(pid: int, port: int) -> float:
    """Memory for each open connection that is silent."""
    before = settled(pid)
    clients = greeted(port, IDLE)
    time.sleep(QUIET)
    after = settled(pid)
    hang_up(pid, clients)
    return (after - before) / 1024 / IDLE


def hang_up(pid: int, clients: list[socket.socket]) -> None:
    """Close them, and wait until the proxy has: the next load is not to be measured together with their ends.

    That is when its descriptors have stopped getting fewer: some keep a few for the next connections.
    """
    before = descriptors(pid)
    for client in clients:
        client.close()
    seen = [before, descriptors(pid)]
    while seen[-1] < seen[-2] or seen[-1] == before:
        time.sleep(SETTLING)
        seen.append(descriptors(pid))
        if len(seen) > PATIENCE / SETTLING:
            return


WORKS: dict[str, Measure] = {
    "idle": lambda site: Figure(idle_kilobytes(site.pid, site.port)),  # first: memory that has been used is reused
    "connection": lambda site: figure(1e6, connections(site)),
    "message": lambda site: figure(1e6, messages(site)),
    "bulk": lambda site: figure(1, gigabytes(site)),
}


@contextmanager
def running(command: list[str], port: int, cores: int = 1, folder: Path | None = None) -> Iterator[int]:
    """A proxy on so many cores from core 0, until the block ends, in that folder.

    Raises OSError, with what it printed, where it doesn't start.
    """
    last = min(cores, os.cpu_count() or 1) - 1
    with tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            ["taskset", "-c", f"0-{last}", *command], stdout=subprocess.DEVNULL, stderr=err, cwd=folder
        )
        try:
            if not listens(child, port):
                err.seek(0)
                raise OSError(f"{Path(command[0]).name} doesn't start: {err.read()[-1000:]}")
            yield child.pid
        finally:
            child.kill()
            child.wait()


def listens(child: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until it does; false where it ends before, or takes too long."""
    end = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return True
    return False


def load_core(workers: int) -> int:
    """The core of load and backend: the next after the proxy's, or the last if all are the proxy's."""
    return min(workers, (os.cpu_count() or 1) - 1)
