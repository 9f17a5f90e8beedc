"""The dialogs of `mcproxy top` by themselves; what they are for is tested with the screen."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from mcproxy.cli import dialogs
from mcproxy.cli.dialogs import Block, Blocking, Confirm, Help, Zoom
from mcproxy.cli.panels import Details
from tests.kit.peers import DEADLINE


class Stage(App[None]):
    """Shows one dialog, and remembers its answer."""

    CSS = dialogs.CSS

    def __init__(self, dialog: ModalScreen[Any]) -> None:
        super().__init__()
        self._dialog = dialog
        self.answers: list[Any] = []

    def on_mount(self) -> None:
        """Show it."""
        self.push_screen(self._dialog, self.answers.append)


def answers(dialog: ModalScreen[Any], *keys: str, look: Callable[[], None] = lambda: None) -> list[Any]:
    """What a dialog answers to these keys; `look` is called while it is there still."""
    stage = Stage(dialog)

    async def run() -> None:
        async with stage.run_test(size=(80, 24)) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            look()

    asyncio.run(run())
    return stage.answers


@pytest.mark.parametrize(("key", "answer"), [("y", True), ("enter", True), ("n", False), ("escape", False)])
def test_a_question(key: str, answer: bool) -> None:
    assert answers(Confirm("Really?"), key) == [answer]


def test_how_long_a_client_is_blocked() -> None:
    assert answers(Block("192.0.2.1"), "enter") == [Blocking(3600.0, True)]
    assert answers(Block("192.0.2.1"), "ctrl+u", *"90s", "enter") == [Blocking(90.0, True)]
    assert answers(Block("192.0.2.1"), "tab", "space", "shift+tab", "enter") == [Blocking(3600.0, False)]
    assert answers(Block("192.0.2.1"), "ctrl+u", "enter") == [Blocking(0.0, True)], "for good"
    assert answers(Block("192.0.2.1"), "escape") == [None]
    for wrong in ("soon", "0s", "-1h"):
        assert answers(Block("192.0.2.1"), "ctrl+u", *wrong, "enter") == []


def test_a_length_of_time_that_is_wrong_is_explained() -> None:
    dialog = Block("192.0.2.1")

    def look() -> None:
        assert "soon" in str(dialog.query_one(".problem", Static).content)
        assert dialog.query_one(Input).value == "soon"

    assert answers(dialog, "ctrl+u", *"soon", "enter", look=look) == []


@pytest.mark.parametrize(("key", "answer"), [("b", "block"), ("k", "close"), ("escape", ""), ("enter", "")])
def test_a_row_offers_what_can_be_done_with_it(key: str, answer: str) -> None:
    assert answers(Zoom("Connections", lambda: [("id", "7")], "b: block  ", 1.0), key) == [answer]


def test_help_fits_a_usual_terminal() -> None:
    dialog = Help()

    def look() -> None:
        frame = dialog.query_one(".dialog")
        assert frame.outer_size.height <= 24
        assert frame.virtual_size.height <= frame.size.height, "nothing of it is hidden"

    assert answers(dialog, "x", look=look) == [], "another key does nothing"
    assert answers(Help(), "q") == [None]


def test_fields_follow_what_is_known() -> None:
    known: list[Details | None] = [[("id", "7"), ("sni", "")]]
    dialog = Zoom("Connections", lambda: known[0], "", 0.01)
    stage = Stage(dialog)

    async def until(pilot: Pilot[None], done: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not done():
                await pilot.pause(0.01)

    async def run() -> None:
        async with stage.run_test() as pilot:
            await until(pilot, lambda: dialog._shown == known[0])
            known[0] = [("id", "8")]
            await until(pilot, lambda: dialog._shown == known[0])
            dialog.add([("mode", "l4")])
            known[0] = None
            await until(pilot, lambda: bool(dialog._gone.display))
            assert (dialog._shown, dialog._more) == ([("id", "8")], [("mode", "l4")])

    asyncio.run(run())
