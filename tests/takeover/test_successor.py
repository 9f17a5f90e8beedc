"""The new server's steps, with an old one that the test plays."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mcproxy.takeover.letters import Kind, Letter, receive, send
from mcproxy.takeover.seat import Seat
from mcproxy.takeover.successor import Identity, Successor, TakeoverError
from tests.kit.hub import messages
from tests.kit.peers import DEADLINE

US = Identity("/srv/mcproxy.toml", (1, 2))


class Stage:
    """A successor, and the old server's end of the connection."""

    def __init__(self) -> None:
        sock, self.old = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.old.settimeout(DEADLINE)
        self.successor = Successor(sock, Path("/seat"))
        self._pool = ThreadPoolExecutor(1)

    def asking(self) -> "Future[bool]":
        """It asks; its letter is read."""
        asked = self._pool.submit(self.successor.ask, US, managed=False)
        assert receive(self.old).kind is Kind.ASK
        return asked

    def getting_ready(self) -> "Future[None]":
        """It is ready; its letter is read."""
        future = self._pool.submit(self.successor.ready)
        assert receive(self.old).kind is Kind.READY
        return future

    def close(self) -> None:
        self.successor.close()
        self.old.close()
        self._pool.shutdown()


@pytest.fixture
def stage(nothing_left: None) -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def test_it_gets_everything(stage: Stage) -> None:
    asked = stage.asking()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        send(stage.old, Letter(Kind.SOCKETS, {"addresses": [":443", ":443"]}, [sock.fileno()] * 2))
        last = {"generation": 7, "pid": 5, "notify": "/run/n", "watchdog": 30.0, "later": "unknown"}
        send(stage.old, Letter(Kind.ALL, last, [sock.fileno()]))
    assert asked.result(DEADLINE) is True
    found = stage.successor
    assert (found.generation, found.pid, found.notify, found.watchdog) == (7, 5, "/run/n", 30.0)
    assert repr(found) == "<Successor of 5 sockets=2>"
    taken = found.take()
    assert [(addr, each.getsockname()[1]) for addr, each in taken] == [(":443", port)] * 2
    for _, each in taken:
        each.close()
    listening = found.take_listening()
    assert listening is not None
    listening.close()
    ready = stage.getting_ready()
    send(stage.old, Letter(Kind.YOURS))
    ready.result(DEADLINE)
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            assert receive(stage.old).kind is Kind.SERVING
            send(stage.old, Letter(Kind.BYE))

    found.serving(rest)
    assert len(rests) == 2


def test_what_it_does_not_take_is_closed(stage: Stage) -> None:
    asked = stage.asking()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        send(stage.old, Letter(Kind.SOCKETS, {"addresses": [":443"]}, [sock.fileno()]))
        send(stage.old, Letter(Kind.ALL, {}, [sock.fileno()]))
    assert asked.result(DEADLINE) is True


@pytest.mark.parametrize("sockets", [0, 1])
def test_an_old_server_that_dies_before_that_is_none(sockets: int, stage: Stage) -> None:
    asked = stage.asking()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        if sockets:
            send(stage.old, Letter(Kind.SOCKETS, {"addresses": [":443"]}, [sock.fileno()]))
    stage.old.close()
    assert asked.result(DEADLINE) is False
    assert stage.successor.sockets == []


def test_an_old_server_that_dies_later_is_done_without(stage: Stage) -> None:
    stage.old.close()
    with messages() as logged:
        stage.successor.ready()
        stage.successor.serving(lambda _seconds: None)
    assert logged == ["warning the old server has ended before it said goodbye; going on without it"]


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (Letter(Kind.REFUSED, {"why": "it stops", "pid": 5}), r"\(process 5\) and doesn't let this one .*: it stops$"),
        (Letter(Kind.BYE), r"can't be understood .*: restart instead$"),
        (Letter(Kind.ALL), r"can't be understood \(all with 0 sockets\): restart instead$"),
        (Letter(Kind.SOCKETS, {"addresses": [":1"]}), r"can't be understood \(sockets with 0 sockets\)"),
    ],
)
def test_another_answer_ends_the_start(letter: Letter, why: str, stage: Stage) -> None:
    asked = stage.asking()
    send(stage.old, letter)
    with pytest.raises(TakeoverError, match=why):
        asked.result(DEADLINE)


def test_an_offer_that_is_withdrawn_ends_the_start(stage: Stage) -> None:
    ready = stage.getting_ready()
    send(stage.old, Letter(Kind.WITHDRAWN, {"why": "it stops"}))
    with pytest.raises(TakeoverError, match=r"goes on itself: it stops$"):
        ready.result(DEADLINE)


def test_nobody_there_is_no_error(nothing_left: None, tmp_path: Path) -> None:
    seat = Seat(tmp_path / "mcproxy.db")
    assert Successor.find(seat) is None
    with seat.listen():
        found = Successor.find(seat)
        assert found is not None
        found.close()


def test_a_process_of_another_user_is_not_asked(nothing_left: None) -> None:
    """It could hand us sockets of its choice."""
    if os.geteuid():
        pytest.skip("only root may become another user")
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    folder.chmod(0o777)
    seat = Seat(folder / "mcproxy.db")

    def listen() -> socket.socket:
        os.seteuid(65534)
        try:
            return seat.listen()
        finally:
            os.seteuid(0)

    with listen(), pytest.raises(TakeoverError, match=r"another user \(uid 65534\) listens at .*: end it$"):
        Successor.find(seat)
    shutil.rmtree(folder)


def test_an_identity_is_the_file_as_it_was_named_and_the_database_itself(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"")
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    relative, absolute = Path("x.toml"), Path("x.toml").absolute()
    assert Identity.of(relative, tmp_path / "b.db") == Identity.of(absolute, tmp_path / "a.db")
    assert Identity.of(relative, tmp_path / "none").database == (0, 0)
    assert Identity.of(relative, tmp_path / "a.db", node="edge1").database == (0, 0), "a node's copy may be a new one"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (US, ""),
        (Identity("/x", US.database), "configuration"),
        (Identity("/srv/mcproxy.toml", (1, 3)), "file"),
        (Identity("/srv/mcproxy.toml", (1, 2), node="edge1"), "it is a server in no fleet, not node edge1"),
    ],
)
def test_an_identity_says_what_differs(other: Identity, why: str) -> None:
    fields: dict[str, Any] = dict(other.fields())
    assert why in US.refusal(Letter(Kind.ASK, fields))
    assert bool(US.refusal(Letter(Kind.ASK, fields))) == bool(why)
