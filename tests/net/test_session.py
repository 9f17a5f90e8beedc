"""A session: what it says of itself, when it is overdue, and that a bug in one is that one's end only.

The clock that deadlines go by is the test's to wind; that the right deadline strikes is seen from outside.
"""

import re
import socket
from collections.abc import Mapping
from typing import Any, cast

import pytest

from mcproxy.model import Connection, End, FirewallRule, Listener, Reason, Route, RuleKind
from mcproxy.net.session import Session
from mcproxy.net.shared import Cut, Phase
from mcproxy.net.sweep import LATENESS, Overdue, Sweeper
from mcproxy.notation.address import parse_backend
from mcproxy.policy.networks import Networks, pack
from mcproxy.table import ListenerTable, Table
from tests.conftest import MakeBackend
from tests.kit.hub import is_turned_away, messages
from tests.kit.peers import DEADLINE, client_hello, echo, is_reset, receive, until
from tests.kit.tables import with_value
from tests.kit.worker_bench import HELLO, TIMEOUTS, V4, MakeBench, swallow, table_for

# --- what it says of itself -------------------------------------------------------------------------------------------


def test_its_repr_shows_where_it_is(bench: MakeBench, backend: MakeBackend) -> None:
    running = bench(table_for(backend(echo).address))
    with running.client() as client:
        port = client.getsockname()[1]
        session = running.reach(Phase.PEEKING)
        assert re.fullmatch(rf"<Session \d+ 127\.0\.0\.1:0 127\.0\.0\.1:{port} \? peeking>", repr(session))
        client.sendall(HELLO)
        running.reach(Phase.RELAYING)
        assert re.fullmatch(rf"<Session \d+ 127\.0\.0\.1:0 127\.0\.0\.1:{port} a\.test relaying>", repr(session))
    running.last()
    assert repr(session).endswith(" ended>")


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
