"""Certificates ordered from a real ACME server, Pebble, which validates at the proxy's own port."""

import datetime as dt
import json
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import pytest
from acme import client, messages
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from tests.kit.acme_scene import CLIENTS, WWW, Scene, from_address
from tests.kit.ca_relay import Answer, Asked, CARelay
from tests.kit.killed_orders import Step, killed_at
from tests.kit.peers import (
    DEADLINE,
    Authority,
    Backend,
    client_hello,
    connect,
    echo,
    free_port,
    read_all,
    receive,
    tls,
    until,
)
from tests.kit.program import Program, Server, write_config

NUMBERS = [1, 2]  # of workers
scene_with_workers = pytest.mark.parametrize("scene", NUMBERS, indirect=True)


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
    refused = f"the CA can't be asked at {scene.pebble.directory}: Connection refused"
    scene.server.line("error", f"{refused}, next try at")
    line = scene.refused(client_hello(WWW))
    assert "reason=certificate_pending" in line
    assert f"there is no certificate for {WWW} yet: {refused}; next try at" in line
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
    status = json.loads(scene.ok("status", "--json"))
    assert status["listeners"][0]["ended"]["challenge"] > 0
    assert 'verdict="challenge"' in scene.ok("metrics")
    asked = {each["hostname"] for each in status["route_counters"]}
    assert asked == {"git.example.org", WWW}, "who asks for a challenge is no client of an l7 route"


def _begins(stack: ExitStack, address: str, port: int, clients: list[socket.socket]) -> bool:
    """Whether a CA's handshake from there gets its first byte before its time is over, on a loaded machine."""
    client = stack.enter_context(from_address(address, port))
    client.sendall(client_hello(WWW, alpn=CHALLENGE))
    try:
        assert receive(client, 1) == b"\x16", "of a handshake record, from whichever worker"
    except ConnectionResetError:
        return False
    clients.append(client)
    return True


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
        clients: list[socket.socket] = []
        for address in CLIENTS:  # each begins at once: the time for its handshake runs from its accept on
            until(partial(_begins, stack, address, scene.port, clients), "a handshake to begin in time")
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


def test_a_failed_validation_is_told_in_the_cas_words(scene: Scene, authority: Authority) -> None:
    scene.pebble.start()
    asked, scene.port = scene.port, free_port()  # the CA looks at another one
    scene.start()
    scene.add()
    until(lambda: scene.listed()["failures"], "the failure")
    listed = scene.listed()
    assert (listed["failures"], listed["state"]) == (1, "waiting")
    assert "Failed to connect to 127.0.0.1:" in listed["failure"]
    assert listed["failure"] in scene.ok("status")
    assert "its order failed, try 1, next one at " in scene.refused(client_hello(WWW))
    context = authority.server_context(WWW)
    context.set_alpn_protocols(CHALLENGE)
    other = Backend(tls(context, echo), port=asked)
    scene.ok("firewall", "add", "0.0.0.0/1", "--yes")
    scene.ok("certificates", "renew", WWW)
    until(lambda: scene.listed()["failures"] == 2, "another failure")
    other.close()
    wrong = scene.listed()["failure"]
    assert "Failed to connect" not in wrong, "somebody else answers, without the key authorization"
    assert "(unauthorized)" in wrong
    blocked = "the firewall blocks 0.0.0.0/1, and a CA validates from several countries and networks"
    assert wrong.endswith(f"; {blocked}")
    explained = scene.run("explain", "--sni", WWW, "--from", "192.0.2.7").stdout
    assert " ".join(explained.split()).count(blocked) == 1
    assert f"{blocked}: an order fails if one of them is blocked" in scene.run("check").stderr


@pytest.mark.parametrize(
    ("workers", "step", "when"),
    [
        (1, ("order-plz", 1), "before"), (1, ("order-plz", 1), "after"), (2, ("chalZ", 1), "before"),
        (1, ("finalize-order", 1), "before"), (1, ("finalize-order", 1), "after"), (1, ("certZ", 1), "after"),
    ],
    ids=str,
)  # fmt: skip
def test_killed_at_any_step_it_goes_on_with_the_same_order(tmp_path: Path, workers: int, step: Step, when: str) -> None:
    """Some steps; `python -m tests.kit.killed_orders` takes them all."""
    with ExitStack() as stack:
        scene = Scene(stack, tmp_path, workers, PEBBLE_WFE_NONCEREJECT="0")
        relay = CARelay(stack, scene.pebble.start())
        scene.tables["acme"] = relay.section()
        killed_at(scene, relay, step, when)


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
    serial = scene.serial()
    revoke_account(scene)
    scene.ok("certificates", "renew", WWW)
    scene.server.line("warning", "is no longer valid: a new one is registered")
    until(lambda: scene.serial() != serial, "a certificate for a new account")
    assert scene.listed()["failures"] == 0


def revoke_account(scene: Scene) -> None:
    """As its owner may, or the CA."""
    with closing(sqlite3.connect(scene.folder / "mcproxy.db")) as database:
        ((key, url),) = database.execute("SELECT key, url FROM acme_accounts")
    loaded = JWKEC(key=load_pem_private_key(key.encode(), password=None))
    net = client.ClientNetwork(loaded, alg=ES256, verify_ssl=str(scene.pebble.ca))  # type: ignore[arg-type]
    ca = client.ClientV2(client.ClientV2.get_directory(scene.pebble.directory, net), net)
    ca.deactivate_registration(messages.RegistrationResource(body=messages.Registration(), uri=url))


def test_another_ca_replaces_certificates_and_is_obeyed(scene: Scene) -> None:
    """It says when to renew (RFC 9773), and later that it has had enough; Pebble can do neither."""
    scene.pebble.start()
    scene.start()
    scene.add()
    scene.until_issued()
    first = scene.serial()
    ca = CARelay(scene.stack, scene.pebble)
    begin = (dt.datetime.now(dt.UTC) + dt.timedelta(days=10)).replace(microsecond=0)
    refused = dict[str, Answer]()

    def after(asked: Asked, answer: Answer) -> Answer:
        if asked.kind != "dir":
            return answer
        return json_answer({**json.loads(answer.body), "renewalInfo": f"{ca.url}/info"})

    def before(asked: Asked) -> Answer | None:
        if asked.kind != "info":
            return refused.get(asked.kind)
        window = {"start": begin.isoformat(), "end": (begin + dt.timedelta(hours=1)).isoformat()}
        return json_answer({"suggestedWindow": window})

    ca.before, ca.after = before, after
    write_config(scene.folder, {**scene.document(), "acme": ca.section()})
    scene.server.signal(signal.SIGHUP)
    until(lambda: scene.serial() != first, "a certificate of the other CA")
    until(lambda: 0 <= scene.listed()["next_at"] - begin.timestamp() <= 3600, "a renewal within its window")
    serial = scene.serial()
    limited = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates"}
    times = {"Date": "Sat, 03 Jan 1970 00:00:00 GMT", "Retry-After": "Sat, 03 Jan 1970 02:00:00 GMT"}
    refused["order-plz"] = Answer(
        429, {"Content-Type": "application/problem+json", **times}, json.dumps(limited).encode()
    )
    now = time.time()
    scene.ok("certificates", "renew", WWW)
    until(lambda: scene.listed()["failures"], "the CA's refusal")
    listed = scene.listed()
    assert listed["failure"] == "too many certificates (rateLimited)"
    assert now + 7200 <= listed["next_at"] < now + 7200 + DEADLINE, "Retry-After, by the CA's clock"
    assert scene.serial() == serial, "the old one serves"
    assert ca.ordered(WWW) == 1
    assert "not renewed: try 1 failed, next one in 1h" in scene.ok("certificates", "list")


def json_answer(value: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json", "Replay-Nonce": "bm9uY2U"}, json.dumps(value).encode())


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
    with closing(sqlite3.connect(scene.folder / "copy.db")) as copy:
        keys = [key for (key,) in copy.execute("SELECT key FROM certificates UNION ALL SELECT key FROM acme_accounts")]
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
        server.line("error", f"the CA can't be asked at {scene.pebble.directory}: Connection refused")
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
