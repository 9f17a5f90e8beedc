"""One run: proxies, backends, clients and faults together, for so long."""

import contextlib
import itertools
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit.http2_backends import echo as echo_http
from tests.kit.http2_backends import h2
from tests.kit.peers import (
    DEADLINE,
    Authority,
    Backend,
    Handler,
    client_hello,
    echo,
    free_port,
    tls,
)
from tests.kit.program import Program, environment, write_config
from tests.soak import measure, traffic
from tests.soak.faults import Faults

STAYS, RESTARTS = "the proxy that stays", "the proxy that restarts"
EVERY = {"reload": 7.0, "mutations": 5.0, "backend": 11.0, "restart": 17.0}  # seconds
DOWN = 1.5  # seconds that a backend is away
LINES = 5_000  # of its log that are kept
LATE = 60.0  # seconds after a failure in which the proxy's line of it may still come
SAMPLES = 240  # of a run, at most one a second


class Outage:
    """A backend at a fixed port that goes and comes back."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self.port = free_port()
        self._backend = Backend(self._handle, port=self.port)

    def flap(self, stop: threading.Event) -> None:
        """Away for a while."""
        self.close()
        stop.wait(DOWN)
        self._backend = Backend(self._handle, port=self.port)

    def close(self) -> None:
        self._backend.failures.clear()  # what clients that break off leave behind
        self._backend.close()


class Node:
    """A proxy as a process, which may be started again at the same port."""

    def __init__(self, name: str, folder: Path, routes: list[dict[str, Any]]) -> None:
        self.name = name
        self.folder = folder
        self.port = free_port()
        self._count = itertools.count()
        folder.mkdir()
        self._document = {
            "grpc": {"addr": f"unix:{folder}/admin.sock"},
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}],
            "proxy": {"shutdown_timeout": "15s"},
        }
        self.config = self.write(300)
        self.start()

    def write(self, idle: int) -> Path:
        """The file, with that idle timeout."""
        proxy = {**self._document["proxy"], "idle_timeout": f"{idle}s"}  # type: ignore[dict-item]
        spare = self.folder / "spare"  # as a whole: a command may read the file meanwhile
        spare.mkdir(exist_ok=True)
        return write_config(spare, {**self._document, "proxy": proxy}).replace(self.folder / "mcproxy.toml")

    def start(self) -> None:
        self.counter = self.folder / f"count-{next(self._count)}"
        command = ("tests.soak.served", self.counter, "server", "-c", self.config)
        self.program = Program(sys.executable, "-m", *command, env=environment())
        self.program.line("started, generation")
        self.program.out.clear()

    def close(self) -> None:
        """Kill it, if it still runs."""
        self.program.close()

    def forget_lines(self) -> None:
        """All but the last that it has logged: an hour has hundreds of megabytes of it."""
        del self.program.out[:-LINES]

    def lines(self, text: str) -> str:
        """What it has logged of late with this in it."""
        return "".join(line for line in list(self.program.out) if text in line)

    def run(self, *command: str) -> None:
        """A command of an operator. Raises CalledProcessError."""
        whole = [sys.executable, "-m", "mcproxy", *command, "-c", str(self.config)]
        subprocess.run(whole, check=True, capture_output=True, text=True, timeout=DEADLINE, env=environment())


@dataclass
class Soak:
    """All that takes part."""

    folder: Path
    seconds: float
    faults: Faults = field(default_factory=Faults)
    samples: list[measure.Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)  # how often each fault was injected
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until the time is over; then `problems` has all that was wrong."""
        authority = Authority(self.folder)
        with ExitStack() as stack:
            steady_http = stack.enter_context(_closing(Backend(h2(echo_http))))
            steady = stack.enter_context(_closing(Backend(tls(authority.server_context(traffic.L4), echo))))
            flaky_http = Outage(h2(echo_http))
            stack.callback(flaky_http.close)
            flaky = Outage(tls(authority.server_context(traffic.FLAKY_L4), echo))
            stack.callback(flaky.close)
            l7 = {traffic.L7: steady_http.address, traffic.FLAKY: f"127.0.0.1:{flaky_http.port}"}
            l4 = {traffic.L4: steady.address, traffic.FLAKY_L4: f"127.0.0.1:{flaky.port}"}
            routes = _routes(authority, l7, l4)
            nodes = [Node(STAYS, self.folder / "stays", routes), Node(RESTARTS, self.folder / "restarts", routes)]
            for node in nodes:
                stack.callback(node.close)
            threads = [
                *self._clients(authority, nodes),
                *self._disturbances(nodes, [flaky_http, flaky], steady.address),
            ]
            begun = time.monotonic()
            for thread in threads:
                thread.start()
            self._watch(nodes, begun)
            self.stop.set()
            for thread in threads:
                thread.join(DEADLINE)
            self._finish(nodes)

    def _clients(self, authority: Authority, nodes: list[Node]) -> Iterator[threading.Thread]:
        for seed, (node, (client, act, name)) in enumerate(itertools.product(nodes, traffic.CLIENTS)):
            context = ssl.create_default_context(cafile=str(authority.path))
            site = traffic.Site(node.name, node.port, context)
            arguments = (client, act, site, name, self.faults, self.stop, seed)
            yield threading.Thread(target=traffic.keep, args=arguments, daemon=True)

    def _disturbances(self, nodes: list[Node], outages: list[Outage], backend: str) -> Iterator[threading.Thread]:
        stays, restarts = nodes
        idle = itertools.cycle((240, 300))
        numbers = itertools.count(1)

        def flap() -> None:
            for outage in outages:
                with self.faults.fault("a backend is away", traffic.FLAKY, traffic.FLAKY_L4):
                    outage.flap(self.stop)

        def reload() -> None:
            stays.write(next(idle))
            stays.program.signal(signal.SIGHUP)

        acts = {
            "reload": reload, "mutations": lambda: mutate(stays, f"n{next(numbers)}.test", backend),
            "backend": flap, "restart": lambda: self._restart(restarts),
        }  # fmt: skip
        for what, act in acts.items():
            yield threading.Thread(target=self._again, args=(what, act), daemon=True)

    def _again(self, what: str, act: Callable[[], None]) -> None:
        while not self.stop.wait(min(EVERY[what], self.seconds / 3)):
            try:
                act()
            except Exception as error:  # noqa: BLE001 - each is a problem
                said = getattr(error, "stderr", "") or error
                self.problems.append(f"{what}: {type(error).__name__}: {said}")
            self.done[what] = self.done.get(what, 0) + 1

    def _restart(self, node: Node) -> None:
        """Drain it, as an upgrade does, and start it again. Whether it cut nothing is in its exit status."""
        with self.faults.fault("a proxy restarts", node.name):
            node.program.signal(signal.SIGTERM)
            status = node.program.wait()
            if status not in (0, 1):
                self.problems.append(f"restart: exit status {status}: {''.join(node.program.err)[-500:]}")
            self.gather(node.name, node.program.out)
            node.start()

    def gather(self, name: str, lines: Sequence[str]) -> None:
        """Look through what a proxy has logged of late, before it is forgotten: lines of failures, and its defects."""
        for failure in self.faults.unexplained(time.monotonic() - LATE):
            if name in failure.targets:
                failure.seek(lines)
        for problem in (f"{name}: {defect}" for defect in defects(lines)):
            if problem not in self.problems:
                self.problems.append(problem)

    def _watch(self, nodes: list[Node], begun: float) -> None:
        stays = nodes[0]
        while (passed := time.monotonic() - begun) < self.seconds:
            try:
                requests = self.faults.requests
                self.samples.append(measure.sample(stays.program.process.pid, stays.counter, passed, requests))
            except OSError as error:
                self.problems.append(f"{STAYS} has ended: {error}; {''.join(stays.program.err)[-500:]}")
                return
            for node in nodes:
                self.gather(node.name, list(node.program.out))
                node.forget_lines()
            self.stop.wait(max(1.0, self.seconds / SAMPLES))

    def _finish(self, nodes: list[Node]) -> None:
        for node in nodes:
            node.program.signal(signal.SIGTERM)
            status = node.program.wait()
            if status not in (0, 1):
                self.problems.append(f"{node.name}: exit status {status}")
            if errors := [line for line in node.program.err if "Traceback" in line]:
                self.problems.append(f"{node.name}: {errors[0]}")
            self.gather(node.name, node.program.out)
        self.problems += [
            f"unexplained: {failure.shown(self.faults.injected)}" for failure in self.faults.unexplained()
        ]
        self.problems += measure.grown(self.samples)


def defects(lines: Sequence[str]) -> Iterator[str]:
    """Lines of the level error, each with the traceback that is behind it."""
    for i, line in enumerate(lines):
        if re.match(r"\S+ error ", line):
            behind = itertools.takewhile(lambda each: each.startswith("  "), lines[i + 1 :])
            yield "".join([line, *behind]).rstrip()


def mutate(node: Node, name: str, backend: str) -> None:
    """A route and a rule come and go; each is in force when its command has returned."""
    blocked = "127.0.0.77"
    steps: tuple[tuple[tuple[str, ...], str, str, bool], ...] = (
        (("routes", "add", name, backend), name, "", True),
        (("routes", "remove", name), name, "", False),
        (("firewall", "add", blocked, "--ttl", "1h", "--yes"), traffic.L4, blocked, False),
        (("firewall", "remove", blocked), traffic.L4, blocked, True),
    )
    for command, sni, source, served in steps:
        node.run(*command)
        if serves(node.port, sni, source) != served:
            raise AssertionError(f"{command}: {'not ' * served}served; {node.lines(source or sni)}")


def serves(port: int, name: str, source: str) -> bool:
    """Whether a client from that address gets an answer to its hello, rather than a RST."""
    try:
        with socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0)) as sock:
            sock.sendall(client_hello(name))
            return sock.recv(1) == b"\x16"
    except ConnectionResetError:
        return False


@contextlib.contextmanager
def _closing(backend: Backend) -> Iterator[Backend]:
    try:
        yield backend
    finally:
        backend.failures.clear()  # what clients that break off leave behind
        backend.close()


def _routes(authority: Authority, l7: dict[str, str], l4: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"hostname": name, "backend": backend} for name, backend in l4.items()]
    for name, backend in l7.items():
        chain, key = authority.pair(name)
        files = {"tls_cert": str(chain), "tls_key": str(key)}
        found.append({"hostname": name, "backend": backend, "mode": "l7", **files})
    return found
