"""The screen of `mcproxy top`, driven by keys, beside a server whose data plane only remembers."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import Checkbox, DataTable, Input, Static

from mcproxy.cli import dialogs
from mcproxy.cli.client import connected
from mcproxy.cli.feed import Feed, lose
from mcproxy.cli.main import main
from mcproxy.cli.panels import PANELS
from mcproxy.cli.top import Top
from mcproxy.messages import ConnectionEvent, ConnectionInfo, EventKind, RouteCounters
from mcproxy.model import Reason
from tests.kit.commands import Shell, shell, write_config
from tests.kit.control_plane import Control, counted
from tests.kit.peers import DEADLINE
from tests.kit.program import bounded, environment

Script = Callable[[Top, Pilot[None]], Awaitable[None]]
SMALL, LARGE = (80, 24), (150, 44)
GIT = "git.example.org"
ENDS = {"done": 70, "backend fault": 8}
ROUTES = [
    RouteCounters(":443", "git.example.org", counted(1, 20, 0, 1000, 10)),
    RouteCounters(":443", "www.example.org", counted(5, 10, 3, 2_000_000, 4, {"2xx": 70, "5xx": 8}, ENDS)),
]
OPEN = [
    ConnectionInfo(7, ":443", "192.0.2.5:5", 1000.0, "relaying", GIT, GIT, "127.0.0.1:3000"),
    ConnectionInfo(9, ":443", "192.0.2.2:5", 2000.0, "peeking"),
]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Shell, Control]]:
    with shell(tmp_path) as (user, control):
        control.plane.counters = list(ROUTES)
        control.plane.open = list(OPEN)
        yield user, control


def play(user: Shell, script: Script, size: tuple[int, int] = SMALL) -> None:
    """Run the screen, and do this with it once it shows something."""

    async def run() -> None:
        feed = Feed(lambda: connected(user.config, lose), 0.05)
        screen = Top(feed)
        try:
            async with screen.run_test(size=size) as pilot:
                await until(pilot, lambda: column(screen, "routes") != [])
                await script(screen, pilot)
        finally:
            await asyncio.to_thread(feed.close)

    asyncio.run(run())


async def until(pilot: Pilot[None], done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not done():
            await pilot.pause(0.05)


def heads(screen: Top, name: str) -> list[str]:
    return [str(each.label) for each in screen.query_one(f"#{name}", DataTable).ordered_columns]


def column(screen: Top, name: str, number: int = 0) -> list[str]:
    table: DataTable[str | Text] = screen.screen_stack[0].query_one(f"#{name}", DataTable)
    return [str(table.get_row_at(i)[number]) for i in range(table.row_count)]


def head(screen: Top) -> str:
    return str(screen.screen_stack[0].query_one("#head", Static).content)


def told(screen: Top) -> list[str]:
    return [each.message for each in screen._notifications]


async def opened(screen: Top, pilot: Pilot[None], kind: type[Any]) -> Any:
    """The dialog of this kind, once it is there."""
    await until(pilot, lambda: isinstance(screen.screen, kind))
    return screen.screen


def written(dialog: dialogs.Zoom) -> dict[str, str]:
    """The fields that are shown."""
    return {name: value for name, value in [*dialog._shown, *dialog._more] if value}


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_a_large_terminal_shows_all_panels(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        assert sorted(column(screen, "routes")) == ["git.example.org", "www.example.org"]
        assert column(screen, "reasons") == ["blocked_ip"]
        assert column(screen, "connections", 1) == ["192.0.2.5:5", "192.0.2.2:5"]
        assert column(screen, "listeners") == [":443"]
        assert head(screen).startswith("serving  mcproxy ")
        assert control.plane.subscribed.wait(DEADLINE)
        control.plane.sinks[0](ConnectionEvent(EventKind.REFUSED, 1e12, OPEN[1], Reason.HELLO_NOT_TLS))
        await until(pilot, lambda: column(screen, "refusals", 3) == ["hello_not_tls"])
        assert sorted(column(screen, "clients")) == ["192.0.2.2", "192.0.2.5"]
        assert all(screen.query_one(f"#{name}").display for name in PANELS)

    play(user, script, LARGE)


def test_a_usual_terminal_shows_one_panel_at_a_time(running: tuple[Shell, Control]) -> None:
    """At 80x24 six panels had two rows each, and the reason of a refusal was beyond the edge."""
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        assert control.plane.subscribed.wait(DEADLINE)
        control.plane.sinks[0](ConnectionEvent(EventKind.REFUSED, 1e12, OPEN[1], Reason.HANDSHAKE_TIMEOUT))
        for key, name in zip("123456", PANELS, strict=True):
            await pilot.press(key)
            assert [each for each in PANELS if screen.query_one(f"#{each}").display] == [name]
            await until(pilot, lambda name=name: column(screen, name) != [])  # type: ignore[misc]
            table = screen.query_one(f"#{name}", DataTable)
            assert table.size.height >= 18
            assert table.virtual_size.width <= 80, "nothing is beyond the edge"
        await pilot.press("4")
        assert "REASON" in heads(screen, "refusals")
        assert column(screen, "refusals", heads(screen, "refusals").index("REASON")) == ["handshake_timeout"]
        await pilot.press("tab")
        assert screen.current == "reasons"
        await pilot.press("shift+tab", "shift+tab")
        assert screen.current == "listeners"

    play(user, script)


def test_a_terminal_may_grow(running: tuple[Shell, Control]) -> None:
    user, _ = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await pilot.resize_terminal(*LARGE)
        await until(pilot, lambda: column(screen, "reasons") != [])
        await pilot.resize_terminal(*SMALL)
        assert [each for each in PANELS if screen.query_one(f"#{each}").display] == ["connections"]

    play(user, script)


def test_classes_of_status_of_l7_routes(running: tuple[Shell, Control]) -> None:
    user, _ = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        shown = heads(screen, "routes")
        www = column(screen, "routes").index("www.example.org")
        assert column(screen, "routes", shown.index("2XX"))[www] == "70"
        assert column(screen, "routes", shown.index("5XX"))[www] == "8"

    play(user, script)


# --- order, filter, pause ---------------------------------------------------------------------------------------------


def test_keys_sort_and_reverse(running: tuple[Shell, Control]) -> None:
    user, _ = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        assert column(screen, "connections", 1)[0] == "192.0.2.5:5", "the oldest"
        await pilot.press("r")
        assert column(screen, "connections", 1)[0] == "192.0.2.2:5"
        while not heads(screen, "connections")[0].startswith("ID▼"):
            await pilot.press("s")
        assert column(screen, "connections") == ["9", "7"]
        await pilot.press("r")
        assert heads(screen, "connections")[0] == "ID▲"
        assert column(screen, "connections") == ["7", "9"]

    play(user, script)


def test_a_filter_is_of_one_panel(running: tuple[Shell, Control]) -> None:
    user, _ = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"WWW", "enter")
        assert column(screen, "routes") == ["www.example.org"]
        assert not screen.query_one("#filter", Input).has_class("shown")
        await pilot.press("2")
        assert len(column(screen, "connections")) == 2
        await pilot.press("1", "slash", *["backspace"] * 3, "enter")
        assert len(column(screen, "routes")) == 2

    play(user, script)


def test_pausing(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        assert "PAUSED" in head(screen)
        control.plane.counters = []
        samples = screen.board.total.accepted
        seen = len(samples.rates)
        await until(pilot, lambda: len(samples.rates) > seen + 2)
        assert len(column(screen, "routes")) == 2, "it stands still"
        await pilot.press("p")
        await until(pilot, lambda: column(screen, "routes") == [])

    play(user, script)


# --- one row ----------------------------------------------------------------------------------------------------------


def test_all_fields_of_a_connection_until_after_its_end(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("2", "enter")
        zoom = await opened(screen, pilot, dialogs.Zoom)
        assert (written(zoom)["id"], written(zoom)["backend"]) == ("7", "127.0.0.1:3000")
        assert not zoom._gone.display
        control.plane.open = OPEN[1:]
        await until(pilot, lambda: bool(zoom._gone.display))
        assert written(zoom)["id"] == "7", "what was seen last"
        await pilot.press("escape")
        assert not isinstance(screen.screen, dialogs.Zoom)

    play(user, script)


def test_all_fields_of_a_route_with_its_configuration(running: tuple[Shell, Control]) -> None:
    user, _ = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"www", "enter", "enter")
        zoom = await opened(screen, pilot, dialogs.Zoom)
        await until(pilot, lambda: "backend" in written(zoom))
        fields = written(zoom)
        assert (fields["route"], fields["backend"], fields["mode"]) == ("www.example.org", "127.0.0.1:3001", "l4")
        assert (fields["requests 2xx"], fields["requests 5xx"]) == ("70", "8")
        assert (fields["requests: done"], fields["requests: backend fault"]) == ("70", "8")

    play(user, script)


def test_a_connection_is_closed_after_a_question(running: tuple[Shell, Control]) -> None:
    user, control = running

    def closed() -> bool:
        return ("close_connections", 9) in control.plane.calls

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("k")
        await until(pilot, lambda: "go to a connection first" in told(screen))
        await pilot.press("2", "down", "k")
        await opened(screen, pilot, dialogs.Confirm)
        await pilot.press("n")
        assert not closed()
        await pilot.press("k")
        await opened(screen, pilot, dialogs.Confirm)
        await pilot.press("y")
        await until(pilot, lambda: "connection 9 is closed" in told(screen))
        assert closed()
        control.plane.open = OPEN[:1]
        await until(pilot, lambda: column(screen, "connections", 1) == ["192.0.2.5:5"])

    play(user, script)


def test_a_client_is_blocked_for_a_time_or_for_good(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("b")
        await until(pilot, lambda: "go to a connection, a refusal or a client first" in told(screen))
        await pilot.press("2", "b")
        dialog = await opened(screen, pilot, dialogs.Block)
        dialog.query_one(Input).value = "soon"
        await pilot.press("enter")
        assert isinstance(screen.screen, dialogs.Block), "that is no length of time"
        dialog.query_one(Input).value = "10m"
        await pilot.press("enter")
        await until(pilot, lambda: any("192.0.2.5 is blocked until" in each for each in told(screen)))
        assert [call[1].value for call in control.plane.calls if call[0] == "kill_matching"] == ["192.0.2.5"]
        await pilot.press("down", "enter", "b")
        dialog = await opened(screen, pilot, dialogs.Block)
        dialog.query_one(Input).value = ""
        dialog.query_one(Checkbox).value = False
        await pilot.press("enter")
        await until(pilot, lambda: any("192.0.2.2 is blocked permanently" in each for each in told(screen)))
        assert len([call for call in control.plane.calls if call[0] == "kill_matching"]) == 1

    play(user, script)
    rules = {rule["value"]: rule["expires_at"] for rule in user.json("firewall", "list")}
    assert rules["192.0.2.2"] == 0


def test_blocking_your_own_address_is_asked_twice(
    running: tuple[Shell, Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _ = running
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.5 50000 192.0.2.100 22")

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        for answer, outcome in (("n", "nothing has changed"), ("y", "192.0.2.5 is blocked until")):
            await pilot.press("b")
            await opened(screen, pilot, dialogs.Block)
            await pilot.press("enter")
            await opened(screen, pilot, dialogs.Confirm)
            await pilot.press(answer)
            await until(pilot, lambda outcome=outcome: any(outcome in each for each in told(screen)))  # type: ignore[misc]

    play(user, script)
    (newest,) = user.json("routes", "history", "--everything", "--limit", "1")
    assert (newest["key"], newest["comment"]) == (["ip", "192.0.2.5"], "mcproxy top")


def test_what_the_server_refuses_is_told(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await until(pilot, lambda: column(screen, "connections") != [])
        control.plane.fail["close_connections"] = OSError("no")
        await pilot.press("k")
        await opened(screen, pilot, dialogs.Confirm)
        await pilot.press("y")
        await until(pilot, lambda: any(each.severity == "error" for each in screen._notifications))

    play(user, script)


def test_help_lists_every_key(running: tuple[Shell, Control]) -> None:
    user, _ = running
    names = {"question_mark": "?", "slash": "/", "ctrl+c": "Ctrl-C"}
    listed = {name for keys, _ in dialogs.KEYS for name in keys.split(", ")}
    keys = ",".join(binding[0] for binding in Top.BINDINGS if isinstance(binding, tuple)).split(",")
    assert len(keys) > len(Top.BINDINGS) - 1
    bound = {names.get(key, key) for key in keys}
    assert bound <= listed

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await opened(screen, pilot, dialogs.Help)
        await pilot.press("escape")
        assert not isinstance(screen.screen, dialogs.Help)

    play(user, script)


# --- servers and terminals that go away -------------------------------------------------------------------------------


def test_a_server_that_goes_away_is_told_of(running: tuple[Shell, Control]) -> None:
    user, control = running

    async def script(screen: Top, pilot: Pilot[None]) -> None:
        await asyncio.to_thread(control.server.close)
        await until(pilot, lambda: head(screen).startswith("reconnecting: can't reach the server"))
        await pilot.press("q")

    play(user, script)


def test_without_an_admin_api_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "mcproxy.toml"
    config.write_text('database.path = "x.db"\n')
    status, told = on_a_terminal(config)
    assert status == 2
    assert "has no [grpc]" in told


def test_without_a_server_it_ends(tmp_path: Path) -> None:
    """It tried again for ever, over a screen without a value."""
    config = write_config(tmp_path, f'addr = "unix:{tmp_path}/admin.sock"')
    status, told = on_a_terminal(config)
    assert status == 3
    assert told.startswith("mcproxy: can't reach the server at unix:")
    assert "\x1b" not in told


def test_without_a_terminal_it_names_what_to_use_instead(running: tuple[Shell, Control]) -> None:
    """It ran for ever, and filled the file that its output went to."""
    user, _ = running
    done = CliRunner().invoke(main, ["top", "-c", str(user.config)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "mcproxy: top needs a terminal; use `mcproxy watch` or `mcproxy status --json` instead\n"
    with bounded(sys.executable, "-m", "mcproxy", "top", "-c", user.config, env=environment()) as process:
        assert process.wait(DEADLINE) == 2


def on_a_terminal(config: Path) -> tuple[int, str]:
    """The exit status, and what a terminal shows."""
    ours, its = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mcproxy", "top", "-c", str(config)],
            stdin=its, stdout=its, stderr=its, timeout=DEADLINE, check=False, env=environment(),
        )  # fmt: skip
        return done.returncode, os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(its)
