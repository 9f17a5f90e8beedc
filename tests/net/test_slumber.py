"""Who is silent rests, and nothing is lost by it: the end, a cut, a deadline and bytes find a session that rests."""

import socket
import threading
from collections.abc import Callable

import pytest

from mcproxy.model import End
from mcproxy.net.crew import MAX_RESTING
from mcproxy.net.delivery import VISITS
from mcproxy.net.session import Session
from mcproxy.net.shared import Cut, Phase
from mcproxy.net.slumber import KEPT, MANY, MOST, SLICE, Slumber
from mcproxy.net.sweep import LATENESS
from tests.conftest import MakeBackend
from tests.kit.peers import DEADLINE, echo, is_reset, push, receive, reset, until
from tests.kit.worker_bench import HELLO, TIMEOUTS, Bench, MakeBench, swallow, table_for


class Silent:
    """A session, and its carrier, as they are looked at."""

    def __init__(self, may_rest: bool = True) -> None:
        self.received = self.sent = 0
        self.carrier = self
        self.may_rest = may_rest
        self.asked = 0

    def rest(self) -> bool:
        self.asked += 1
        return self.may_rest


def slumber_of(
    awake: dict[Silent, int], free: Callable[[], object] = lambda: None, keep: Callable[[int], object] = lambda _: None
) -> Slumber:
    return Slumber(awake, keep, free)  # type: ignore[arg-type]


def test_only_who_has_moved_nothing_since_the_last_look_is_asked() -> None:
    silent, busy = Silent(), Silent()
    slumber = slumber_of({silent: -1, busy: -1})
    for _ in range(4):
        slumber.step()
        busy.received += 1
    assert (silent.asked, busy.asked) == (3, 0), "the first look is at those that are new"


def test_who_can_not_rest_is_asked_again_and_who_has_ended_is_not() -> None:
    stuck, over = Silent(may_rest=False), Silent()
    awake = {stuck: -1, over: -1}
    slumber = slumber_of(awake)
    slumber.step()
    assert set(awake.values()) == {0}
    del awake[over]
    slumber.step()
    slumber.step()
    assert (stuck.asked, over.asked) == (2, 0)


def test_many_rest_a_few_in_each_beat_and_then_memory_is_given_back() -> None:
    freed = threading.Event()
    awake = {Silent(): 0 for _ in range(MANY + MOST)}
    slumber = slumber_of(awake, freed.set)
    while awake:
        assert not freed.is_set()
        slumber.step()
        rested = [each for each in awake if each.asked]
        assert SLICE <= len(rested) <= MOST
        for each in rested:  # as the carriers do
            del awake[each]
    slumber.step()
    assert freed.wait(DEADLINE)


def test_the_crew_keeps_few_of_the_greenlets_that_many_give_back_at_once() -> None:
    """It kept 512 of those of 1,000 idle connections, which made half of what these take."""
    kept: list[int] = []
    awake = {Silent(): 0 for _ in range(4 * MOST)}
    slumber = slumber_of(awake, keep=kept.append)
    slumber.step()
    assert kept == [KEPT, KEPT]
    awake.clear()
    slumber.step()
    assert kept[-1] == MAX_RESTING
    awake[Silent()] = 0
    slumber.step()
    assert kept[-1] == MAX_RESTING, "where few rest, the next connections have theirs"


@pytest.fixture
def lay(bench: MakeBench) -> Callable[..., tuple[Bench, Session, socket.socket]]:
    """A connection to a backend, which rests."""

    def run(address: str, sends: bytes = HELLO) -> tuple[Bench, Session, socket.socket]:
        running = bench(table_for(address))
        client = running.client(sends)
        session = running.reach(Phase.RELAYING)
        rest(running, session)
        return running, session, client

    return run


def rest(running: Bench, session: Session) -> None:
    slumber = running.hub.call(Slumber, running.shared.awake, running.shared.crew.keep, lambda: None)

    def rests() -> bool:
        running.hub.call(slumber.step)
        return session.carrier is not None and session.carrier.rests

    until(rests, "it to rest")
    assert session.phase is Phase.RELAYING


Lay = Callable[..., tuple[Bench, Session, socket.socket]]


def test_it_holds_no_greenlet_and_goes_on_both_ways_again_and_again(lay: Lay, backend: MakeBackend) -> None:
    running, session, client = lay(backend(echo).address)
    with client:
        assert receive(client, len(HELLO)) == HELLO
        for count in range(3):
            rest(running, session)
            assert session._job is not None
            assert not session._job.is_at_work
            assert not running.shared.awake
            client.sendall(b"again")
            assert receive(client, 5) == b"again"
            both = (len(HELLO) + 5 * (count + 1),) * 2
            until(lambda b=both: (session.received, session.sent) == b)  # type: ignore[misc]
        rest(running, session)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert running.last().end is End.CLOSED
    assert not running.shared.outgoing.own._copies


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_reset_finds_it(side: str, lay: Lay, backend: MakeBackend) -> None:
    over = threading.Event()

    def hold(_connection: socket.socket) -> None:
        assert over.wait(DEADLINE)

    server = backend(hold)
    running, _, client = lay(server.address)
    with client:
        until(lambda: server.connections, "the backend to accept")
        reset(client if side == "client" else server.connections[0])
        ended = running.last()
    over.set()
    assert ended.end is (End.CLIENT_RESET if side == "client" else End.BACKEND_RESET)


def test_a_cut_ends_it_at_once(lay: Lay, backend: MakeBackend) -> None:
    running, session, client = lay(backend(swallow).address)

    def cut() -> int:
        session.cut(Cut(End.KILLED))
        return len(running.shared.sessions)

    with client:
        assert running.hub.call(cut) == 0
        assert is_reset(client)
    assert (running.last().end, running.last().received) == (End.KILLED, len(HELLO))


def test_a_cut_that_comes_when_it_has_been_stirred_is_not_lost(lay: Lay, backend: MakeBackend) -> None:
    running, session, client = lay(backend(swallow).address)

    def stir_and_cut() -> None:
        session.carrier._stirred()  # type: ignore[union-attr]
        session.cut(Cut(End.KILLED))

    with client:
        running.hub.call(stir_and_cut)
        assert is_reset(client)
    assert running.last().end is End.KILLED


def test_its_deadline_and_the_end_of_draining_find_it(lay: Lay, backend: MakeBackend) -> None:
    running, session, client = lay(backend(swallow).address)
    with client:
        running.deliver(session)
        running.wind(TIMEOUTS.idle + 2 * TIMEOUTS.idle / VISITS + (VISITS + 1) * 2 * LATENESS)
        assert is_reset(client)
    assert running.last().end is End.IDLE_TIMEOUT
    running, _, client = lay(backend(swallow).address)
    with client:
        assert not running.drain(0)
        assert is_reset(client)
    assert running.last().end is End.SHUTDOWN


def test_half_of_a_connection_and_bytes_that_nobody_takes_keep_it_awake(bench: MakeBench, backend: MakeBackend) -> None:
    over = threading.Event()

    def hold(_connection: socket.socket) -> None:
        assert over.wait(DEADLINE)

    running = bench(table_for(backend(hold).address))
    with running.client(HELLO) as half, running.client(HELLO) as full:
        running.reach(Phase.RELAYING, Phase.RELAYING)
        push(full, bytes(1 << 20), most=64 << 20)  # more than all buffers on the way take
        half.shutdown(socket.SHUT_WR)
        running.reach(Phase.HALF_CLOSED, Phase.RELAYING)
        slumber = running.hub.call(Slumber, running.shared.awake, running.shared.crew.keep, lambda: None)
        for _ in range(4):
            running.hub.call(slumber.step)
        assert len(running.shared.awake) == 2
        over.set()
