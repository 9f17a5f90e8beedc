"""The upper lines of `mcproxy top`."""

import asyncio
import time

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import heading
from mcproxy.cli.board import Board
from mcproxy.cli.heading import Heading


class Stage(App[None]):
    """Shows nothing else."""

    CSS = heading.CSS

    def __init__(self) -> None:
        super().__init__()
        self.heading = Heading()

    def compose(self) -> ComposeResult:
        """What it is made of."""
        yield self.heading


def board() -> Board:
    made = Board()
    for at, accepted in ((1.0, 0), (2.0, 12)):
        listener = pb.ListenerStatus(addr=":443", connections=3, accepted=accepted, sent_bytes=1_500 * accepted)
        status = pb.GetStatusResponse(
            state="serving", version="1.2.3", generation=7, routes=1, started_at=time.time() - 61, listeners=[listener]
        )
        made.sample(at, status, [], [])
    return made


@pytest.mark.parametrize(
    ("notice", "is_paused", "head"),
    [
        ("", False, "serving  mcproxy 1.2.3  up 1m1s  3 open  1 route  generation 7"),
        ("", True, "PAUSED  serving  mcproxy 1.2.3  up 1m1s  3 open  1 route  generation 7"),
        ("reconnecting: it is gone", True, "reconnecting: it is gone"),
    ],
)
def test_what_the_server_does(notice: str, is_paused: bool, head: str) -> None:
    async def run() -> None:
        stage = Stage()
        async with stage.run_test(size=(80, 24)):
            stage.heading.show(board(), notice, is_paused)
            shown = str(stage.query_one("#head", Static).content)
            assert shown.replace("1m2s", "1m1s") == head
            rates = str(stage.query_one("#rates", Static).content)
            assert rates.startswith("12 conn/s ")
            assert rates.endswith("18.0 kB/s out")
            assert len(rates) <= 78

    asyncio.run(run())


def test_before_the_first_answer() -> None:
    async def run() -> None:
        stage = Stage()
        async with stage.run_test(size=(80, 24)):
            stage.heading.show(Board(), "asking the server", is_paused=False)
            assert str(stage.query_one("#head", Static).content) == "asking the server"

    asyncio.run(run())


def test_workers_are_counted_and_those_that_do_not_serve_are_named() -> None:
    made = board()
    made.status.workers.add(number=1, state="serving")
    made.status.workers.add(number=2, state="failing")

    async def run() -> None:
        stage = Stage()
        async with stage.run_test(size=(120, 24)):
            stage.heading.show(made, "", False)
            shown = str(stage.query_one("#head", Static).content).replace("1m2s", "1m1s")
            expected = "serving  mcproxy 1.2.3  up 1m1s  worker 2 failing  3 open  1 route  generation 7  2 workers"
            assert shown == expected

    asyncio.run(run())
