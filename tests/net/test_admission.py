"""Who is let in, by which table, and that a refusal costs no greenlet; what each limit refuses is in tests/e2e/."""

import socket

from mcproxy.change import listener_key
from mcproxy.model import FirewallRule, Listener, Reason, Route, RuleKind
from mcproxy.net.admission import Admission
from mcproxy.net.facts import Facts
from mcproxy.net.shared import Phase
from mcproxy.notation.address import parse_backend
from mcproxy.policy.limits import Limits
from mcproxy.table import Table
from tests.conftest import MakeBackend
from tests.kit.peers import DEADLINE, is_reset
from tests.kit.tables import with_value, without
from tests.kit.worker_bench import HELLO, V4, MakeBench, swallow, table_for


def test_what_it_has_taken_is_given_back_once(bench: MakeBench) -> None:
    running = bench(table_for("127.0.0.1:9"))
    limits = running.shared.limits
    assert isinstance(limits, Limits)

    def pass_through() -> list[tuple[str, int]]:
        with socket.socket() as client:
            admission = Admission(running.shared, Facts(1, V4, ("::ffff:192.0.2.1", 1024)), client)
            seen = [(repr(admission), limits.connections)]
            admission.let_in()
            seen.append((repr(admission), limits.connections))
            admission.leave()
            admission.leave()
            return [*seen, (repr(admission), limits.connections)]

    seen = running.hub.call(pass_through)
    number = seen[0][0].split()[1]
    assert seen == [
        (f"<Admission {number} {V4} ::ffff:192.0.2.1:1024 ? none>", 0),
        (f"<Admission {number} {V4} 192.0.2.1:1024 ? client>", 1),
        (f"<Admission {number} {V4} 192.0.2.1:1024 ? none>", 0),
    ]


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
