"""Bytes of one side come out at the other, whole and in order, and then the same ending."""

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest
from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

from mcproxy.net.pipes import PIPE_SIZE, Pipes
from mcproxy.net.raw import READ, IoWatcher, unsent
from mcproxy.net.relay import (
    BUFFER,
    FAIR_SHARE,
    FLUSH_CHECK,
    MAX_FLUSH_CHECK,
    Outcome,
    Relay,
    flush,
)
from tests.kit.hub import HubThread
from tests.kit.peers import DEADLINE, pattern, push, read_all, receive, reset, until
from tests.kit.socket_pairs import (
    FAR_BUFFER,
    MOST,
    NEAR_BUFFER,
    MakePair,
    OneWay,
    Watched,
    no_more_descriptors,
    tcp_pair,
    unix_pair,
)

KINDS: dict[str, MakePair] = {"tcp": tcp_pair, "unix": unix_pair}
EVERY_PATH = [pytest.param(KINDS[a], KINDS[b], id=f"{a} to {b}") for a, b in itertools.product(KINDS, repeat=2)]
QUEUED = 96 << 10  # bytes that fit into what lies between two peers, even if nobody reads


class Between:
    """A relay on a hub, between `client` and `backend`."""

    def __init__(self, hub: HubThread) -> None:
        self.hub = hub
        self.pipes = Pipes()
        self.client_end, self.client = tcp_pair()
        self.backend_end, self.backend = tcp_pair()
        self._readable: IoWatcher = hub.call(lambda: get_hub().loop.io(self.client_end.fileno(), READ))
        self.half_closed = 0
        self.greenlet: greenlet | None = None
        self.relay: Relay = hub.call(self._relay)

    def _relay(self) -> Relay:
        return Relay(self.client_end, self._readable, self.backend_end, self.pipes, self._half_closed)

    def _half_closed(self) -> None:
        self.half_closed += 1

    def start(self) -> "Future[None]":
        def run() -> None:
            self.greenlet = getcurrent()
            self.relay.run()

        return self.hub.spawn(run)

    def outcomes(self) -> tuple[Outcome | None, Outcome | None]:
        return self.relay.up.outcome, self.relay.down.outcome

    def close(self) -> None:
        self.hub.call(self._readable.close)
        for each in (self.client_end, self.backend_end, self.client, self.backend):
            each.close()
        self.pipes.close()


@pytest.fixture
def one_way(hub: HubThread) -> Iterator[Callable[..., OneWay]]:
    made: list[OneWay] = []

    def make(*pairs: MakePair) -> OneWay:
        made.append(OneWay(hub, *pairs))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def between(hub: HubThread) -> Iterator[Between]:
    made = Between(hub)
    yield made
    made.close()


# --- one direction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("near", "far"), EVERY_PATH)
def test_everything_up_to_fin_is_passed_on(near: MakePair, far: MakePair, one_way: Callable[..., OneWay]) -> None:
    for size in (0, 4, BUFFER - 4, BUFFER, BUFFER + 4, 2 * BUFFER, 2 * FAIR_SHARE + BUFFER):
        way, data = one_way(near, far), pattern(size)
        outcome = way.start()
        with ThreadPoolExecutor() as pool:
            sent = pool.submit(way.near.sendall, data)
            assert receive(way.far, size) == data
            sent.result(DEADLINE)
        way.near.shutdown(socket.SHUT_WR)
        assert outcome.result(DEADLINE) is way.direction.outcome is Outcome.FIN
        assert way.direction.moved == size


def test_bulk_goes_through_a_pipe_and_talk_does_not(one_way: Callable[..., OneWay]) -> None:
    way = one_way()
    way.start()
    way.near.sendall(b"hello")
    assert receive(way.far, 5) == b"hello"
    assert repr(way.pipes) == "<Pipes spare=0>"
    way.near.sendall(pattern(4 * BUFFER))
    assert receive(way.far, 4 * BUFFER) == pattern(4 * BUFFER)
    until(lambda: repr(way.pipes) == "<Pipes spare=1>", "the pipe to be given back")
    way.near.sendall(b"talk again")
    assert receive(way.far, 10) == b"talk again"


@pytest.mark.parametrize(("near", "far"), EVERY_PATH)
def test_without_descriptors_bulk_is_copied(near: MakePair, far: MakePair, one_way: Callable[..., OneWay]) -> None:
    way, data = one_way(near, far), pattern(2 << 20)
    outcome = way.start()
    with ThreadPoolExecutor() as pool, no_more_descriptors():
        sent = pool.submit(way.near.sendall, data)
        assert receive(way.far, len(data)) == data
        sent.result(DEADLINE)
        way.near.shutdown(socket.SHUT_WR)
        assert outcome.result(DEADLINE) is Outcome.FIN
    assert repr(way.pipes) == "<Pipes spare=0>"


@pytest.mark.parametrize(("near", "far"), EVERY_PATH)
def test_a_reset_ends_it_after_all_that_came_before(
    near: MakePair, far: MakePair, one_way: Callable[..., OneWay]
) -> None:
    way, data = one_way(near, far), pattern(QUEUED)
    way.source.send(b"unread")  # closing with this unread is how a UNIX socket resets
    outcome = way.start()
    way.near.sendall(data)
    until(lambda: not unsent(way.near), "everything to be taken")
    reset(way.near)
    assert receive(way.far, QUEUED) == data
    assert outcome.result(DEADLINE) is Outcome.SOURCE_RESET
    assert way.direction.moved == QUEUED


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "copying"])
@pytest.mark.parametrize(("near", "far"), EVERY_PATH)
def test_who_cannot_write_does_not_read(
    near: MakePair, far: MakePair, bulk: bool, one_way: Callable[..., OneWay]
) -> None:
    way = one_way(near, far)
    with no_more_descriptors() if not bulk else ThreadPoolExecutor():
        outcome, taken = way.stall()
        assert taken <= 2 * 2 * (NEAR_BUFFER + FAR_BUFFER) + (PIPE_SIZE if bulk else BUFFER)
        way.near.shutdown(socket.SHUT_WR)
        assert receive(way.far, taken) == bytes(taken)
        assert outcome.result(DEADLINE) is Outcome.FIN
    assert way.direction.moved == taken


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "copying"])
@pytest.mark.parametrize(("near", "far"), EVERY_PATH)
def test_a_sink_that_goes_away_ends_it(
    near: MakePair, far: MakePair, bulk: bool, one_way: Callable[..., OneWay]
) -> None:
    way = one_way(near, far)
    with no_more_descriptors() if not bulk else ThreadPoolExecutor():
        outcome, _ = way.stall()
        assert way.direction.outcome is None
        reset(way.far)
        assert outcome.result(DEADLINE) is Outcome.SINK_RESET
    assert repr(way.pipes) == "<Pipes spare=0>"  # one with bytes left in it must not be used again


def test_an_urgent_byte_in_the_middle_of_bulk_is_not_the_end(one_way: Callable[..., OneWay]) -> None:
    """With a FIN in the queue, splice stops at the mark as if that were the end of the stream."""
    way, data = one_way(), pattern(QUEUED)
    way.near.sendall(data[: QUEUED // 2])
    way.near.send(b"!", socket.MSG_OOB)
    way.near.sendall(data[QUEUED // 2 :])
    way.near.shutdown(socket.SHUT_WR)
    until(lambda: not unsent(way.near), "everything to arrive")
    outcome = way.start()
    assert receive(way.far, len(data)) == data
    assert outcome.result(DEADLINE) is Outcome.FIN
    assert way.direction.moved == len(data)


# --- stopping a direction ---------------------------------------------------------------------------------------------


def test_stopped_while_it_waits_for_its_source(one_way: Callable[..., OneWay]) -> None:
    way = one_way()
    outcome = way.start()
    way.near.sendall(b"x")
    assert receive(way.far, 1) == b"x"
    way.stop()
    assert outcome.result(DEADLINE) is Outcome.STOPPED


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "copying"])
def test_stopped_while_it_waits_for_its_sink(bulk: bool, one_way: Callable[..., OneWay]) -> None:
    way = one_way()
    with no_more_descriptors() if not bulk else ThreadPoolExecutor():
        outcome, _ = way.stall()
        way.stop()
        assert outcome.result(DEADLINE) is Outcome.STOPPED
    assert repr(way.pipes) == "<Pipes spare=0>"


def test_stopped_before_it_begins_it_moves_nothing(one_way: Callable[..., OneWay]) -> None:
    way = one_way()
    way.near.sendall(b"x")
    way.stop()
    assert way.start().result(DEADLINE) is Outcome.STOPPED
    assert way.direction.moved == 0


def test_stopping_what_has_ended_changes_nothing(one_way: Callable[..., OneWay]) -> None:
    way = one_way()
    outcome = way.start()
    way.near.shutdown(socket.SHUT_WR)
    assert outcome.result(DEADLINE) is Outcome.FIN
    way.stop()
    assert way.direction.outcome is Outcome.FIN


# --- pipes ------------------------------------------------------------------------------------------------------------


# --- both directions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["client", "backend"])
def test_fin_becomes_fin_and_the_other_way_stays_open(first: str, between: Between) -> None:
    done = between.start()
    one, other = between.client, between.backend
    if first == "backend":
        one, other = other, one
    one.sendall(b"question")
    one.shutdown(socket.SHUT_WR)
    assert read_all(other) == b"question"
    until(lambda: between.half_closed == 1, "to hear of it")
    other.sendall(b"answer")
    assert receive(one, 6) == b"answer"
    assert not done.done()
    other.shutdown(socket.SHUT_WR)
    done.result(DEADLINE)
    assert between.outcomes() == (Outcome.FIN, Outcome.FIN)
    assert between.half_closed == 1
    assert between.relay.first_reset is None
    assert between.relay.up.moved + between.relay.down.moved == 14


def test_a_reset_of_the_client_stops_the_backends_way(between: Between) -> None:
    done = between.start()
    between.client.sendall(pattern(QUEUED))
    until(lambda: not unsent(between.client), "everything to be taken")
    reset(between.client)
    assert receive(between.backend, QUEUED) == pattern(QUEUED)
    done.result(DEADLINE)
    assert between.outcomes() == (Outcome.SOURCE_RESET, Outcome.STOPPED)
    assert between.relay.first_reset is between.client_end


def test_a_reset_of_the_backend_stops_the_clients_way(between: Between) -> None:
    done = between.start()
    between.backend.sendall(pattern(QUEUED))
    until(lambda: not unsent(between.backend), "everything to be taken")
    reset(between.backend)
    assert receive(between.client, QUEUED) == pattern(QUEUED)
    done.result(DEADLINE)
    assert between.outcomes() == (Outcome.STOPPED, Outcome.SOURCE_RESET)
    assert between.relay.first_reset is between.backend_end


def test_a_failed_write_leaves_what_the_dead_side_said_before(between: Between) -> None:
    """The backend answers, and resets while the client still sends: a slow client gets the whole answer."""
    between.client_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FAR_BUFFER // 2)
    between.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FAR_BUFFER // 2)
    done = between.start()
    push(between.client, bytes(BUFFER), most=MOST)  # the way up waits for the backend
    between.backend.sendall(pattern(QUEUED))
    until(lambda: not unsent(between.backend), "the answer to be taken")
    assert between.relay.down.moved < QUEUED  # the way down waits for the client, and so does not see what follows
    reset(between.backend)
    until(lambda: between.relay.up.outcome, "the write to fail")
    assert receive(between.client, QUEUED) == pattern(QUEUED)
    done.result(DEADLINE)
    assert between.relay.first_reset is between.backend_end
    # Reading said FIN, because the write had taken the error.
    assert between.outcomes() == (Outcome.SINK_RESET, Outcome.SOURCE_RESET)


def test_a_reset_after_a_fin_ends_the_relay(between: Between) -> None:
    done = between.start()
    between.client.sendall(b"question")
    between.client.shutdown(socket.SHUT_WR)
    assert read_all(between.backend) == b"question"
    reset(between.client)
    with ThreadPoolExecutor() as pool:
        pool.submit(push, between.backend, bytes(BUFFER), MOST)
        done.result(DEADLINE)
    assert between.outcomes() == (Outcome.FIN, Outcome.SINK_RESET)
    assert between.relay.first_reset is between.client_end


@pytest.mark.parametrize("half_closed", [False, True])
def test_cut_from_outside_both_directions_end(half_closed: bool, between: Between) -> None:
    done = between.start()
    between.client.sendall(b"x")
    assert receive(between.backend, 1) == b"x"
    if half_closed:  # the session's own greenlet has only to wait for the other
        between.backend.shutdown(socket.SHUT_WR)
        assert read_all(between.client) == b""

    def cut() -> None:
        between.relay.stop()
        assert between.greenlet
        between.greenlet.throw(GreenletExit)

    between.hub.call(cut)
    assert isinstance(done.exception(DEADLINE), GreenletExit)
    assert between.outcomes() == (Outcome.STOPPED, Outcome.FIN if half_closed else Outcome.STOPPED)


@pytest.mark.parametrize("broken", ["up", "down"])
def test_a_bug_in_one_direction_ends_both_and_is_told(broken: str, between: Between) -> None:
    direction = getattr(between.relay, broken)
    between.hub.call(setattr, direction, "_pipes", Pipes)  # a class has no pipe to give: TypeError
    done = between.start()
    sender = between.client if broken == "up" else between.backend
    sender.sendall(bytes(2 * BUFFER))
    assert isinstance(done.exception(DEADLINE), TypeError)
    until(lambda: between.outcomes() == (Outcome.STOPPED, Outcome.STOPPED), "both to end")


# --- flushing ---------------------------------------------------------------------------------------------------------


def test_a_flush_looks_ever_less_often_until_all_is_taken(hub: HubThread) -> None:
    end, peer = unix_pair()
    with peer, closing(Watched(end.family, end.type, end.proto, end.detach())) as survivor:
        survivor.send(b"queued")
        began = time.monotonic()
        flushed = hub.spawn(flush, survivor)
        until(lambda: survivor.looks >= 6, "six looks")
        assert time.monotonic() - began >= sum(min(FLUSH_CHECK * 2**i, MAX_FLUSH_CHECK) for i in range(5))
        assert not flushed.done()
        assert receive(peer, 6) == b"queued"
        flushed.result(DEADLINE)
