"""A panel of `mcproxy top` on the screen: a table as wide as there is room, whose cursor stays with its row."""

import time
from typing import Any

from rich.text import Text
from textual.widgets import DataTable

from mcproxy.cli.board import Board
from mcproxy.cli.columns import GAP, Fit, elided, fit
from mcproxy.cli.panels import Panel, View
from mcproxy.words import quoted

SHOWN_ROWS = 200  # rows of a table: more than anybody scrolls through

CSS = """
DataTable { border: round $primary-background; border-title-color: $text; width: 1fr; height: 100%;
            scrollbar-size: 1 1; overflow-x: hidden; }
DataTable > .datatable--cursor { background: $surface; color: $text; text-style: none; }
DataTable:focus { border: round $accent; }
DataTable:focus > .datatable--cursor { background: $primary; }
#routes, #connections { width: 2fr; }
.-narrow DataTable, .-narrow DataTable:focus { border: none; }
"""


class PanelTable(DataTable[Text]):
    """The table of one panel."""

    def __init__(self, name: str, panel: Panel[Any]) -> None:
        super().__init__(id=name, cursor_type="row")
        self.view = View(panel)
        self._laid_out: list[tuple[str, Fit]] = []  # the columns that it has now

    def fill(self, board: Board) -> None:
        """Replace the rows; the cursor stays on the row that it is on, wherever that goes."""
        selected, scrolled = self.selected, self.scroll_y
        found = self.view.rows(board, time.time())
        shown, fields = found[:SHOWN_ROWS], self.view.panel.fields
        texts = [[each.text(row) for each in fields] for row in shown]
        columns = self.view.columns()
        width = self.content_size.width or self.app.size.width  # of one that was hidden until now
        fits = fit(columns, texts, width - self.scrollbar_size_vertical - GAP)
        self._set_columns([(columns[each.place].name, each) for each in fits])
        for row, cells in zip(shown, texts, strict=True):
            drawn = []
            for each in fits:
                style = "bold red" if fields[each.place].is_alarming(row) else ""
                drawn.append(_aligned(elided(cells[each.place], each.width), each, style))
            self.add_row(*drawn, key=self.view.panel.key(row))
        keys = list(map(self.view.panel.key, shown))
        if selected in keys:
            self.move_cursor(row=keys.index(selected), scroll=False)
        self.scroll_to(y=scrolled, animate=False)
        self.border_title = self._title(len(shown), len(found))

    @property
    def selected(self) -> str | None:
        """The key of the row that the cursor is on."""
        if not self.is_valid_coordinate(self.cursor_coordinate):
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def row(self, board: Board) -> Any:
        """The row that the cursor is on; None if there is no row, or it has gone."""
        return None if self.selected is None else self.view.find(board, time.time(), self.selected)

    def _set_columns(self, columns: list[tuple[str, Fit]]) -> None:
        """Empty the table, and give it these columns."""
        if self._laid_out == columns:
            self.clear()
            return
        self._laid_out = columns
        self.clear(columns=True)
        for head, each in columns:
            self.add_column(_aligned(head, each), width=each.width)

    def _title(self, shown: int, found: int) -> str:
        view = self.view
        count = f" {shown} of {found}" if shown < found else f" {found}"
        return f"{view.panel.title}{count}" + (f" with {quoted(view.filter)}" if view.filter else "")


def _aligned(text: str, column: Fit, style: str = "") -> Text:
    """A cell or a head, to the right where there are numbers."""
    return Text(text, style, justify="right" if column.numeric else "left", no_wrap=True)
