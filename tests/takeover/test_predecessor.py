"""The old server's steps, with a successor that the test plays and a server that only remembers."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mcproxy.takeover.letters import Gone, Kind, Letter, receive, send
from mcproxy.takeover.predecessor import Estate, Predecessor, Released, State, Waits, Withheld
from mcproxy.takeover.seat import Seat
from mcproxy.takeover.successor import Identity
from tests.kit.heirs import ask, connected, take
from tests.kit.hub import messages
from tests.kit.peers import DEADLINE, until

US = Identity("/srv/mcproxy.toml", (1, 2))
IMPATIENT = Waits(ready=0.05, serving=0.05, let_go=0.05)


@dataclass
class Remembered(Estate):
    """What happened to a server."""

    sockets: list[tuple[str, int]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    withheld: str = ""
    broken: int = 0  # how often it can't be resumed
    may_release: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_release.set()

    def release(self) -> Released:
        assert self.may_release.wait(DEADLINE)
        self.done.append("released")
        if self.withheld:
            raise Withheld(self.withheld)
        return Released(self.sockets, 7, "/run/notify", 30.0)

    def resume(self) -> None:
        if self.broken:
            self.broken -= 1
            raise OSError("the disk is full")
        self.done.append("resumed")

    def leave(self, successor: int, *, managed: bool) -> None:
        self.done.append(f"left to {'us' if successor == os.getpid() else successor} managed={managed}")


@dataclass
class Stage:
    """A server that can be succeeded."""

    seat: Seat
    predecessor: Predecessor
    estate: Remembered
    killed: list[int]

    def ask(self, identity: Identity = US, **others: object) -> socket.socket:
        """A successor that has asked."""
        sock = connected(self.seat)
        sock.settimeout(DEADLINE)
        ask(sock, identity, **others)
        return sock

    def goes_on(self) -> None:
        """Wait until it is as it was before."""
        until(lambda: self.predecessor.state is State.SERVING, "it to go on")


Make = Callable[..., Stage]


@pytest.fixture
def make(nothing_left: None, tmp_path: Path) -> Iterator[Make]:
    made: list[Stage] = []

    def stage(waits: Waits = Waits(), uid: int | None = None, **estate: Any) -> Stage:  # noqa: B008 - frozen
        seat, remembered, killed = Seat(tmp_path / "mcproxy.db"), Remembered(**estate), list[int]()

        def kill(_process: int, number: int) -> None:
            killed.append(number)

        predecessor = Predecessor(seat, seat.listen(), US, remembered, waits, kill, uid)
        predecessor.start()
        made.append(Stage(seat, predecessor, remembered, killed))
        return made[-1]

    yield stage
    for each in made:
        each.predecessor.close()


def expect(sock: socket.socket, kind: Kind) -> Letter:
    letter = receive(sock)
    assert letter.kind is kind, letter
    return letter


def test_a_successor_gets_everything_step_by_step(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        stage = make(sockets=[(":443", one.fileno()), (":443", one.fileno()), (":8443", two.fileno())])
        with stage.ask() as sock:
            letter = expect(sock, Kind.SOCKETS)
            assert letter.texts("addresses") == [":443", ":443", ":8443"], "an address may have several"
            ports = []
            for each in letter.sockets:
                with socket.socket(fileno=each) as found:
                    ports.append(found.getsockname()[1])
            assert ports == [one.getsockname()[1]] * 2 + [two.getsockname()[1]]
            last, (listening,) = take(sock)
            assert last.kind is Kind.ALL
            assert [last.number(each) for each in ("generation", "watchdog", "pid")] == [7, 30, os.getpid()]
            assert last.text("notify") == "/run/notify"
            assert stage.predecessor.state is State.RELEASED
            send(sock, Letter(Kind.READY))
            expect(sock, Kind.YOURS)
            assert stage.estate.done == ["released"]
            send(sock, Letter(Kind.SERVING))
            expect(sock, Kind.BYE)
            assert stage.estate.done == ["released", "left to us managed=False"]
            with pytest.raises(Gone):
                receive(sock)
        with connected(stage.seat), listening:
            accepted, _ = listening.accept()
            accepted.close()
    assert repr(stage.predecessor).startswith("<Predecessor left ")


def test_sockets_of_many_listeners_come_in_several_letters(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        stage = make(sockets=[(f":{i}", sock.fileno()) for i in range(450)])
        with stage.ask() as successor:
            last, sockets = take(successor)
            assert last.kind is Kind.ALL
            assert len(sockets) == 451
            for each in sockets:
                each.close()
    stage.goes_on()


def test_a_manager_of_its_own_is_left_to_it(make: Make) -> None:
    stage = make()
    with stage.ask(managed=True) as sock:
        last, (listening,) = take(sock)
        listening.close()
        assert (last.text("notify"), last.number("watchdog")) == ("", 0)
        send(sock, Letter(Kind.READY))
        expect(sock, Kind.YOURS)
        send(sock, Letter(Kind.SERVING))
        expect(sock, Kind.BYE)
    assert stage.estate.done[-1] == "left to us managed=True"


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_successor_that_dies_changes_nothing(steps: int, make: Make) -> None:
    stage = make()
    sock = stage.ask()
    if steps > 0:
        take(sock)[1][0].close()
    if steps > 1:
        send(sock, Letter(Kind.READY))
        expect(sock, Kind.YOURS)
    until(lambda: stage.predecessor.state not in (State.SERVING, State.RELEASING), "it to be released")
    sock.close()
    stage.goes_on()
    assert stage.estate.done == ["released", "resumed"]
    assert not stage.killed
    with stage.ask() as again:
        take(again)[1][0].close()
    stage.goes_on()
    assert stage.estate.done == ["released", "resumed"] * 2


def test_one_that_is_not_ready_in_time_lets_go_or_is_killed(make: Make) -> None:
    """Else it could wake up later, and write to a database that has another owner."""
    stage = make(waits=Waits(ready=0.05, let_go=DEADLINE))
    with stage.ask() as sock:
        take(sock)[1][0].close()
        assert "not ready in time" in expect(sock, Kind.WITHDRAWN).text("why")
        assert stage.estate.done == ["released"], "it may still have the database"
    stage.goes_on()
    assert not stage.killed
    stage = make(waits=IMPATIENT)
    with stage.ask() as sock:
        take(sock)[1][0].close()
        stage.goes_on()
        assert stage.killed == [9]
    assert stage.estate.done == ["released", "resumed"]


def test_one_that_owns_the_database_and_does_not_accept_is_left_alone(make: Make) -> None:
    """It may have changed something; the service manager's watchdog ends it."""
    stage = make(waits=IMPATIENT)
    with stage.ask() as sock:
        take(sock)[1][0].close()
        send(sock, Letter(Kind.READY))
        expect(sock, Kind.YOURS)
        expect(sock, Kind.BYE)
    assert stage.estate.done == ["released", "left to us managed=False"]


def test_a_second_one_is_refused_meanwhile(make: Make) -> None:
    stage = make()
    with stage.ask() as first, stage.ask() as second:
        assert "it is released now" in expect(second, Kind.REFUSED).text("why") or "releasing"
        take(first)[1][0].close()
    stage.goes_on()
    assert stage.estate.done == ["released", "resumed"]


@pytest.mark.parametrize(
    ("identity", "others", "why"),
    [
        (Identity("/tmp/other.toml", (1, 2)), {}, "with another configuration, /srv/mcproxy.toml, not /tmp/other.toml"),
        (Identity("/srv/mcproxy.toml", (1, 3)), {}, "it has another file open as its database"),
        (US, {"protocol": 2}, "takes over in another way: restart instead"),
    ],
)
def test_others_are_refused(identity: Identity, others: dict[str, Any], why: str, make: Make) -> None:
    stage = make()
    with messages() as logged, stage.ask(identity, **others) as sock:
        letter = expect(sock, Kind.REFUSED)
        assert why in letter.text("why")
        assert letter.number("pid") == os.getpid()
        until(lambda: any(why in line for line in logged), "a line")
    assert stage.estate.done == []


def test_another_user_is_refused(make: Make) -> None:
    stage = make(uid=os.geteuid() + 1)
    with stage.ask() as sock:
        assert "it is another user's" in expect(sock, Kind.REFUSED).text("why")
    with connected(stage.seat) as sock:
        sock.settimeout(DEADLINE)
        send(sock, Letter(Kind.LOOK))
        expect(sock, Kind.REFUSED)
    assert stage.estate.done == []


def test_nonsense_is_not_understood_and_forgotten(make: Make) -> None:
    stage = make()
    with messages() as logged, connected(stage.seat) as sock:
        sock.send(b"nonsense")
        sock.settimeout(DEADLINE)
        assert sock.recv(1) == b""
        line = "warning a process that asked to take over was not understood: a letter that is not JSON"
        until(lambda: line in logged, "its line")
    with stage.ask() as sock:
        take(sock)[1][0].close()
    stage.goes_on()


def test_what_can_not_be_released_is_not_handed_over(make: Make) -> None:
    stage = make(withheld="the disk hangs")
    with stage.ask() as sock:
        assert expect(sock, Kind.REFUSED).text("why") == "the disk hangs"
    stage.goes_on()
    assert stage.estate.done == ["released", "resumed"]


def test_a_stop_withdraws_what_was_offered(make: Make) -> None:
    stage = make()
    with stage.ask() as sock:
        take(sock)[1][0].close()
        stage.predecessor.close()
        assert expect(sock, Kind.WITHDRAWN).text("why") == "it stops"
    assert stage.estate.done == ["released"]
    assert stage.seat.connect() is None
    assert not stage.seat.path.exists()


def test_a_server_that_stops_takes_nothing_back(make: Make) -> None:
    stage = make(broken=1)
    with messages() as logged:
        sock = stage.ask()
        take(sock)[1][0].close()
        sock.close()
        until(lambda: any("trying again in 5 s" in line for line in logged), "it to fail")
        stage.predecessor.close()
    assert stage.estate.done == ["released"]
