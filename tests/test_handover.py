"""What a running server gives up; whole takeovers are shown by tests/e2e/test_takeover.py."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mcproxy import config
from mcproxy.control import NOTHING, Control
from mcproxy.handover import Beginning, Handover
from mcproxy.notify import Inherited, Notifier
from mcproxy.table import Table
from tests.kit.hub import messages
from tests.kit.peers import until
from tests.kit.service_manager import Manager


class Server:
    """A server without a data path."""

    def __init__(self, folder: Path, notifier: Notifier) -> None:
        document = {"database": {"path": "mcproxy.db"}, "listeners": [{"addr": ":443"}]}
        self.config = config.parse(document, folder / "mcproxy.toml")
        self.control = Control(self.config)
        self.control.database.seed()
        self.notifier = notifier
        self.table: Table = self.control.database.table
        self.sockets = [(":443", 5)]
        self.done: list[str] = []
        self.accept: Callable[[], None] = lambda: None

    def reopen_control(self) -> None:
        self.done.append("reopened")

    def accept_no_more(self) -> None:
        self.done.append("accepts no more")
        self.accept()


def test_what_is_released_is_closed_and_can_be_taken_up_again(nothing_left: None, tmp_path: Path) -> None:
    server = Server(tmp_path, Notifier("/nowhere", 30.0))
    handover = Handover(server, lambda _successor: None)
    handover.resume()
    assert server.done == [], "nothing was released"
    released = handover.release()
    assert (released.sockets, released.generation) == ([(":443", 5)], 1)
    assert (released.notify, released.watchdog) == ("/nowhere", 30.0)
    assert "closed" in repr(server.control.database.store)
    handover.resume()
    handover.resume()
    assert server.done == ["reopened"]
    server.notifier.close()


@pytest.mark.parametrize(
    ("managed", "heard"), [(False, "MAINPID=77"), (True, "STOPPING=1")], ids=["our manager's", "another manager's"]
)
def test_leaving_names_the_successor_to_the_service_manager(
    managed: bool, heard: str, nothing_left: None, tmp_path: Path
) -> None:
    with Manager(tmp_path) as manager:
        server = Server(tmp_path, Notifier(manager.address))
        left: list[int] = []
        Handover(server, left.append).leave(77, managed=managed)
        manager.hear(heard)
        server.notifier.stopping()
        assert (server.done, left) == (["accepts no more"], [77])
    assert manager.heard == [heard], "the old server says nothing more: it is not the main process"
    server.control.close_at_once()


def test_a_hub_that_is_too_busy_does_not_keep_it_from_leaving(nothing_left: None, tmp_path: Path) -> None:
    def busy() -> None:
        raise TimeoutError

    server, left = Server(tmp_path, Notifier()), list[int]()
    server.accept = busy
    with messages() as logged:
        Handover(server, left.append).leave(77, managed=False)
    assert left == [77]
    assert logged == ["warning the hub is too busy to stop accepting at once"]
    server.control.close_at_once()


def test_a_beginning_without_a_server_is_a_start_as_ever(nothing_left: None, tmp_path: Path) -> None:
    server = Server(tmp_path, Notifier())
    server.control.close_at_once()
    beginning, notifier = Beginning(server.config, tmp_path / "mcproxy.toml"), Notifier()
    assert beginning.ask(Inherited(), notifier) == (NOTHING, notifier)
    beginning.ready(server.table)
    beginning.serving()
    assert not beginning.drains_beside()
    beginning.listen(Handover(server, lambda _successor: None))
    assert (tmp_path / ".mcproxy.db.takeover").is_socket()
    beginning.close()
    beginning.end()
    until(lambda: "takeover" not in {each.name for each in threading.enumerate()}, "the thread to end")
    assert not (tmp_path / ".mcproxy.db.takeover").exists()


def test_a_seat_that_can_not_be_taken_is_only_warned_of(nothing_left: None, tmp_path: Path) -> None:
    server = Server(tmp_path, Notifier())
    server.control.close_at_once()
    beginning = Beginning(server.config, tmp_path / "mcproxy.toml")
    (tmp_path / ".mcproxy.db.takeover").mkdir()
    with messages() as logged:
        beginning.listen(Handover(server, lambda _successor: None))
    assert logged[0].startswith("warning no mcproxy can take over from this one, only restart it: ")
    beginning.end()
