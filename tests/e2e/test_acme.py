"""Certificates ordered from a real ACME server, Pebble, which validates at the proxy's own port."""

import json
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kit.pebble import Pebble
from tests.kit.peers import (
    DEADLINE,
    Authority,
    Backend,
    client_hello,
    connect,
    echo,
    free_port,
    is_reset,
    read_all,
    receive,
    until,
)
from tests.kit.program import Program, Server, environment, write_config

WWW = "www.example.org"
CLIENTS = [f"127.0.0.{last}" for last in range(1, 9)]  # with two workers, each serves some of these
NUMBERS = [1, 2]  # of workers
scene_with_workers = pytest.mark.parametrize("scene", NUMBERS, indirect=True)


def from_address(address: str, port: int) -> socket.socket:
    """A client from this address of the loopback."""
    return socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=(address, 0))


class Scene:
    """A CA, a backend, and the proxy, which may be killed and started again."""

    def __init__(self, stack: ExitStack, folder: Path, workers: int = 0, **variables: str) -> None:
        """With `workers` processes; 0 is the test suite's own choice."""
        self.port = free_port()
        self.folder = folder
        self.pebble = Pebble(stack, folder, self.port, **variables)
        self.backend = Backend(echo)
        stack.callback(self.backend.close)
        self.tables: dict[str, Any] = {"proxy": {"workers": workers}} if workers else {}
        self.server: Server
        self._stack = stack

    def document(self) -> dict[str, Any]:
        routes = [{"hostname": "git.example.org", "backend": self.backend.address}]
        return {
            "listeners": [{"addr": f"127.0.0.1:{self.port}", "routes": routes}],
            "grpc": {"addr": f"unix:{self.folder}/admin.sock"}, "acme": self.pebble.section(), **self.tables,
        }  # fmt: skip

    def start(self) -> "Scene":
        self.server = self._stack.enter_context(Server(self.folder, self.document()))
        return self

    def kill(self) -> None:
        self.server.signal(signal.SIGKILL)
        self.server.wait()

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        whole = [sys.executable, "-m", "mcproxy", *command, "-c", str(self.folder / "mcproxy.toml")]
        return subprocess.run(whole, capture_output=True, text=True, env=environment(), timeout=60, check=False)

    def ok(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add(self, hostname: str = WWW, *options: str) -> None:
        self.ok("routes", "add", hostname, self.backend.address, "--mode", "l7", *(options or ("--acme",)))

    def listed(self, hostname: str = WWW) -> dict[str, Any]:
        found = json.loads(self.ok("certificates", "list", "--json"))
        return next(each for each in found if each["hostname"] == hostname)

    def until_issued(self, hostname: str = WWW) -> None:
        def is_served() -> bool:
            try:
                self.serial(hostname)
            except (ConnectionError, ssl.SSLError):
                return False
            return True

        until(is_served, f"a certificate for {hostname}")

    def serial(self, hostname: str = WWW, cafile: Path | None = None, client: str = CLIENTS[0]) -> str:
        """The serial number of the certificate that a client from this address gets, verified."""
        if cafile is None:
            cafile = self.folder / "root.pem"
            cafile.write_bytes(self.pebble.root())
        context = ssl.create_default_context(cafile=str(cafile))
        with from_address(client, self.port) as sock, context.wrap_socket(sock, server_hostname=hostname) as secured:
            found = secured.getpeercert()
        assert found is not None
        return str(found["serialNumber"])

    def refused(self, hello: bytes) -> str:
        """The line of a client that is refused."""
        seen = len(self.server.out)
        with connect(self.port) as client:
            itself = f" client=127.0.0.1:{client.getsockname()[1]} "  # an earlier client's line may still be on its way
            client.sendall(hello)
            assert is_reset(client)
        until(lambda: any(itself in each for each in self.server.out[seen:]), "its line")
        line = next(each for each in self.server.out[seen:] if itself in each)
        assert " verdict=refused " in line
        return line


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path, getattr(request, "param", 0))


@pytest.fixture
def slow(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path, getattr(request, "param", 0), PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="3")


CHALLENGE = ("acme-tls/1",)
CONNECTION_ID = re.compile(r" connection id=(\d+) ")


@scene_with_workers
def test_a_route_gets_its_certificate_while_the_ca_is_away_at_first(scene: Scene) -> None:
    scene.start()
    scene.add()
    scene.server.line("error", "the CA can't be asked: Connection refused, next try at")
    line = scene.refused(client_hello(WWW))
    assert "reason=certificate_pending" in line
    assert f"there is no certificate for {WWW} yet: the CA can't be asked: Connection refused; next try at" in line
    assert f"warning: {WWW} on" in scene.ok("status")
    explained = scene.run("explain", "--sni", WWW, "--from", "192.0.2.7")
    assert (explained.returncode, "refused: certificate_pending" in explained.stdout) == (1, True)
    scene.pebble.start()
    scene.until_issued()
    assert scene.pebble.orders() == 1
    assert len({scene.serial(client=client) for client in CLIENTS}) == 1, "the same at each worker"
    listed = scene.listed()
    assert (listed["source"], listed["names"], listed["state"], listed["failures"]) == ("acme", [WWW], "waiting", 0)
    assert "warning" not in scene.ok("status")
    assert "pass" in scene.ok("explain", "--sni", WWW, "--from", "192.0.2.7")
    assert "mcproxy_acme_failures{" in scene.ok("metrics")


@scene_with_workers
def test_the_challenge_is_answered_to_nobody_but_whom_an_order_waits_for(scene: Scene, authority: Authority) -> None:
    scene.start()
    chain, key = map(str, authority.pair("files.example.org"))
    scene.add("files.example.org", "--tls-cert", chain, "--tls-key", key)
    line = scene.refused(client_hello("files.example.org", alpn=CHALLENGE))
    assert "reason=challenge_unexpected" in line
    with connect(scene.port) as client:
        hello = client_hello("git.example.org", alpn=CHALLENGE)
        client.sendall(hello)
        assert receive(client, len(hello)) == hello, "an l4 route's backend answers it itself"
    scene.pebble.start()
    scene.add()
    scene.until_issued()
    assert "reason=challenge_unexpected" in scene.refused(client_hello(WWW, alpn=CHALLENGE)), "the order is over"


@pytest.mark.parametrize("workers", NUMBERS)
def test_a_client_that_stalls_within_the_handshake_for_a_challenge_is_ended(tmp_path: Path, workers: int) -> None:
    """What answers it is another context than a route's; the time for its handshake is the same."""
    with ExitStack() as stack:
        scene = Scene(stack, tmp_path, workers, PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME=f"{DEADLINE:.0f}")
        scene.tables["proxy"]["handshake_timeout"] = "1s"
        scene.pebble.start()
        scene.start()
        scene.add()
        until(lambda: scene.listed()["state"] == "validating", "the challenge to be answered")
        clients = []
        for address in CLIENTS:  # each begins at once: the time for its handshake runs from its accept on
            client = stack.enter_context(from_address(address, scene.port))
            clients.append(client)
            client.sendall(client_hello(WWW, alpn=CHALLENGE))
            assert receive(client, 1) == b"\x16", "the first byte of its handshake record, from whichever worker"
        for client in clients:
            itself = " client={}:{} ".format(*client.getsockname())
            with suppress(ConnectionResetError):
                read_all(client)
            assert " reason=handshake_timeout " in scene.server.line(itself)
        if workers > 1:
            served = {int(found[1]) % 100 for found in map(CONNECTION_ID.search, scene.server.out) if found}
            assert served == {1, 2}, "each worker has answered"


@pytest.mark.parametrize("slow", NUMBERS, indirect=True)
def test_a_renewal_comes_into_use_and_live_connections_keep_theirs(slow: Scene) -> None:
    """With a CA that takes some seconds to look at the challenge, three times."""
    scene = slow
    scene.pebble.start()
    scene.start()
    scene.add()
    scene.until_issued()
    first = scene.serial()
    context = ssl.create_default_context(cafile=str(scene.folder / "root.pem"))
    with context.wrap_socket(connect(scene.port), server_hostname=WWW) as live:
        scene.ok("certificates", "renew", WWW)
        until(lambda: scene.serial() != first, "another certificate")
        renewed = scene.serial()
        until(lambda: {scene.serial(client=client) for client in CLIENTS} == {renewed}, "the same at each worker")
        live.sendall(b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
        assert live.recv(1), "it goes on"
    assert scene.pebble.issued() == 2
    done = scene.run("certificates", "renew", "git.example.org")
    assert (done.returncode, done.stderr) == (1, "mcproxy: there is no l7 route git.example.org\n")


def test_a_failed_validation_is_told_in_the_cas_words(scene: Scene) -> None:
    scene.pebble.start()
    scene.start()
    scene.server.signal(signal.SIGTERM)
    scene.server.wait()
    scene.port = free_port()  # the CA looks at another one
    scene.tables["database"] = {"path": "other.db"}
    scene.start()
    scene.add()
    until(lambda: scene.listed()["failures"], "the failure")
    listed = scene.listed()
    assert (listed["failures"], listed["state"]) == (1, "waiting")
    assert "Failed to connect to 127.0.0.1:" in listed["failure"]
    assert listed["failure"] in scene.ok("status")
    assert "its order failed, try 1, next one at " in scene.refused(client_hello(WWW))


@pytest.mark.parametrize(
    ("scene", "state"),
    [(0, "ordering"), (0, "validating"), (0, "issuing"), (0, "certificate of"), (2, "validating")],
    indirect=["scene"],
)
def test_killed_at_any_step_it_goes_on_with_the_same_order(scene: Scene, state: str) -> None:
    scene.pebble.start()
    scene.start()
    scene.add()
    scene.server.line(f"{WWW}: {state}")
    scene.kill()
    scene.start()
    until(lambda: scene.listed()["names"] or scene.listed()["failures"], "a certificate or a failure")
    orders = 1
    if not scene.listed()["names"]:
        # Nobody can know whether the order was made; or the CA looked at the challenge while nobody was there.
        assert scene.listed()["failure"].startswith(("the process ended, or the disk failed", "Failed to connect"))
        assert scene.pebble.orders() <= 1, "no further one before its time"
        scene.ok("certificates", "renew", WWW)
        orders = 2
    scene.until_issued()
    assert scene.pebble.orders() <= orders
    assert scene.pebble.issued() == 1
    serial = scene.serial()
    scene.kill()
    scene.pebble.stop()
    scene.start()
    assert scene.serial(cafile=scene.folder / "root.pem") == serial, "what is durable is served without the CA"


def test_an_account_that_the_ca_has_forgotten_is_made_again(scene: Scene) -> None:
    scene.pebble.start()
    scene.start()
    scene.add()
    scene.until_issued()
    scene.pebble.stop()
    scene.pebble.start()
    scene.ok("certificates", "renew", WWW)
    scene.server.line("error", "(accountDoesNotExist)")
    scene.until_issued()


def test_fifty_names_at_once(scene: Scene) -> None:
    names = [f"n{number}.example.org" for number in range(50)]
    routes = [{"hostname": each, "backend": scene.backend.address, "mode": "l7", "tls": "acme"} for each in names]
    scene.tables["listeners"] = [{"addr": f"127.0.0.1:{scene.port}", "routes": routes}]
    scene.pebble.start()
    scene.start()
    for name in names:
        scene.until_issued(name)
    assert (scene.pebble.orders(), scene.pebble.issued()) == (50, 50)


def test_a_route_moves_from_files_to_acme_and_back_without_a_gap(scene: Scene, authority: Authority) -> None:
    scene.start()
    chain, key = map(str, authority.pair(WWW))
    scene.add(WWW, "--tls-cert", chain, "--tls-key", key)
    old = scene.serial(cafile=authority.path)
    changed = scene.ok("routes", "set", WWW, "--acme")
    assert "tls files -> acme" in changed
    assert scene.serial(cafile=authority.path) == old, "the CA is away, and clients are served"
    scene.kill()
    scene.start()
    assert scene.serial(cafile=authority.path) == old, "after a restart, too"
    scene.pebble.start()
    scene.until_issued()
    scene.ok("routes", "set", WWW, "--tls-cert", chain, "--tls-key", key)
    assert scene.serial(cafile=authority.path) == old


def test_keys_are_in_the_database_and_nowhere_else(scene: Scene) -> None:
    scene.pebble.start()
    database = scene.folder / "mcproxy.db"
    scene.start()
    database.chmod(0o644)
    scene.add()
    scene.until_issued()
    scene.ok("snapshot", "-o", str(scene.folder / "copy.db"))
    for path in (database, scene.folder / "copy.db"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = "".join(
        scene.ok(*command) for command in (
            ("routes", "history", "--everything"), ("export",), ("certificates", "list", "--json"), ("routes", "list"),
            ("status", "--json"), ("metrics",),
        )
    )  # fmt: skip
    with sqlite3.connect(scene.folder / "copy.db") as copy:
        keys = [key for (key,) in copy.execute("SELECT key FROM certificates UNION ALL SELECT key FROM acme_accounts")]
    copy.close()
    assert len(keys) == 2
    everything = shown + "".join([*scene.server.out, *scene.server.err])
    assert not any(line in everything for key in keys for line in key.splitlines()[1:])
    serial = scene.serial()
    scene.kill()
    for name in ("mcproxy.db", "mcproxy.db-wal", "mcproxy.db-shm"):
        (scene.folder / name).unlink(missing_ok=True)
    (scene.folder / "copy.db").rename(database)
    scene.start()
    assert scene.serial() == serial, "a snapshot restores the certificate"


def test_what_is_missing_is_said_before_anything_is_changed(scene: Scene) -> None:
    scene.tables["acme"] = None
    document = {key: value for key, value in scene.document().items() if value is not None}
    write_config(scene.folder, document)
    with Server(scene.folder, document) as server:
        command = ("routes", "add", WWW, "127.0.0.1:1", "--mode", "l7", "--acme")
        done = scene.run(*command)
        assert done.returncode == 2
        assert "--acme: there is no [acme] in the configuration file; add it, with accept_terms = true" in done.stderr
        write_config(scene.folder, {**document, "acme": scene.pebble.section()})
        server.signal(signal.SIGHUP)
        server.line("acme from no table to a table")
        scene.ok(*command)
        server.line("error", "the CA can't be asked: Connection refused")
    document["listeners"][0]["routes"] = [{"hostname": WWW, "backend": "127.0.0.1:1", "mode": "l7", "tls": "acme"}]
    document["database"] = {"path": "other.db"}
    write_config(scene.folder, document)
    done = scene.run("check")
    assert "listeners[0].routes[0].tls: there is no [acme] in the configuration file" in done.stderr
    document["acme"] = {"email": "admin@example.org"}
    write_config(scene.folder, document)
    done = scene.run("check")
    assert done.returncode == 2
    assert "acme: accept_terms must be true: read the CA's terms of service" in done.stderr


def test_an_l4_service_runs_its_own_acme_beside_it(scene: Scene) -> None:
    """Caddy orders through the proxy: its challenges pass untouched, and ours are still ours."""
    caddy, site = shutil.which("caddy", path=str(Path(sys.executable).parent)), "caddy.example.org"
    assert caddy, "the extra `test` installs it"
    port = free_port()
    issuer = {
        "module": "acme", "ca": scene.pebble.directory, "trusted_roots_pem_files": [str(scene.pebble.ca)],
        "challenges": {"http": {"disabled": True}, "tls-alpn": {"alternate_port": port}},
    }  # fmt: skip
    server = {
        "listen": [f"127.0.0.1:{port}"], "tls_connection_policies": [{}],
        "routes": [{"match": [{"host": [site]}], "handle": [{"handler": "static_response", "body": "hello"}]}],
    }  # fmt: skip
    automation = {"policies": [{"subjects": [site], "issuers": [issuer]}]}
    apps = {
        "http": {"http_port": free_port(), "https_port": port, "servers": {"one": server}},
        "tls": {"automation": automation, "certificates": {"automate": [site]}},
    }
    config = {
        "admin": {"disabled": True},
        "apps": apps,
        "storage": {"module": "file_system", "root": str(scene.folder)},
    }
    (scene.folder / "caddy.json").write_text(json.dumps(config))
    scene.pebble.start()
    scene.start()
    scene.ok("routes", "add", site, f"127.0.0.1:{port}")
    scene.add()
    with Program(caddy, "run", "--config", scene.folder / "caddy.json"):
        scene.until_issued(site)
        scene.until_issued()
    assert (scene.pebble.orders(), scene.pebble.issued()) == (2, 2)
    challenges = [each for each in scene.server.out if f" sni={site} " in each and "alpn=acme-tls/1 " in each]
    assert challenges
    assert all("mode=l4" in each and "verdict=routed" in each for each in challenges)
