"""The record of a connection: of one that was routed, one that was refused, and one that is still open."""

import socket

import pytest

from mcproxy.model import Connection, End, Mode, Reason
from mcproxy.net.facts import Facts
from mcproxy.net.shared import Phase
from mcproxy.notation.address import parse_backend
from tests.conftest import MakeBackend
from tests.kit.peers import client_hello, echo, is_reset, read_all, receive
from tests.kit.worker_bench import HELLO, V4, MakeBench, table_for


def test_its_text_shows_what_is_known() -> None:
    first, second = (Facts(number, "[::1]:443", ("2001:db8::1", 1024)) for number in (1, 2))
    assert str(first) == f"{first.id} [::1]:443 2001:db8::1:1024 ?"
    assert repr(second) == f"<Facts {first.id + 1} [::1]:443 2001:db8::1:1024 ?>"


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
        id=session.facts.id,
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
