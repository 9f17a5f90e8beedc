"""A session: what it says of itself, when it is overdue, and that a bug in one is that one's end only.

The clock that deadlines go by is the test's to wind; that the right deadline strikes is seen from outside.
"""

import re
import socket
from collections.abc import Mapping
from typing import Any, cast

import pytest

from mcproxy.change import listener_key
from mcproxy.model import Connection, End, FirewallRule, Listener, Mode, Reason, Route, RuleKind
from mcproxy.net.session import Session
from mcproxy.net.shared import Cut, Phase
from mcproxy.net.sweep import LATENESS, Overdue, Sweeper
from mcproxy.notation.address import parse_backend
from mcproxy.policy.networks import Networks, pack
from mcproxy.table import ListenerTable, Table
from tests.conftest import MakeBackend
from tests.kit.hub import is_turned_away, messages
from tests.kit.peers import DEADLINE, client_hello, echo, is_reset, read_all, receive, until
from tests.kit.tables import with_value, without
from tests.kit.worker_bench import HELLO, TIMEOUTS, V4, MakeBench, swallow, table_for

# --- what it says of itself -------------------------------------------------------------------------------------------


def test_its_repr_shows_where_it_is(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(echo).address))
    with running.client() as client:
        port = client.getsockname()[1]
        session = running.reach(Phase.PEEKING)
        assert re.fullmatch(rf"<Session \d+ peeking 127\.0\.0\.1:0 127\.0\.0\.1:{port} \?>", repr(session))
        client.sendall(HELLO)
        running.reach(Phase.RELAYING)
        assert re.fullmatch(rf"<Session \d+ relaying 127\.0\.0\.1:0 127\.0\.0\.1:{port} a\.test>", repr(session))
    running.last()
    assert " ended " in repr(session)


def test_the_record_of_a_connection_that_was_routed(bench: MakeBench, backend: MakeBackend) -> None:
    server = backend(echo)
    running = bench(table_for(server.address))
    with running.client(HELLO) as client:
        source = client.getsockname()
        assert len(receive(client, len(HELLO))) == len(HELLO)
        session = running.reach(Phase.RELAYING)
        open_one = session.connection()
        client.sendall(b"x" * 1000)
        client.shutdown(socket.SHUT_WR)
        assert len(read_all(client)) == 1000
    ended = running.last()
    assert ended._replace(started=0, duration=0) == Connection(
        id=session.id,
        started=0,
        duration=0,
        listener=V4,
        client=source,
        sni="a.test",
        versions=(0x0304, 0x0303),
        alpn=(b"h2", b"http/1.1"),
        ech=False,
        route="a.test",
        mode=Mode.L4,
        backend=parse_backend(server.address),
        reason=Reason.OK,
        detail="",
        received=len(HELLO) + 1000,
        sent=len(HELLO) + 1000,
        end=End.CLOSED,
    )
    assert ended.started == pytest.approx(open_one.started, abs=1)
    assert 0 < open_one.duration <= ended.duration
    assert (open_one.received, open_one.sent) == (len(HELLO), len(HELLO))


def test_the_record_of_a_connection_that_was_refused(bench: MakeBench) -> None:
    running = bench(table_for("127.0.0.1:9"))
    with running.client(client_hello("b.test")) as client:
        assert is_reset(client)
    ended = running.last()
    assert (ended.reason, ended.detail) == (Reason.ROUTE_UNKNOWN, "no route for b.test on this listener")
    assert (ended.sni, ended.route, ended.mode, ended.backend) == ("b.test", "", "", None)
    assert (ended.received, ended.sent, ended.end, ended.verdict) == (0, 0, End.REFUSED, "refused")
    assert ended.versions == (0x0304, 0x0303)


# --- which table holds ------------------------------------------------------------------------------------------------


def test_a_rule_holds_for_who_is_known_only_now(bench: MakeBench, backend: MakeBackend) -> None:
    """A client is blocked while one of its connections still waits for its PROXY header."""
    route = Route("a.test", parse_backend(backend(swallow).address))
    behind = Listener(V4, proxy_protocol=True, trusted_proxies=("127.0.0.0/8",))
    table = Table.build([(behind, [route])])
    running = bench(table)
    with running.client() as client:
        running.reach(Phase.PEEKING)
        running.hub.call(running.worker.publish, with_value(table, FirewallRule(RuleKind.IP, "192.0.2.7")))
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 1024 443\r\n" + HELLO)
        assert is_reset(client)
    assert running.last().reason is Reason.BLOCKED_IP


def test_a_connection_outlives_its_listener(bench: MakeBench, backend: MakeBackend) -> None:
    route = Route("a.test", parse_backend(backend(swallow).address))
    table = Table.build([(Listener(V4, proxy_protocol=True, trusted_proxies=("127.0.0.0/8",)), [route])])
    running = bench(table)
    with running.client() as client:
        running.reach(Phase.PEEKING)
        running.hub.call(running.worker.publish, without(table, listener_key(V4)))
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 1024 443\r\n" + HELLO)
        running.reach(Phase.RELAYING)


# --- when it is overdue -----------------------------------------------------------------------------------------------


def test_the_deadline_of_the_hello_is_a_total(bench: MakeBench) -> None:
    running = bench(table_for("127.0.0.1:9"))
    with running.client() as client:
        running.reach(Phase.PEEKING)
        for byte in HELLO[:9]:
            client.sendall(bytes([byte]))
            running.wind(1)
        running.reach(Phase.PEEKING)
        running.wind(1 + 2 * LATENESS)
        assert is_reset(client)
    ended = running.last()
    assert (ended.reason, ended.detail) == (Reason.HANDSHAKE_TIMEOUT, "no whole ClientHello in 10 s")


def test_the_deadline_of_the_hello_ends_before_the_relay_begins(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(swallow).address))
    with running.client() as client:
        running.reach(Phase.PEEKING)
        running.wind(TIMEOUTS.handshake - 1)
        client.sendall(HELLO)
        running.reach(Phase.RELAYING)
        running.wind(TIMEOUTS.handshake + TIMEOUTS.connect)
        running.reach(Phase.RELAYING)
    assert running.last().end is End.CLOSED


# --- cut from outside -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.PEEKING, Phase.DIALLING, Phase.RELAYING])
def test_a_session_can_be_cut_wherever_it_waits(
    phase: Phase, bench: MakeBench, backend: MakeBackend, full_socket: str
) -> None:
    running = bench(table_for(full_socket if phase is Phase.DIALLING else backend(swallow).address))
    with running.client(b"" if phase is Phase.PEEKING else HELLO) as client:
        running.hub.call(running.reach(phase).cut, Cut(End.KILLED))
        assert is_reset(client)
    ended = running.last()
    assert ended.end is End.KILLED
    assert ended.reason is (Reason.OK if phase is Phase.RELAYING else Reason.KILLED)


def test_who_cuts_too_late_hits_nobody(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(swallow).address))
    with running.client(HELLO):
        session = running.reach(Phase.RELAYING)
    assert running.last().end is End.CLOSED
    running.hub.call(session.cut, Cut(End.KILLED))  # its greenlet rests now
    with running.client(HELLO):
        running.reach(Phase.RELAYING)
        running.hub.call(session.cut, Cut(End.KILLED))  # and now it works for another
        assert running.reach(Phase.RELAYING) is not session
    assert running.last().end is End.CLOSED
    assert len(running.ended) == 2


# --- a bug ------------------------------------------------------------------------------------------------------------


class BrokenGeoIP:
    """A database of countries whose reader has a bug, for one address."""

    def country(self, packed: bytes) -> str:
        if packed == pack("127.0.0.66"):
            raise RuntimeError("a bug in the lookup")
        return "DE"


class BrokenRoutes(dict[str, Route]):
    """Routes of which one can't be looked up."""

    def get(self, name: str, default: Any = None) -> Any:
        if name == "broken.test":
            raise RuntimeError("a bug in the lookup")
        return super().get(name, default)


class BrokenSweeper(Sweeper):
    """Fails to arm the deadline of one side's having ended, which is done in the other greenlet of the pair."""

    def arm(self, entry: Overdue, seconds: float) -> None:
        if cast("Session", entry).phase is Phase.HALF_CLOSED:
            raise RuntimeError("a bug in the lookup")
        super().arm(entry, seconds)


def assert_bug_was_told(logged: list[str], ended: Connection) -> None:
    (line,) = [line for line in logged if line.startswith("error")]
    assert re.match(rf"error bug in <Session {ended.id} ", line)
    assert "Traceback (most recent call last)" in line
    assert line.endswith("RuntimeError: a bug in the lookup")
    assert (ended.end, ended.reason) == (End.ERROR, Reason.INTERNAL_ERROR)


def test_a_bug_in_a_policy_ends_that_session_only(bench: MakeBench, backend: MakeBackend) -> None:
    table = with_value(table_for(backend(echo).address), FirewallRule(RuleKind.COUNTRY, "XX"))
    running = bench(table, geoip=BrokenGeoIP())
    with messages() as logged, running.client(HELLO) as other:
        running.reach(Phase.RELAYING)
        assert is_turned_away(running.hub.door, running.worker.addresses[V4][1], source="127.0.0.66")
        until(lambda: running.ended, "the session to end")
        assert_bug_was_told(logged, running.ended[0])
        assert len(receive(other, len(HELLO))) == len(HELLO)
        running.reach(Phase.RELAYING)
    assert running.last().end is End.CLOSED


def test_a_bug_in_the_table_ends_that_session_only(bench: MakeBench, backend: MakeBackend) -> None:
    routes: Mapping[str, Route] = BrokenRoutes({"a.test": Route("a.test", parse_backend(backend(swallow).address))})
    running = bench(Table(listeners={V4: ListenerTable(Listener(V4), Networks(), routes)}))
    with messages() as logged:
        with running.client(client_hello("broken.test")) as client:
            assert is_reset(client)
        assert_bug_was_told(logged, running.last())
    with running.client(HELLO):
        running.reach(Phase.RELAYING)
    assert running.last().end is End.CLOSED


@pytest.mark.parametrize("first", ["client", "backend"])
def test_a_bug_in_either_direction_ends_that_session_only(first: str, bench: MakeBench, backend: MakeBackend) -> None:
    server = backend(swallow)
    running = bench(table_for(server.address), sweeper=BrokenSweeper)
    with messages() as logged, running.client(HELLO) as client:
        running.reach(Phase.RELAYING)
        until(lambda: server.connections, "the backend to accept")
        (client if first == "client" else server.connections[0]).shutdown(socket.SHUT_WR)
        assert_bug_was_told(logged, running.last())
    assert running.last().end is End.ERROR


# --- before it begins -------------------------------------------------------------------------------------------------


def test_who_is_cut_between_accept_and_begin_never_begins(bench: MakeBench, backend: MakeBackend) -> None:
    """The firewall lets a session in a round before it begins: a rule that comes in between cuts it."""
    running = bench(table_for(backend(echo).address))
    port = running.open()

    def accept_and_cut() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), DEADLINE)
        client.sendall(HELLO)
        running.worker.close(V4)  # which accepts those whose handshake is over
        (session,) = running.worker.sessions()
        session.cut(Cut(End.KILLED))
        return client

    with running.hub.call(accept_and_cut) as client:
        assert is_reset(client)
    ended = running.last()
    assert (ended.end, ended.reason, ended.sni) == (End.KILLED, Reason.KILLED, "")
    assert running.shared.not_begun == 0


def test_a_refusal_that_needs_no_byte_is_over_before_the_hub_turns(bench: MakeBench) -> None:
    """It costs half as much as one with a watcher and a greenlet."""
    running = bench(with_value(table_for("127.0.0.1:9"), FirewallRule(RuleKind.IP, "127.0.0.1")))
    port = running.open()

    def accept() -> tuple[socket.socket, int, int]:
        client = socket.create_connection(("127.0.0.1", port), DEADLINE)
        running.worker.close(V4)
        return client, len(running.worker.sessions()), len(running.ended)

    client, left, ended = running.hub.call(accept)
    with client:
        assert is_reset(client)
    assert (left, ended, running.last().reason) == (0, 1, Reason.BLOCKED_IP)
