"""The screen of `mcproxy top`, driven by keys, beside a server whose data plane only remembers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from mcproxy.admin.plane import ConnectionEvent, ConnectionInfo, EventKind, RouteCounters
from mcproxy.cli.client import connected
from mcproxy.cli.feed import Feed, lose
from mcproxy.cli.main import main
from mcproxy.cli.top import Top
from mcproxy.model import Reason
from tests.cli.runner import Shell, shell
from tests.control_plane import DEADLINE, Control, counted

Script = Callable[[Top, Pilot[None]], Awaitable[None]]
GIT = "git.example.org"
ROUTES = [
    RouteCounters(":443", "git.example.org", counted(1, 20, 0, 1000, 10)),
    RouteCounters(":443", "www.example.org", counted(5, 10, 3, 2_000_000, 4)),
]
OPEN = [
    ConnectionInfo(
        7, ":443", "192.0.2.1:5", 1000.0, "relaying", "git.example.org", "git.example.org", "127.0.0.1:3000"
    ),
    ConnectionInfo(9, ":443", "192.0.2.2:5", 1000.0, "peeking"),
]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Shell, Control]]:
    with shell(tmp_path) as (user, control):
        control.plane.counters = list(ROUTES)
        control.plane.open = list(OPEN)
        yield user, control


def play(user: Shell, script: Script) -> None:
    """Run the screen, and do this with it once it shows something."""

    async def run() -> None:
        feed = Feed(lambda: connected(user.config, lose), 0.05)
        screen = Top(feed)
        try:
            async with screen.run_test(size=(150, 44)) as pilot:
                await until(pilot, lambda: column(screen, "routes") != [])
                await script(screen, pilot)
        finally:
            await asyncio.to_thread(feed.close)

    asyncio.run(run())


async def until(pilot: Pilot[None], done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not done():
            await pilot.pause(0.05)


def column(screen: Top, name: str, number: int = 0) -> list[str]:
    table: DataTable[str | Text] = screen.query_one(f"#{name}", DataTable)
    return [str(table.get_row_at(i)[number]) for i in range(table.row_count)]


def head(screen: Top) -> str:
    return str(screen.query_one("#head", Static).content)


def test_it_shows_what_there_is(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        assert column(screen, "routes") == ["git.example.org", "www.example.org"]
        assert column(screen, "reasons") == ["blocked_ip"]
        assert column(screen, "connections", 1) == ["192.0.2.1:5", "192.0.2.2:5"]
        assert head(screen).startswith("serving  mcproxy ")
        assert control.plane.subscribed.wait(DEADLINE)
        control.plane.sinks[0](ConnectionEvent(EventKind.REFUSED, 1e12, OPEN[1], Reason.HELLO_NOT_TLS))
        await until(pilot, lambda: column(screen, "refusals", 3) == ["hello_not_tls"])
        assert column(screen, "clients") == ["192.0.2.2"]

    play(user, script)


def test_keys_sort_filter_and_pause(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        for sorted_by, first in (("refusals", "git"), ("bytes", "git"), ("open", "www"), ("name", "git")):
            await pilot.press("s")
            assert f"sorted by {sorted_by}" in head(screen)
            assert column(screen, "routes")[0].startswith(first)
        await pilot.press("f", *"WWW", "enter")
        assert column(screen, "routes") == ["www.example.org"]
        assert column(screen, "connections") == []
        assert "only *www*" in head(screen)
        assert not screen.query_one("#filter", Input).has_class("shown")
        await pilot.press("p")
        assert "PAUSED" in head(screen)
        control.plane.counters = []
        samples = screen.board.total.accepted
        seen = len(samples.rates)
        await until(pilot, lambda: len(samples.rates) > seen + 2)
        assert column(screen, "routes") == ["www.example.org"], "it stands still"
        await pilot.press("p")
        await until(pilot, lambda: column(screen, "routes") == [])

    play(user, script)


def test_a_connection_is_cut(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("k")
        assert not [call for call in control.plane.calls if call[0] == "close_connections"], "no connection is chosen"
        screen.query_one("#connections").focus()
        await pilot.press("down", "k")
        await until(pilot, lambda: ("close_connections", 9) in control.plane.calls)
        control.plane.open = OPEN[:1]
        await until(pilot, lambda: column(screen, "connections") == ["7"])

    play(user, script)


def test_a_server_that_goes_away_is_told_of(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await asyncio.to_thread(control.server.close)
        await until(pilot, lambda: "can't reach the server" in head(screen))
        await pilot.press("q")

    play(user, script)


def test_without_an_admin_api_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "mcproxy.toml"
    config.write_text('database.path = "x.db"\n')
    done = CliRunner().invoke(main, ["top", "-c", str(config)])
    assert done.exit_code == 2
    assert "has no [grpc]" in done.stderr
