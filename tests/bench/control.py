"""What the control plane costs: `python -m tests.bench.control`, about two minutes on two cores.

1. 100,000 routes: first start, later starts, memory, one mutation, one look-up, a snapshot.
2. 10,000 mutations over gRPC under live TLS connections: how many of these fail or go astray, how long one takes.
3. The hub's lateness, idle and under a flood of admin calls from eight threads: what a connection waits for the GIL.
4. Routes from the shell: 20 one by one and with `mcproxy apply`, then 100,000, and the hub's lateness meanwhile.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from gevent import sleep, spawn

from mcproxy.admin import mutations
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.model import Listener
from mcproxy.policy import routing
from mcproxy.store import snapshot
from mcproxy.store.store import Store
from tests.kit.control_plane import FakePlane, make_writer, route
from tests.kit.peers import Authority, Backend, connect, read_all, says, tls
from tests.kit.proxy import Proxy

ROUTES = 100_000
MUTATIONS = 10_000
FLOOD_SECONDS = 5.0
FLOOD_THREADS = 8


def timed(what: str, work: Callable[[], Any], times: int = 1) -> Any:
    began = time.perf_counter()
    for _ in range(times):
        result = work()
    each = (time.perf_counter() - began) / times
    print(f"  {what:44} {each * 1e3:10.3f} ms", flush=True)
    return result


def resident() -> float:
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def many_routes(folder: Path) -> None:
    """In a process of its own, so that its memory is that of the routes."""
    print(f"{ROUTES} routes", flush=True)
    path = folder / "many.db"
    if not path.exists():
        seed = [(Listener(":443"), [route(f"h{i}.example.org") for i in range(ROUTES)])]
        store = timed("open a new database", lambda: Store.open(path))
        timed("seed it", lambda: store.seed(seed, [], 1.0))
        store.close()
        return
    before = resident()
    store = timed("open it again", lambda: Store.open(path))
    writer = timed("load and compile", lambda: make_writer(store, FakePlane()))
    print(f"  {'memory of the table':44} {resident() - before:10.1f} MB")
    names = (f"new{i}.example.org" for i in itertools.count())
    add = lambda: writer.mutate("bench", "route.add", mutations.put_route("", route(next(names)), exists=False))  # noqa: E731
    timed("one mutation, durable", add, 200)
    routes = writer.table.listeners[":443"].routes
    timed("one look-up", lambda: routing.find(routes, "h77777.example.org"), 100_000)
    timed("one snapshot, verified", lambda: snapshot.take(path, folder / "copy.db"))
    store.close()


@contextmanager
def running(folder: Path, authority: Authority) -> Iterator[tuple[Proxy, Any, list[Backend]]]:
    """A proxy with two names, the first of which moves between two backends."""
    made = [
        Backend(tls(authority.server_context(name), says(says_)))
        for name, says_ in (("a.test", "one"), ("a.test", "two"), ("b.test", "fixed"))
    ]
    routes = [{"hostname": "a.test", "backend": made[0].address}, {"hostname": "b.test", "backend": made[2].address}]
    proxy = Proxy(
        {"listeners": [{"addr": "127.0.0.1:0", "routes": routes}], "grpc": {"addr": f"unix:{folder}/admin.sock"}},
        folder,
    )
    with grpc.insecure_channel(f"unix:{folder}/admin.sock") as channel:
        yield proxy, pb_grpc.ProxyAdminServiceStub(channel), made  # type: ignore[no-untyped-call]
    proxy.stop()
    for each in made:
        each.close()


def ask(port: int, context: ssl.SSLContext, name: str) -> str:
    with context.wrap_socket(connect(port), server_hostname=name) as secured:
        secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return read_all(secured).decode().splitlines()[-1]


def under_traffic(folder: Path) -> None:
    print(f"{MUTATIONS} mutations under live connections", flush=True)
    authority = Authority(folder)
    stop, failures, count = threading.Event(), list[str](), [0]
    context = authority.client_context()
    with running(folder, authority) as (proxy, stub, made):

        def come() -> None:
            while not stop.is_set():
                for name, answers in (("a.test", {"one", "two"}), ("b.test", {"fixed"})):
                    try:
                        answer = ask(proxy.port, context, name)
                    except (OSError, IndexError) as error:
                        answer = repr(error)
                    count[0] += 1
                    if answer not in answers:
                        failures.append(f"{name}: {answer}")

        traffic = [threading.Thread(target=come) for _ in range(2)]
        for thread in traffic:
            thread.start()
        stale, took = 0, list[float]()
        for number in range(MUTATIONS):
            which = number % 2
            request = pb.UpdateRouteRequest(route=pb.Route(hostname="a.test", backend=made[which].address))
            began = time.perf_counter()
            stub.UpdateRoute(request, timeout=30)
            took.append(time.perf_counter() - began)
            if number % 50 == 0:
                stale += ask(proxy.port, context, "a.test") != ("one", "two")[which]
        stop.set()
        for thread in traffic:
            thread.join()
    took.sort()
    print(f"  {count[0]} connections beside, {len(failures)} failed or misrouted {failures[:3]}")
    print(f"  {MUTATIONS // 50} connections straight after an answer, {stale} saw the old table")
    print(
        f"  answer after: median {took[len(took) // 2] * 1e3:.2f} ms, 99 % {took[len(took) * 99 // 100] * 1e3:.2f} ms"
    )


def lateness(proxy: Proxy, seconds: float) -> list[float]:
    """How late the hub's timers of a millisecond are, in milliseconds, sorted."""
    late: list[float] = []
    done = threading.Event()

    def measure() -> None:
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            sleep(0.001)
            late.append((time.perf_counter() - began) * 1e3 - 1)
        done.set()

    proxy.call(lambda: spawn(measure) and None)
    done.wait(seconds + 30)
    return sorted(late)


def tell(what: str, late: list[float], calls: int, seconds: float) -> None:
    quantiles = " ".join(f"{q:g}%:{late[min(len(late) - 1, int(len(late) * q / 100))]:.2f}" for q in (50, 90, 99, 100))
    print(f"  {what:24} {calls / seconds:8.0f} calls/s; lateness in ms {quantiles}", flush=True)


def flood(address: str, kind: str, stop: Any, count: Any) -> None:
    """Call as fast as it goes; in a process of its own, so that only the server's side counts."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]

        def work(number: int) -> None:
            for i in itertools.count():
                if stop.is_set():
                    return
                if kind == "status":
                    stub.GetStatus(pb.GetStatusRequest(), timeout=30)
                elif kind == "lists of 1000 routes":
                    stub.ListRoutes(pb.ListRoutesRequest(page_size=1000), timeout=30)
                else:
                    name = f"f{number}-{i}.test"
                    stub.AddRoute(pb.AddRouteRequest(route=pb.Route(hostname=name, backend="127.0.0.1:1")), timeout=30)
                with count.get_lock():
                    count.value += 1

        threads = [threading.Thread(target=work, args=(n,)) for n in range(FLOOD_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def under_flood(folder: Path) -> None:
    print(f"the hub under {FLOOD_THREADS} threads of calls", flush=True)
    spawned = multiprocessing.get_context("spawn")
    with running(folder, Authority(folder)) as (proxy, stub, _):
        for i in range(1000):
            stub.AddRoute(pb.AddRouteRequest(route=pb.Route(hostname=f"r{i}.test", backend="127.0.0.1:1")), timeout=30)
        tell("idle", lateness(proxy, FLOOD_SECONDS), 0, FLOOD_SECONDS)
        for kind in ("status", "lists of 1000 routes", "mutations"):
            stop, count = spawned.Event(), spawned.Value("L", 0)
            caller = spawned.Process(target=flood, args=(f"unix:{folder}/admin.sock", kind, stop, count))
            caller.start()
            while not count.value:
                time.sleep(0.01)
            before = count.value
            late = lateness(proxy, FLOOD_SECONDS)
            tell(kind, late, count.value - before, FLOOD_SECONDS)
            stop.set()
            caller.join()


def typed(*arguments: object) -> None:
    """Run one command of mcproxy."""
    command = [sys.executable, "-m", "mcproxy", *map(str, arguments)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def from_the_shell(folder: Path) -> None:
    print("routes from the shell", flush=True)
    with running(folder, Authority(folder)) as (proxy, stub, _):
        (listener,) = stub.ListListeners(pb.ListListenersRequest(), timeout=30).listeners
        server = ("--server", f"unix:{folder}/admin.sock")

        def file(count: int, port: int) -> Path:
            routes = (f'[[listeners.routes]]\nhostname = "s{i}.test"\nbackend = "a.test:{port}"' for i in range(count))
            path = folder / f"{count}-{port}.toml"
            path.write_text("\n".join(["[[listeners]]", f'addr = "{listener.addr}"', *routes]))
            return path

        def one_by_one() -> None:
            for i in range(20):
                typed("routes", "add", f"o{i}.test", "a.test:1", *server)

        timed("20 times `routes add`", one_by_one)
        timed("20 routes with `apply`", lambda: typed("apply", file(20, 1), *server))
        for what, count, port in ((f"{ROUTES} added", ROUTES, 1), (f"{ROUTES} changed", ROUTES, 2)):
            used, path = cpu(), file(count, port)
            applying = threading.Thread(target=lambda: timed(f"`apply`, {what}", lambda: typed("apply", path, *server)))  # noqa: B023 - joined below
            applying.start()
            late = list[float]()
            while applying.is_alive():
                late += lateness(proxy, 1.0)
            tell(f"{cpu() - used:.1f} s of CPU, both", sorted(late), 1, 1)


def cpu() -> float:
    """Seconds of this process and of the commands that it has run."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """All of it, or what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=["routes", "traffic", "flood", "shell", []])
    chosen = parser.parse_args().what or ["routes", "traffic", "flood", "shell"]
    socket.setdefaulttimeout(30)
    with tempfile.TemporaryDirectory() as folder:
        for what in chosen:
            place = Path(folder, what)
            place.mkdir()
            if what == "routes":
                for _ in range(2):
                    process = multiprocessing.get_context("spawn").Process(target=many_routes, args=(place,))
                    process.start()
                    process.join()
            else:
                {"traffic": under_traffic, "flood": under_flood, "shell": from_the_shell}[what](place)


if __name__ == "__main__":
    main()
