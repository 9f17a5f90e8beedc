"""`mcproxy top`: the server, live, on the whole terminal.

Above, rates of the last minute; below, panels (panels.py): one at a time on a usual terminal, all of them on a large
one. The screen draws what the feed has put on the board, and never waits for the server; what the keys ask of the
server is in actions.py.
"""

import queue
import sys
from pathlib import Path
from typing import ClassVar

import click
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.events import Resize
from textual.widgets import DataTable, Footer, Input, Static

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import dialogs, heading, tables
from mcproxy.cli.actions import Actions
from mcproxy.cli.board import Board
from mcproxy.cli.client import connected
from mcproxy.cli.feed import Feed, Lost, Sample, lose
from mcproxy.cli.options import INVALID, example, fail
from mcproxy.cli.panels import PANELS
from mcproxy.cli.tables import PanelTable
from mcproxy.cli.target import target_options

REDRAW = 0.5  # seconds between two looks at the news
WIDE = (120, 32)  # columns and lines from which on all panels are shown
ROWS = (("routes", "reasons"), ("clients", "refusals"), ("connections", "listeners"))  # of a large terminal

CSS = """
Screen { layout: vertical; }
#tabs { height: 1; padding: 0 1; }
#filter { display: none; height: 1; border: none; }
#filter.shown { display: block; }
.row { height: 1fr; }
.-wide #tabs { display: none; }
.-narrow .row, .-narrow .row DataTable { display: none; }
.-narrow .row.current, .-narrow .row DataTable.current { display: block; }
"""


class Top(App[None]):
    """The screen."""

    TITLE = "mcproxy top"
    ENABLE_COMMAND_PALETTE = False
    CSS = CSS + heading.CSS + tables.CSS + dialogs.CSS
    BINDINGS: ClassVar[list[BindingType]] = [
        ("question_mark", "help", "Help"),
        ("slash", "filter", "Filter"),
        ("s", "sort", "Sort"),
        ("r", "reverse", "Reverse"),
        ("b", "block", "Block"),
        ("k", "close_connection", "Close"),
        ("p", "pause", "Pause"),
        ("q,ctrl+c", "quit", "Quit"),
    ]

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.board = Board()
        self.tables = {name: PanelTable(name, panel) for name, panel in PANELS.items()}
        self.current = next(iter(PANELS))
        self._feed = feed
        self._actions = Actions(self, feed, self.board, REDRAW)
        self._is_paused = False
        self._notice = "asking the server"
        self._heading = heading.Heading()
        self._tabs = Static(id="tabs")
        self._filter = Input(placeholder="a part of any value; empty for all; Enter", id="filter")
        self._rows = {names: Horizontal(*(self.tables[name] for name in names), classes="row") for names in ROWS}

    def compose(self) -> ComposeResult:
        """The screen's parts, from top to bottom."""
        yield self._heading
        yield self._tabs
        yield from self._rows.values()
        yield self._filter
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin."""
        for i, name in enumerate(PANELS, 1):
            self.bind(str(i), f"panel('{name}')", show=False)
        self._adapt(self.size.width, self.size.height)
        self.action_panel(self.current)
        self._feed.start()
        self.set_interval(REDRAW, self.refresh_board)

    def on_resize(self, event: Resize) -> None:
        """Show all panels, or one."""
        self._adapt(event.size.width, event.size.height)
        self.call_after_refresh(self.draw)

    def _adapt(self, width: int, height: int) -> None:
        is_wide = width >= WIDE[0] and height >= WIDE[1]
        self.set_class(is_wide, "-wide")
        self.set_class(not is_wide, "-narrow")

    def refresh_board(self) -> None:
        """Put the news on the board, and draw it if there was any."""
        changed = False
        for _ in range(self._feed.news.qsize()):
            try:
                news = self._feed.news.get_nowait()
            except queue.Empty:
                break
            changed = True
            if isinstance(news, Sample):
                self.board.sample(news.at, news.status, news.routes, news.connections)
                self._notice = ""
            elif isinstance(news, Lost):
                self._notice = f"reconnecting: {news}"
            else:
                self.board.happened(news)
        if changed and not self._is_paused:
            self.draw()

    def draw(self) -> None:
        """Draw everything that is shown."""
        self._heading.show(self.board, self._notice, self._is_paused)
        line = Text(no_wrap=True)
        for i, (name, table) in enumerate(self.tables.items(), 1):
            mark = "/" if table.view.filter else ""
            line.append(f" {i} {table.view.panel.title}{mark} ", "reverse" if name == self.current else "")
        self._tabs.update(line)
        for name in PANELS if self.has_class("-wide") else (self.current,):
            self.tables[name].fill(self.board)

    # --- panels -------------------------------------------------------------------------------------------------------

    @property
    def table(self) -> PanelTable:
        """The current panel's."""
        return self.tables[self.current]

    def action_panel(self, name: str) -> None:
        """Go to a panel."""
        self.tables[name].focus()
        self._enter(name)

    def on_descendant_focus(self) -> None:
        """The panel that has the focus is the current one."""
        if isinstance(self.focused, PanelTable) and self.focused is not self.table:
            self._enter(str(self.focused.id))

    def _enter(self, name: str) -> None:
        self.current = name
        for each, table in self.tables.items():
            table.set_class(each == name, "current")
        for names, row in self._rows.items():
            row.set_class(name in names, "current")
        self.draw()
        self.call_after_refresh(self.draw)  # once its size is known

    def action_focus_next(self) -> None:
        """Go to the next panel."""
        self._step(1)

    def action_focus_previous(self) -> None:
        """Go to the panel before."""
        self._step(-1)

    def _step(self, by: int) -> None:
        names = list(PANELS)
        self.action_panel(names[(names.index(self.current) + by) % len(names)])

    def action_sort(self) -> None:
        """Sort by the next column."""
        self.table.view.sort_next()
        self.draw()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.table.view.is_reversed = not self.table.view.is_reversed
        self.draw()

    def action_pause(self) -> None:
        """Stop or resume drawing; what happens meanwhile is drawn afterwards."""
        self._is_paused = not self._is_paused
        self.draw()

    def action_filter(self) -> None:
        """Ask what the rows of the panel must contain."""
        self._filter.value = self.table.view.filter
        self._filter.add_class("shown")
        self._filter.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show only the rows that contain it."""
        if event.input is self._filter:
            self.table.view.filter = event.value.strip().lower()
            self._filter.remove_class("shown")
            self.action_panel(self.current)

    # --- dialogs ------------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(dialogs.Help())

    def action_block(self) -> None:
        """Block the client of the row."""
        self._actions.block(self.table)

    def action_close_connection(self) -> None:
        """Close the connection of the row."""
        self._actions.close(self.table)

    def on_data_table_row_selected(self, _event: DataTable.RowSelected) -> None:
        """Show all fields of the row."""
        self._actions.zoom(self.table)


@click.command(epilog=example("mcproxy top", "mcproxy top --server unix:/run/mcproxy/admin.sock"))
@target_options
def top(config_file: Path | None) -> None:
    """Show the server live on the whole terminal: routes, connections, listeners, refusals, clients. `?` lists keys."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        fail("mcproxy: top needs a terminal; use `mcproxy watch` or `mcproxy status --json` instead", INVALID)
    with connected(config_file) as client:
        client.call("GetStatus", pb.GetStatusRequest())  # a server that isn't there ends the program here
    feed = Feed(lambda: connected(config_file, lose))
    try:
        Top(feed).run()
    finally:
        feed.close()
