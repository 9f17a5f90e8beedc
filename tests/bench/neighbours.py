"""What one client's attack costs another client: the latency of small requests over HTTP/2, quiet and attacked.

    python -m tests.bench.neighbours [--seconds 3] [--rounds 3] [--share 0.25] [--only NAME ...] [--workers 1]

Attacks of three kinds. Those of HTTP/2 must not make a neighbour's median worse by more than a tenth. Those that
stopped the data path once (key updates, connections, files that hang, a route to the proxy itself) must leave its
median within 2 and its 99th percentile within 10 times the quiet value, and an answer of the admin API within a second;
they don't pace themselves. Those on the admin API (the last ones: calls a second that are tried; those that were
answered come last) show what the control plane takes from the data path.

The victim asks for 128 bytes, one request at a time, PAUSE after each answer, in phases that alternate: quiet,
attacked, quiet, attacked ... The attacker is a process of its own that gets core 1 only while nobody else wants it;
victim and nghttpd (the h2c backend; Debian: nghttp2-server) have that core, the proxy has core 0. With several workers
they have core 0, and their parent has core 1 at the lowest priority: in a larger machine it has one of its own. An
attacker that is thrown out comes again. It paces itself so that the main thread of the process that serves the victim
uses `share` of a core, the victim's requests included: what is measured is turns of the hub, not a want of CPU.

Read the first two lines first: "nothing" is the noise, "polite" another's small requests that cost the proxy as much as
an attack here. It often makes the victim faster, for a core that sleeps takes its time to wake. Cells: milliseconds
quiet and attacked, and their ratio; in brackets the medians' ratios in single rounds. The mean tells what a median
hides: a victim that waits asks less often. Shares of core 0: what the proxy used, and how long it waited for the core,
which is others' doing: above 1 % the line is worth little. "admin": the slowest of ten status calls a second. Last, the
attacker's connections by their ends, as GOAWAY's code; "open" lasted, "closed" ended without GOAWAY.
"""

import argparse
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count, repeat
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.policy.homes import home
from mcproxy.policy.networks import pack
from mcproxy.wire import http2
from mcproxy.wire.hpack_block import encode, encode_integer, literal
from mcproxy.wire.http2 import ErrorCode, Frame, Setting
from tests.bench.l4 import cpu, running, tree
from tests.bench.l7_peers import BULK
from tests.kit.http2_peer import Seen, frame
from tests.kit.key_updates import KeyUpdates
from tests.kit.l7_proxy import SocketClient
from tests.kit.peers import Authority, client_hello, free_port, until

PAUSE = 0.002  # seconds between two requests of the victim
LEAD = 0.3  # seconds that an attack lasts before its phase, and that the proxy has to recover after it
PATIENCE = 5.0  # seconds for anything that a peer has to do
CREDIT = 0.005  # seconds of the proxy's CPU that an attacker may save up
MAX_ATTEMPTS = 5_000  # of one attack, in one phase
READ = 65_536  # bytes that the proxy takes in one turn
IDS = range(1, 200, 2)  # of as many streams as nghttpd allows at once
THREADS = 8  # that call the admin API
MANY_ROUTES = 1_000
BLOCK = 81_000  # bytes of an encoded header block, just within mcproxy.l7.http2.budgets.MAX_BLOCK


ROUTE = """
[[listeners.routes]]
hostname = "{name}"
backend = "{backend}"
{rest}"""
L7 = 'mode = "l7"\ntls_cert = "{name}.pem"\ntls_key = "{name}.key"\n'
CONFIGURATION = """database.path = "mcproxy.db"
proxy.workers = {workers}
grpc.addr = "unix:{folder}/admin.sock"
[[listeners]]
addr = "127.0.0.1:{port}"
"""


class Over(Exception): ...


class Client(SocketClient):
    """A raw client. What it waits for raises OSError where the connection ends first; `end` says how."""

    def __init__(self, port: int, authority: Authority, name: str = "a.test") -> None:
        super().__init__(port, authority, name)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ids = count(1, 2)
        self.end = "open"
        self.handshake()
        self.send(http2.window_update(0, 1 << 30))

    def wait(self) -> Seen:
        seen = super().wait()
        if seen is None:
            self.end = "closed" if self.end == "open" else self.end
            raise ConnectionResetError
        if seen.kind == Frame.GOAWAY:
            self.end = ErrorCode(seen.code).name
        return seen

    def get(self) -> float:
        """Seconds from a request to the end of its answer."""
        began = time.perf_counter()
        self.send(ask(next(self.ids), SMALL))
        while not self.wait().ends:
            pass
        return time.perf_counter() - began


def scheduled(pid: int) -> list[float]:
    """Seconds that a process's main thread has run, and has waited for its core; cpu() is too coarse for a pace."""
    return [int(each) / 1e9 for each in Path(f"/proc/{pid}/schedstat").read_text().split()[:2]]


class Target(NamedTuple):
    """A running proxy."""

    folder: Path
    port: int
    authority: Authority  # that signed its certificate
    main: int  # its process
    proxy: int  # the process that serves the victim


class Attacker:
    """Connections of one attacking client, and their pace. What waits raises Over at the monotonic time `end`."""

    def __init__(self, target: Target, share: float, end: float) -> None:
        self.folder, self.port, self.authority, self.main, self.proxy = target
        self.share, self.end = share, end
        self.clients: list[Client] = []
        self.ends: Counter[str] = Counter()
        self.began, self.spent = time.monotonic(), scheduled(self.proxy)[0]

    def wait(self, least: float = 0.0) -> None:
        """Until the proxy has used no more than its share since it all began."""
        time.sleep(min(least, max(0.0, self.end - time.monotonic())))
        while (now := time.monotonic()) < self.end:
            credit = self.share * (now - self.began) - (scheduled(self.proxy)[0] - self.spent)
            if credit >= 0:
                self.began += max(0.0, credit - CREDIT) / self.share
                return
            time.sleep(min(-credit / self.share, 0.05))
        raise Over

    def go_on(self) -> None:
        """The same, at any pace."""
        if time.monotonic() >= self.end:
            raise Over

    def connect(self) -> Client:
        self.wait()
        self.clients.append(Client(self.port, self.authority))
        return self.clients[-1]

    def run(self, attack: "Attack", tell: Callable[[Counter[str]], object]) -> None:
        """Again and again, at the lowest priority that there is; `tell` hears how the connections ended."""
        os.nice(19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with suppress(Over):
            for _ in range(MAX_ATTEMPTS):
                try:
                    attack(self)
                except OSError:  # thrown out
                    self.ends["not let in"] += not self.clients
                finally:
                    while self.clients:
                        self.ends[self.clients[-1].end] += 1
                        self.clients.pop().close()
        tell(self.ends)


Attack = Callable[[Attacker], None]


def flood(bursts: Callable[[Iterator[int]], Iterable[bytes]], pause: float = 0.0) -> Attack:
    """One connection; `bursts` is given the stream identifiers to use."""

    def attack(attacker: Attacker) -> None:
        client = attacker.connect()
        for burst in bursts(client.ids):
            attacker.wait(pause)
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # all of it arrives in one flight
            client.send(burst + http2.ping(b"and then"))
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
            while client.wait().payload != b"and then":
                pass  # the proxy is still at it

    return attack


def full(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Bursts as large as a read."""
    burst = b""
    for each in frames:
        burst += each
        if len(burst) > READ - 128:
            yield burst
            burst = b""


def fields(path: str, method: bytes = b"GET") -> bytes:
    return encode([(b":method", method), (b":scheme", b"https"), (b":path", path.encode()), (b":authority", b"a.test")])


def ask(stream_id: int, block: bytes) -> bytes:
    return http2.headers(stream_id, block, end_stream=True)


HELLO = client_hello("a.test")
SMALL, BIG, POST = fields("/small"), fields("/big"), fields("/small", b"POST")
ASKED = b"".join(ask(i, BIG) for i in IDS)
POSTS, CRUMBS = b"".join(http2.headers(i, POST) for i in IDS), b"".join(http2.data(i, b"x") for i in IDS)
BEGUN = frame(Frame.HEADERS, 1, 1, SMALL)  # and not ended
NO_WINDOW = http2.settings([(Setting.INITIAL_WINDOW_SIZE, 0)])
MANY_SETTINGS = 4 * http2.settings([(Setting.INITIAL_WINDOW_SIZE, i & 1) for i in range(http2.MAX_FRAME_SIZE // 6)])
MANY_FIELDS = SMALL + b"\x90" * BLOCK  # accept-encoding: gzip, deflate
HUFFMAN = SMALL + literal(b"x", b"")[:-1] + encode_integer(BLOCK, 0x7F, 0x80) + bytes(BLOCK)
BOMB = SMALL + b"\x40\x01x" + encode_integer(3_900, 0x7F, 0) + bytes(3_900) + b"\xbe" * (BLOCK - 3_900)


def fresh(stream_id: int) -> bytes:
    """A request that no cache knows."""
    return ask(stream_id, fields(f"/small?{time.monotonic_ns()}"))


def unread(attacker: Attacker) -> None:  # much is asked for, with open windows
    for _ in range(8):
        attacker.connect().send(http2.settings([(Setting.INITIAL_WINDOW_SIZE, 1 << 30)]) + ASKED)
    attacker.wait(0.2)


def unfinished(attacker: Attacker) -> None:
    """Header blocks that are begun and never completed."""
    for _ in IDS:
        attacker.connect().send(BEGUN)
    attacker.wait(PATIENCE)


def key_updates(attacker: Attacker) -> None:
    """Two clients that make the proxy change keys, again and again."""
    with KeyUpdates(attacker.port, "a.test") as one, KeyUpdates(attacker.port, "a.test") as other:
        while one.send() | other.send():
            attacker.go_on()
        attacker.ends["cut"] += 2


def connections(attacker: Attacker) -> None:
    """Connect, say hello, close."""
    while True:
        attacker.go_on()
        with suppress(OSError), socket.create_connection(("127.0.0.1", attacker.port), PATIENCE) as client:
            client.sendall(HELLO)


def hanging_file(attacker: Attacker) -> None:
    """A pipe in the place of a certificate: opening it waits for a writer. Clients ask for it, and so does a reload."""
    certificate = attacker.folder / "pipe.test.pem"
    kept = certificate.read_bytes()
    certificate.unlink()
    os.mkfifo(certificate)
    try:
        while True:
            os.kill(attacker.main, signal.SIGHUP)
            with suppress(OSError):
                Client(attacker.port, attacker.authority, "pipe.test").close()
            attacker.go_on()
            time.sleep(0.05)
    finally:
        certificate.unlink()
        certificate.write_bytes(kept)


def calls(rate: int, call: Callable[[Any, int], object]) -> Attack:
    """So many calls of the admin API a second, or as many as it answers, from THREADS."""

    def attack(attacker: Attacker) -> None:
        with grpc.insecure_channel(f"unix:{attacker.folder}/admin.sock") as channel:
            stub = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
            began, numbers, answered = time.monotonic(), count(), Counter[str]()

            def work() -> None:
                for number in numbers:
                    pause = began + number / rate - time.monotonic()
                    time.sleep(max(0.0, min(pause, attacker.end - time.monotonic())))
                    if time.monotonic() >= attacker.end:
                        return
                    call(stub, number)
                    answered["calls answered"] += 1

            threads = [threading.Thread(target=work) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            attacker.ends.update(answered)
        attacker.go_on()

    return attack


def read_status(stub: Any, _number: int) -> None:
    stub.GetStatus(pb.GetStatusRequest(), timeout=PATIENCE)


def list_routes(stub: Any, _number: int) -> None:
    stub.ListRoutes(pb.ListRoutesRequest(page_size=MANY_ROUTES), timeout=PATIENCE)


def change(stub: Any, number: int) -> None:
    backend = f"127.0.0.1:{1 + number % 60_000}"
    route = pb.Route(hostname=f"h{number % MANY_ROUTES}.test", backend=backend)  # threads change different ones
    stub.UpdateRoute(pb.UpdateRouteRequest(route=route, update_mask=FieldMask(paths=["backend"])), timeout=PATIENCE)


def own_listener(attacker: Attacker) -> None:
    """A name whose route leads back to the proxy."""
    with socket.create_connection(("127.0.0.1", attacker.port), PATIENCE) as client:
        client.sendall(client_hello("loop.test"))
        client.settimeout(PATIENCE)
        with suppress(OSError):
            while client.recv(READ):
                attacker.go_on()
    attacker.ends["refused"] += 1
    attacker.go_on()


ATTACKS: dict[str, Attack] = {
    "nothing": lambda attacker: attacker.wait(PATIENCE),
    "polite": flood(lambda ids: (ask(i, SMALL) for i in ids)),
    "rapid reset": flood(lambda ids: full(fresh(i) + http2.rst_stream(i, ErrorCode.CANCEL) for i in ids)),
    "made you reset": flood(lambda ids: full(fresh(i) + http2.window_update(i, 0) for i in ids)),
    "streams": flood(lambda ids: full(chain([NO_WINDOW], (ask(i, BIG) for i in ids)))),
    "ping": flood(lambda _: full(repeat(http2.ping(bytes(8))))),
    "window update": flood(lambda _: full(repeat(http2.window_update(0, 1)))),
    "settings": flood(lambda _: full(repeat(NO_WINDOW))),
    "many settings": flood(lambda _: chain([NO_WINDOW + ASKED], repeat(MANY_SETTINGS))),
    "empty data": flood(lambda ids: full(chain([http2.headers(next(ids), POST)], repeat(http2.data(1, b""))))),
    "crumbs of data": flood(lambda ids: full(chain([http2.headers(next(ids), POST)], repeat(http2.data(1, b"x"))))),
    "slow bodies": flood(lambda _: chain([POSTS], repeat(CRUMBS)), pause=0.05),
    "empty continuation": flood(lambda _: full(chain([BEGUN], repeat(frame(Frame.CONTINUATION, 0, 1))))),
    "continuation": flood(lambda _: full(chain([BEGUN], repeat(frame(Frame.CONTINUATION, 0, 1, bytes(1_000)))))),
    "unfinished": unfinished,
    "many fields": flood(lambda ids: (ask(i, MANY_FIELDS) for i in ids)),
    "huffman": flood(lambda ids: (ask(i, HUFFMAN) for i in ids)),
    "hpack bomb": flood(lambda ids: (ask(i, BOMB) for i in ids)),
    "unread": unread,
    "reconnect": flood(lambda _: [http2.data(0, b"")]),
    "key updates": key_updates,
    "connections": connections,
    "hanging file": hanging_file,
    "own listener": own_listener,
    "2,000 status": calls(2_000, read_status),
    "50 lists": calls(50, list_routes),
    "400 changes": calls(400, change),
}
FIGURES: dict[str, Callable[[list[float]], float]] = {
    "median": median,
    "mean": fmean,
    "99 %": lambda all_: sorted(all_)[len(all_) * 99 // 100],
    "worst": max,
}
# The victim's latencies; what the proxy used of its core, and waited for it; the slowest answer of the admin API.
Phase = tuple[list[float], list[float], float]


@contextmanager
def server(folder: Path, workers: int) -> Iterator[Target]:
    """Run the proxy and its backend."""
    port, target, authority = free_port(), free_port(), Authority(folder)
    (folder / "small").write_bytes(bytes(128))
    (folder / "big").write_bytes(bytes(BULK))
    routes = ""
    for name in ("a.test", "pipe.test"):
        authority.pair(name)
        routes += ROUTE.format(name=name, backend=f"127.0.0.1:{target}", rest=L7.format(name=name))
    routes += ROUTE.format(name="loop.test", backend=f"localhost:{port}", rest="")  # an address would be refused
    routes += "".join(ROUTE.format(name=f"h{n}.test", backend="127.0.0.1:1", rest="") for n in range(MANY_ROUTES))
    (folder / "mcproxy.toml").write_text(CONFIGURATION.format(port=port, folder=folder, workers=workers) + routes)
    proxied = [sys.executable, "-m", "mcproxy", "server", "-c", f"{folder}/mcproxy.toml"]
    command = ["taskset", "-c", "1", "nghttpd", "--no-tls", "--address=127.0.0.1", f"--htdocs={folder}", str(target)]
    with running(command, target), running(proxied, port) as main:
        yield Target(folder, port, authority, main, main if workers == 1 else apart(main, workers))


def apart(parent: int, workers: int) -> int:
    """Move the parent to core 1, at the attacker's priority. Returns the worker of the victim's address."""
    until(lambda: len(tree(parent)) == 2 + workers, "all workers")
    nursery, *serving = tree(parent)[1:]
    for thread in [*Path(f"/proc/{parent}/task").iterdir(), *Path(f"/proc/{nursery}/task").iterdir()]:
        os.sched_setaffinity(int(thread.name), {1})
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)
    return serving[home(pack("127.0.0.1"), workers)]


def ask_admin(address: str, answers: Connection) -> None:
    """Ask for the status ten times a second; for each question that is asked here, tell the slowest answer since."""
    slowest = 0.0
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
        while True:
            began = time.perf_counter()
            try:
                stub.GetStatus(pb.GetStatusRequest(), timeout=PATIENCE)
            except grpc.RpcError:
                slowest = PATIENCE
            slowest = max(slowest, time.perf_counter() - began)
            if answers.poll(0.1):
                if answers.recv() is None:
                    return
                answers.send(slowest)
                slowest = 0.0


@contextmanager
def admin(folder: Path) -> Iterator[Callable[[], float]]:
    """Asks the admin API all the time, in a process of its own; called, it returns the slowest answer since, in s."""
    fresh = multiprocessing.get_context("spawn")  # gRPC must not be forked
    ours, theirs = fresh.Pipe()
    process = fresh.Process(target=ask_admin, args=(f"unix:{folder}/admin.sock", theirs))
    process.start()

    def slowest() -> float:
        ours.send("?")
        return float(ours.recv())

    try:
        yield slowest
    finally:
        ours.send(None)
        process.join(2 * PATIENCE)
        process.kill()


def measure(victim: Client, proxy: int, seconds: float, slowest: Callable[[], float]) -> Phase:
    latencies: list[float] = []
    slowest()
    began, used, waited = time.monotonic(), cpu(proxy), scheduled(proxy)[1]
    while (now := time.monotonic()) < began + seconds:
        latencies.append(victim.get())
        time.sleep(PAUSE)
    shares = [(cpu(proxy) - used) / (now - began), (scheduled(proxy)[1] - waited) / (now - began)]
    return latencies, shares, slowest()


@contextmanager
def attacked(attack: Attack, attacker: Attacker, ends: Counter[str]) -> Iterator[None]:
    """While an attack runs in a process of its own; adds to `ends`."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=attacker.run, args=(attack, theirs.send))
    process.start()
    try:
        time.sleep(LEAD)
        yield
        ends.update(ours.recv() if ours.poll(2 * PATIENCE) else {"attacker hangs": 1})
    finally:
        process.kill()
        process.join()
        time.sleep(LEAD)


def line(name: str, quiet: list[Phase], loud: list[Phase], ends: Counter[str]) -> str:
    one, other = [list(chain.from_iterable(each for each, _, _ in phases)) for phases in (quiet, loud)]
    rounds = [median(b) / median(a) for (a, _, _), (b, _, _) in zip(quiet, loud, strict=True)]
    cells = [f"{name:18}"]
    for what, figure in FIGURES.items():
        a, b = figure(one) * 1e3, figure(other) * 1e3
        cells.append(f"{what} {a:5.2f} {b:5.2f} x{b / a:5.2f}")
    cells[1] += f" ({min(rounds):.2f}..{max(rounds):.2f})"
    for i, what in enumerate(("proxy", "waited")):
        cells.append(f"{what} {fmean(s[i] for _, s, _ in quiet):5.1%} {fmean(s[i] for _, s, _ in loud):5.1%}")
    cells.append("admin " + " ".join(f"{max(slow for _, _, slow in phases) * 1e3:.0f}" for phases in (quiet, loud)))
    return "  ".join([*cells, f"{ends.total()}: " + ", ".join(f"{n} {end}" for end, n in ends.most_common() if n)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3, help="of one phase")
    parser.add_argument("--rounds", type=int, default=3, help="of a quiet and an attacked phase")
    parser.add_argument("--share", type=float, default=0.25, help="of a core, for the proxy under attack")
    parser.add_argument("--only", nargs="*", choices=ATTACKS, metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    with (
        tempfile.TemporaryDirectory() as scratch,
        server(folder := Path(scratch), options.workers) as target,
        admin(folder) as slowest,
    ):
        for name in options.only or ATTACKS:
            quiet, loud, ends = list[Phase](), list[Phase](), Counter[str]()
            victim = Client(target.port, target.authority)
            for _ in range(options.rounds):
                quiet.append(measure(victim, target.proxy, options.seconds, slowest))
                end = time.monotonic() + LEAD + options.seconds
                attacker = Attacker(target, options.share, end)
                with attacked(ATTACKS[name], attacker, ends):
                    loud.append(measure(victim, target.proxy, options.seconds, slowest))
            victim.close()
            print(line(name, quiet, loud, ends), flush=True)


if __name__ == "__main__":
    main()
