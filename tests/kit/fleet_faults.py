"""A fleet on hosts of its own, and everything that happens to one.

    python -m tests.kit.fleet_faults [--scene NAME]... [--mutations N] [--kills N] [--cut SECONDS]

Nodes and PostgreSQL servers are processes, each in a network namespace of its own. In every scene nodes take changes as
fast as they can. Afterwards each acknowledged change is in the audit under the generation that was acknowledged, the
audit has every generation once and leads to the table, and each node has that table in its copy and in force. Prints
what it did as JSON; an assertion fails where something was lost, or two nodes differ.
"""

import itertools
import json
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import grpc
import psycopg

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import Key, table_values
from mcproxy.notation.server_url import parse_server_url
from mcproxy.store import history
from mcproxy.store.postgres import Server as Place
from mcproxy.store.postgres import attach
from mcproxy.store.records import to_json
from mcproxy.store.store import Store, read_table
from tests.kit.admin_stub import grpc_section, stub
from tests.kit.network import Host, Network, alone, mount
from tests.kit.peers import DEADLINE, Backend, client_hello, read_all, says, until
from tests.kit.postgres import USER, PostgresServer
from tests.kit.program import Program, Server, environment, write_config

PORT = 8443
DATABASE_PORT = 5432
KILLED = 8  # nodes, one after the other, before they are started again: a start takes longer than the rest
STARTING = 4  # nodes at a time
KEPT = 20  # routes of each thread at a time: older ones are removed again
DISK = 200 << 20  # bytes that a server has; a new database with its log takes 50 MB
SETTINGS = {"max_wal_size": "32MB", "min_wal_size": "2MB", "wal_keep_size": "16MB", "max_wal_senders": "4"}
MAY_BE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}

Done = tuple[str, str]  # an action, and the route's name


class Ledger:
    """What nodes have acknowledged, by generation, and how they refused."""

    def __init__(self) -> None:
        self.done: dict[int, Done] = {}
        self.by_node: dict[str, int] = {}
        self.refused: dict[str, str] = {}  # the last reason of each node
        self.failures: list[str] = []  # what no fault explains
        self.slowest = 0.0  # seconds
        self._lock = threading.Lock()

    def note(self, node: str, generation: int, done: Done, seconds: float) -> None:
        with self._lock:
            if generation in self.done:
                self.failures.append(f"{done} and {self.done[generation]} were both acknowledged as {generation}")
            self.done[generation] = done
            self.by_node[node] = self.by_node.get(node, 0) + 1
            self.slowest = max(self.slowest, seconds)

    def forget_after(self, generation: int) -> int:
        """Those of a past that the database has lost; returns their number."""
        with self._lock:
            lost = [each for each in self.done if each > generation]
            for each in lost:
                del self.done[each]
            return len(lost)


class Node:
    """A node as a process on its host."""

    def __init__(self, name: str, host: Host, folder: Path, url: str, backend: str) -> None:
        self.name = name
        self.host = host
        self.folder = folder / name
        self.folder.mkdir()
        self._url = url
        self._backend = backend
        self._open = ExitStack()
        self.server: Server | None = None
        self.admin: Any = None

    def document(self) -> dict[str, Any]:
        routes = [{"hostname": "seed.test", "backend": self._backend}]
        return {
            "database": {"url": self._url, "cache": "cache.db"},
            "node": {"name": self.name},
            "grpc": grpc_section(self.folder),
            "listeners": [{"addr": f":{PORT}", "routes": routes}],
        }

    def start(self) -> "Node":
        self._open = ExitStack()
        self.server = self._open.enter_context(Server(self.folder, self.document(), self.host.prefix))
        self.admin = self._open.enter_context(stub(self.folder))
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self.server is not None
        self.server.close()
        self.judge_log()
        self._open.close()

    def judge_log(self) -> None:
        assert self.server is not None
        found = [line for line in self.server.err + self.server.out if "Traceback" in line]
        assert not found, "".join(self.server.err[-60:])

    def status(self) -> Any:
        return self.admin.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE)

    @property
    def pid(self) -> int:
        assert self.server is not None
        return self.server.process.pid

    @property
    def state(self) -> str:
        return str(self.status().node.state)

    def serves(self) -> bool:
        """A client gets through."""
        with self.connect() as client:
            client.sendall(client_hello("seed.test"))
            return b"the backend" in read_all(client)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host.address, PORT), DEADLINE)

    def leads(self, name: str) -> bool:
        """Whether the table in force has a route of this name."""
        request = pb.ExplainRequest(sni=name, ip="192.0.2.1")
        return bool(self.admin.Explain(request, timeout=DEADLINE).route.hostname)

    def add(self, name: str) -> int:
        route = pb.Route(hostname=name, backend="127.0.0.1:9")
        return int(self.admin.AddRoute(pb.AddRouteRequest(route=route), timeout=DEADLINE).generation)

    def remove(self, name: str) -> int:
        return int(self.admin.RemoveRoute(pb.RemoveRouteRequest(hostname=name), timeout=DEADLINE).generation)


class Scene:
    """Two nodes or more, a server, and what was done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Network()
        self.backend = Backend(says("the backend"), socket.AF_UNIX, path=str(folder / "backend.sock"))
        self.database_hosts = [self.network.host(), self.network.host()]
        self.ledger = Ledger()
        self._numbers = itertools.count()
        (folder / "pg0").mkdir()
        mount(folder / "pg0", DISK)
        self.database = self._server(0, None)
        self.database.start()
        self.database.create("fleet")
        self.nodes = [self.node(name).start() for name in ("edge1", "edge2")]
        until(lambda: all(each.state == "following" for each in self.nodes))

    def _server(self, number: int, primary: PostgresServer | None) -> PostgresServer:
        host = self.database_hosts[number]
        place = self.folder / f"pg{number}"
        return PostgresServer(place, host.address, host.prefix, primary, SETTINGS, DATABASE_PORT)

    def standby(self) -> PostgresServer:
        """A standby of the present server, on the other host."""
        place = self.folder / "pg1"
        place.mkdir()
        made = self._server(1, self.database)
        made.start()
        return made

    def node(self, name: str) -> Node:
        hosts = ",".join(f"{each.address}:{DATABASE_PORT}" for each in self.database_hosts)
        url = f"postgresql://{USER}@{hosts}/fleet?target_session_attrs=read-write&connect_timeout=2"
        return Node(name, self.network.host(), self.folder, url, self.backend.address)

    # What is done all the time.

    @contextmanager
    def mutating(self, nodes: Sequence[Node], threads: int = 2) -> Iterator[None]:
        """Change something on these nodes, again and again, whatever becomes of it."""
        end = threading.Event()
        running = [threading.Thread(target=self._mutate, args=(each, end)) for each in nodes for _ in range(threads)]
        for each in running:
            each.start()
        try:
            yield
        finally:
            end.set()
            for each in running:
                each.join(DEADLINE * 2)
                assert not each.is_alive()

    def _mutate(self, node: Node, end: threading.Event) -> None:
        there: list[str] = []
        while not end.is_set():
            if self.once(node, there) is None:
                end.wait(0.05)

    def once(self, node: Node, there: list[str]) -> int | None:
        """One change on this node; its generation, or None where it was refused or isn't known."""
        old = there.pop(0) if len(there) > KEPT else ""
        name = old or f"{node.name}-{next(self._numbers)}.test"
        began = time.monotonic()
        try:
            generation = node.remove(name) if old else node.add(name)
        except grpc.RpcError as error:
            self.ledger.refused[node.name] = str(error.details())
            if error.code() not in MAY_BE:
                self.ledger.failures.append(f"{name} on {node.name}: {error.code()}: {error.details()}")
            return None
        except ValueError:  # its channel was closed with it
            return None
        if not old:
            there.append(name)
        self.ledger.note(node.name, generation, ("remove" if old else "add", name), time.monotonic() - began)
        return generation

    def goes_on(self, nodes: Sequence[Node], count: int = 3) -> None:
        """Wait until each of these has acknowledged some more."""
        before = dict(self.ledger.by_node)
        for each in nodes:
            enough = before.get(each.name, 0) + count
            until(lambda each=each, enough=enough: self.ledger.by_node.get(each.name, 0) >= enough, self.why())  # type: ignore[misc]

    def why(self) -> str:
        return f"changes to be acknowledged; last refusals: {self.ledger.refused}"

    # What must hold.

    @contextmanager
    def truth(self) -> Iterator[Store]:
        place = Place(parse_server_url(self.database.url("fleet")))
        with closing(attach(place, "a judge")) as store:
            yield store

    def recovers(self) -> float:
        """Wait until every node follows and has the last generation; seconds that it took."""
        began = time.monotonic()
        with self.truth() as store:

            def all_there() -> bool:
                last = store.load().generation
                found = [each.status() for each in self.nodes]
                return all((each.node.state, each.generation) == ("following", last) for each in found)

            until(all_there, "all nodes to have the last generation")
        return round(time.monotonic() - began, 2)

    def judge(self) -> None:
        """Nothing acknowledged is lost, there is one history, and every node has its table."""
        self.recovers()
        assert not self.ledger.failures, self.ledger.failures
        with self.truth() as store:
            table = store.load()
            revisions = [*reversed(history.revisions(store, 10_000_000))]
        told: dict[Key, str | None] = {}
        seen: dict[int, Done] = {}
        for revision in revisions:
            assert told.get(revision.key) == revision.old
            told[revision.key] = revision.new
            seen[revision.generation] = (revision.action.rpartition(".")[2], revision.key.name)
        assert {key: to_json(key.what, value) for key, value in table_values(table).items()} == {
            key: value for key, value in told.items() if value is not None
        }
        assert sorted(seen) == list(range(1, table.generation + 1)), "every generation once"
        lost = {at: done for at, done in self.ledger.done.items() if seen.get(at) != done}
        assert not lost, f"acknowledged, and not in the audit: {lost}"
        for node in self.nodes:
            until(lambda node=node: read_table(node.folder / "cache.db").generation == table.generation)  # type: ignore[misc]
            assert table_values(read_table(node.folder / "cache.db")) == table_values(table)
            assert node.serves()
            for name in {name for _, name in [*seen.values()][-4 * KEPT :]}:
                assert node.leads(name) == any(name in each.routes for each in table.listeners.values())
            node.judge_log()

    def alone(self, nodes: Sequence[Node]) -> float:
        """Wait until these know that they have no database; they serve. Seconds that it took."""
        began = time.monotonic()
        until(lambda: all(each.state == "alone" for each in nodes), "nodes to be alone")
        took = round(time.monotonic() - began, 2)
        assert all(each.serves() for each in nodes)
        for each in nodes:
            assert self.once(each, []) is None
            assert "is alone since" in self.ledger.refused[each.name], self.ledger.refused
        return took

    def close(self) -> None:
        if sys.exc_info()[0] is not None:
            for each in self.nodes:
                assert each.server is not None
                click.echo(f"--- {each.name}\n{''.join([*each.server.out, *each.server.err][-20:])}", err=True)
        for each in self.nodes:
            each.kill()
        self.database.stop(signal.SIGQUIT)
        self.backend.close()


# The scenes.


def writers(scene: Scene, *, mutations: int) -> dict[str, Any]:
    """Both nodes at once. A call that fails, as where a machine is too slow for a limit on waiting, is made again."""
    began = time.monotonic()
    failed: list[str] = []

    def work(node: Node) -> None:
        there: list[str] = []
        made = 0
        while made < mutations:
            if scene.once(node, there) is None:
                failed.append(scene.ledger.refused[node.name])
                assert len(failed) <= mutations
            else:
                made += 1

    threads = [threading.Thread(target=work, args=(each,)) for each in scene.nodes]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    spent = time.monotonic() - began
    made = mutations * len(scene.nodes)
    slowest = round(scene.ledger.slowest, 2)
    return {"mutations": made, "failed": failed, "per_second": round(made / spent), "slowest": slowest}


def kills(scene: Scene, *, rounds: int) -> dict[str, Any]:
    """Nodes are killed during their changes, one after the other, and started again together."""
    chance = random.Random(rounds)  # the same every time
    before, left = len(scene.ledger.done), rounds
    with ThreadPoolExecutor(STARTING) as pool:
        more = [scene.node(f"more{number}") for number in range(min(rounds, KILLED) - len(scene.nodes))]
        scene.nodes += pool.map(Node.start, more)
        while left:
            victims = chance.sample(scene.nodes, min(left, len(scene.nodes)))
            with scene.mutating(scene.nodes):
                scene.goes_on(scene.nodes)
                for each in victims:
                    time.sleep(chance.random() * 0.05)  # the moment is random
                    each.kill()
            list(pool.map(Node.start, victims))
            scene.judge()
            left -= len(victims)
            click.echo(f"kills: {rounds - left}, acknowledged: {len(scene.ledger.done) - before}", err=True)
    for each in more:
        scene.nodes.remove(each)
        each.kill()
    return {"rounds": rounds, "acknowledged": len(scene.ledger.done) - before}


def stops(scene: Scene) -> dict[str, Any]:
    """The server is stopped, crashes, is killed, and is started each time."""
    report: dict[str, Any] = {}
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with scene.mutating(scene.nodes):
            scene.goes_on(scene.nodes)
            scene.database.stop(how)
            noticed = scene.alone(scene.nodes)
            scene.database.start()
            began = time.monotonic()
            scene.goes_on(scene.nodes)
            report[how.name] = {"noticed": noticed, "back": round(time.monotonic() - began, 2)}
        scene.judge()
    return report


def terminated(scene: Scene, *, rounds: int) -> dict[str, Any]:
    """All connections are ended by the server, again and again."""
    ended = 0
    statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'mcproxy edge%'"
    with scene.mutating(scene.nodes):
        for _ in range(rounds):
            scene.goes_on(scene.nodes)
            ended += len(scene.database.execute("postgres", statement))
        scene.goes_on(scene.nodes)
    scene.judge()
    return {"rounds": rounds, "connections": ended}


def full_disk(scene: Scene) -> dict[str, Any]:
    """The server's disk is full: changes are refused, clients are served; then there is room again."""
    ballast = scene.database.folder / "ballast"
    with scene.mutating(scene.nodes):
        scene.goes_on(scene.nodes)
        scene.ledger.refused.clear()
        with ballast.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        until(lambda: len(scene.ledger.refused) == len(scene.nodes), "changes to be refused")
        refused = [*scene.ledger.refused.values()]
        crashed = _fills_its_log(scene.database)
        assert all(each.serves() for each in scene.nodes)
        ballast.unlink()
        began = time.monotonic()
        until(lambda: _answers_again(scene.database), "the server to be back")
        scene.goes_on(scene.nodes)
    scene.judge()
    return {"refused": refused, "crashed": crashed, "back": round(time.monotonic() - began, 2)}


def _fills_its_log(database: PostgresServer) -> bool:
    """Have it write its log until there is no room for that either: then it crashes. Returns whether it did."""
    for _ in range(DISK >> 20):
        try:
            database.execute("postgres", "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))")
        except psycopg.OperationalError:
            return True
    return False


def _answers_again(database: PostgresServer) -> bool:
    """Whether a server that crashed answers; it is started where it could not start again by itself."""
    if not database.runs:
        database.stop()
        database.start()
    with suppress(psycopg.OperationalError):
        return bool(database.execute("postgres", "SELECT 1"))
    return False


def without(scene: Scene) -> dict[str, Any]:
    """A node starts without the server, and serves; one that has no copy doesn't."""
    scene.database.stop()
    scene.nodes[1].kill()
    scene.nodes[1].start()
    scene.alone(scene.nodes)
    new = scene.node("edge3")
    path = write_config(new.folder, new.document())
    command: tuple[str | Path, ...] = (*new.host.prefix, sys.executable, "-m", "mcproxy", "server", "-c", path)
    with closing(Program(*command, env=environment())) as program:
        assert program.wait() == 1
        said = program.err[-1]
    assert "its first start needs the database" in said
    scene.database.start()
    took = scene.recovers()
    scene.judge()
    return {"back": took, "without_a_copy": said.strip()}


def cut_off(scene: Scene, *, seconds: float) -> dict[str, Any]:
    """A node's packets are dropped while it makes changes. The other one goes on, at most a moment later."""
    one, two = scene.nodes
    scene.ledger.slowest = 0.0
    with scene.mutating(scene.nodes):
        scene.goes_on(scene.nodes)
        began = time.monotonic()
        two.host.cut()
        scene.goes_on([one], 20)
        until(lambda: two.state == "alone", "the node to notice")
        noticed = round(time.monotonic() - began, 1)
        until(lambda: time.monotonic() - began > seconds)
        assert two.state == "alone"
        slowest = round(scene.ledger.slowest, 1)
        two.host.heal()
        began = time.monotonic()
        scene.goes_on([two])
        back = round(time.monotonic() - began, 1)
    scene.judge()
    return {"seconds": seconds, "noticed": noticed, "slowest_of_the_other": slowest, "back": back}


def failover(scene: Scene, *, host: bool = False) -> dict[str, Any]:
    """The server dies, or its `host`, which then answers nothing; its standby, which lacks changes, takes over."""
    old, standby = scene.database, scene.standby()
    with scene.mutating(scene.nodes):
        scene.goes_on(scene.nodes)
        standby_host = scene.database_hosts[1]
        standby_host.cut()
        scene.goes_on(scene.nodes, 10)
        if host:
            scene.database_hosts[0].cut()
        old.stop(signal.SIGKILL)
    standby_host.heal()
    standby.execute("postgres", "SELECT pg_promote()")
    scene.database = standby
    ((generation,),) = standby.execute("fleet", "SELECT generation FROM head")
    lost = scene.ledger.forget_after(int(str(generation)))
    assert lost >= 10
    began = time.monotonic()
    with scene.mutating(scene.nodes):
        scene.goes_on(scene.nodes)
        back = round(time.monotonic() - began, 1)
    scene.judge()
    return {"lost": lost, "back": back}


def plan(mutations: int, kills_: int, cut: float) -> dict[str, Callable[[Scene], dict[str, Any]]]:
    """All scenes, in their order. After a failover comes no other, for the new server has no standby."""
    return {
        "writers": lambda scene: writers(scene, mutations=mutations),
        "kills": lambda scene: kills(scene, rounds=kills_),
        "stops": stops,
        "terminated": lambda scene: terminated(scene, rounds=max(3, kills_ // 10)),
        "full_disk": full_disk,
        "without": without,
        "cut_off": lambda scene: cut_off(scene, seconds=cut),
        "failover": failover,
        "host": lambda scene: failover(scene, host=True),
    }


@click.command()
@click.option("--scene", "names", multiple=True, help="Only these; else all up to a failover.")
@click.option("--mutations", default=1000, show_default=True, help="Of each node, at once.")
@click.option("--kills", "rounds", default=200, show_default=True)
@click.option("--cut", default=60.0, show_default=True, help="Seconds that a node is cut off.")
def main(names: Sequence[str], mutations: int, rounds: int, cut: float) -> None:
    """Do it."""
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mcproxy-fleet-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with closing(Scene(Path(folder))) as scene:
            for name, play in plan(mutations, rounds, cut).items():
                if name in names or (not names and name != "host"):
                    began = time.monotonic()
                    report[name] = play(scene)
                    scene.judge()
                    took = round(time.monotonic() - began, 1)
                    click.echo(f"{name}: {took} s: {json.dumps(report[name])}", err=True)
            report["generations"] = scene.nodes[0].status().generation
    click.echo(json.dumps(report))


if __name__ == "__main__":
    alone("tests.kit.fleet_faults")
    main()
