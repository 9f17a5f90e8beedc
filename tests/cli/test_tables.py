"""One panel on the screen: it fits, and the cursor stays with its row."""

import asyncio
from collections.abc import Awaitable, Callable

from textual.app import App, ComposeResult
from textual.containers import Horizontal

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import tables
from mcproxy.cli.board import Board
from mcproxy.cli.panels import PANELS
from mcproxy.cli.tables import SHOWN_ROWS, PanelTable


class Stage(App[None]):
    """Shows nothing else."""

    CSS = tables.CSS

    def __init__(self) -> None:
        super().__init__()
        self.table = PanelTable("connections", PANELS["connections"])

    def compose(self) -> ComposeResult:
        """What it is made of."""
        yield Horizontal(self.table)


def board(*ids: int) -> Board:
    made = Board()
    live = [
        pb.Connection(id=i, client=f"192.0.2.9:{i}", route="a" * 60, started_at=i, state="half-closed") for i in ids
    ]
    made.sample(1.0, pb.GetStatusResponse(), [], live)
    return made


def play(script: Callable[[PanelTable], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage()
        async with stage.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            await script(stage.table)

    asyncio.run(run())


def test_it_is_as_wide_as_the_screen_at_most() -> None:
    async def script(table: PanelTable) -> None:
        table.fill(board(1, 2))
        assert sum(each.get_render_width(table) for each in table.ordered_columns) <= table.content_size.width <= 80
        assert [str(cell) for cell in table.get_row_at(0)][:2] == ["1", "192.0.2.9:1"]
        assert any(str(cell).endswith("…") for cell in table.get_row_at(0))

    play(script)


def test_the_cursor_stays_on_its_row() -> None:
    async def script(table: PanelTable) -> None:
        table.fill(board(1, 2, 3))
        table.move_cursor(row=2)
        assert table.selected == "3"
        table.fill(board(2, 3))
        assert (table.selected, table.cursor_row) == ("3", 1)
        live = board(2, 3)
        assert table.row(live).connection.id == 3
        assert table.row(board(2)) is None, "it has gone since it was drawn"

    play(script)


def test_nothing_is_chosen_in_an_empty_table() -> None:
    async def script(table: PanelTable) -> None:
        table.fill(board())
        assert table.selected is None
        assert table.row(board(1)) is None

    play(script)


def test_a_long_list_is_cut_and_says_so() -> None:
    async def script(table: PanelTable) -> None:
        table.fill(board(*range(SHOWN_ROWS + 5)))
        assert table.row_count == SHOWN_ROWS
        assert table.border_title == f"Connections {SHOWN_ROWS} of {SHOWN_ROWS + 5}"
        table.view.filter = "192.0.2.9:7"
        table.fill(board(6, 7, 8))
        assert table.border_title == 'Connections 1 with "192.0.2.9:7"'

    play(script)
