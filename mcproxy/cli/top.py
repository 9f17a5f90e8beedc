"""`mcproxy top`: the server, live, on the whole terminal.

Above, rates of the last minute; below, panels (panels.py): one at a time on a usual terminal, all of them on a large
one. The screen asks nobody: it draws what the feed has put on the board.
"""

import asyncio
import os
import queue
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, ClassVar

import click
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.widgets import DataTable, Footer, Input, Sparkline, Static

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import dialogs, output
from mcproxy.cli.board import Board, blocks
from mcproxy.cli.client import connected
from mcproxy.cli.columns import GAP, Fit, elided, fit
from mcproxy.cli.feed import Feed, Lost, Sample, lose
from mcproxy.cli.firewall import own_ip
from mcproxy.cli.options import INVALID, example, fail
from mcproxy.cli.panels import PANELS, Details, View, rate, speed
from mcproxy.cli.target import target_options
from mcproxy.model import counted
from mcproxy.words import quoted

REDRAW = 0.5  # seconds between two looks at the news
SHOWN = 200  # rows of a table: more than anybody scrolls through
WIDE = (120, 32)  # columns and lines from which on all panels are shown
SPARK = 10  # characters of a line of blocks in the line of rates, a second each

GAUGES = {"accepted": "connections/s", "refused": "refused/s", "received": "received/s", "sent": "sent/s"}
ROWS = (("routes", "reasons"), ("clients", "refusals"), ("connections", "listeners"))  # of a large terminal


class Gauge(Vertical):
    """One rate of the whole server: its name and value, and its last minute."""

    def __init__(self, name: str, id: str) -> None:  # noqa: A002 - as textual names it
        super().__init__(id=id, classes="gauge")
        self._title = name
        self._label = Static(name)
        self._line = Sparkline([0.0])

    def compose(self) -> ComposeResult:
        """What it is made of."""
        yield self._label
        yield self._line

    def show(self, value: str, rates: list[float]) -> None:
        """Draw it."""
        self._label.update(Text.assemble((f"{self._title} ", "dim"), (value, "bold")))
        self._line.data = rates or [0.0]


class Top(App[None]):
    """The screen."""

    TITLE = "mcproxy top"
    ENABLE_COMMAND_PALETTE = False
    CSS = (
        dialogs.CSS
        + """
    Screen { layout: vertical; }
    #head { height: 1; padding: 0 1; background: $primary-background; text-wrap: nowrap; text-overflow: ellipsis; }
    #rates, #tabs { height: 1; padding: 0 1; }
    #gauges { height: 4; }
    .gauge { padding: 0 1; width: 1fr; }
    .gauge Sparkline { height: 2; }
    #refused Sparkline > .sparkline--max-color { color: $error; }
    #refused Sparkline > .sparkline--min-color { color: $error-darken-2; }
    .row { height: 1fr; }
    DataTable { border: round $primary-background; border-title-color: $text; width: 1fr; height: 100%;
                scrollbar-size: 1 1; overflow-x: hidden; }
    DataTable > .datatable--cursor { background: $surface; color: $text; text-style: none; }
    DataTable:focus { border: round $accent; }
    DataTable:focus > .datatable--cursor { background: $primary; }
    #routes, #connections { width: 2fr; }
    #filter { display: none; height: 1; border: none; }
    #filter.shown { display: block; }
    .-wide #rates, .-wide #tabs { display: none; }
    .-narrow #gauges, .-narrow .row, .-narrow .row DataTable { display: none; }
    .-narrow .row.current, .-narrow .row DataTable.current { display: block; }
    .-narrow DataTable, .-narrow DataTable:focus { border: none; }
    """
    )
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
        self.views: dict[str, View[Any]] = {name: View(panel) for name, panel in PANELS.items()}
        self.current = next(iter(PANELS))
        self._feed = feed
        self._is_paused = False
        self._notice = "asking the server"
        # Kept, and not looked up for each drawing: the last one may come while the screen is being taken apart.
        self._head, self._rates, self._tabs = (Static(id=name) for name in ("head", "rates", "tabs"))
        self._filter = Input(placeholder="a part of any value; empty for all; Enter", id="filter")
        self._tables = {name: DataTable[Text](id=name, cursor_type="row") for name in PANELS}
        self._rows = {names: Horizontal(*(self._tables[name] for name in names), classes="row") for names in ROWS}
        self._gauges = {name: Gauge(title, name) for name, title in GAUGES.items()}
        self._laid_out: dict[str, list[tuple[str, Fit]]] = {}  # the columns that a table has now

    def compose(self) -> ComposeResult:
        """The screen's parts, from top to bottom."""
        yield self._head
        yield self._rates
        yield self._tabs
        yield Horizontal(*self._gauges.values(), id="gauges")
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
        """Put the news on the board, and draw it where there was any."""
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

    # --- drawing ------------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Draw everything that is shown."""
        total = self.board.total
        for name, text, meter in (
            ("accepted", rate(total.accepted.rate), total.accepted),
            ("refused", rate(total.refused.rate), total.refused),
            ("received", output.amount(int(total.received.rate)), total.received),
            ("sent", output.amount(int(total.sent.rate)), total.sent),
        ):
            self._gauges[name].show(text, list(meter.rates))
        self._head.update(self._heading())
        self._rates.update(self._rate_line())
        self._tabs.update(self._tab_line())
        for name in PANELS if self.has_class("-wide") else (self.current,):
            self._fill(name)

    def _heading(self) -> Text:
        status = self.board.status
        if self._notice:
            return Text(self._notice, "bold red" if status.version else "bold", no_wrap=True, overflow="ellipsis")
        parts = [
            status.state, f"mcproxy {status.version}", f"up {output.span(time.time() - status.started_at)}",
            f"{self.board.total.open} open", counted(status.routes, "route"), f"generation {status.generation}",
        ]  # fmt: skip
        return Text.assemble(*(("PAUSED  ", "bold yellow"),) * self._is_paused, "  ".join(parts))

    def _rate_line(self) -> Text:
        total = self.board.total
        return Text.assemble(
            (rate(total.accepted.rate), "bold"), " conn/s ", (blocks(total.accepted.rates, SPARK), "green"),
            ("  " + rate(total.refused.rate), "bold"), " refused/s ", (blocks(total.refused.rates, SPARK), "red"),
            ("  " + speed(total.received.rate), "bold"), " in", ("  " + speed(total.sent.rate), "bold"), " out",
        )  # fmt: skip

    def _tab_line(self) -> Text:
        line = Text(no_wrap=True)
        for i, (name, view) in enumerate(self.views.items(), 1):
            mark = "/" if view.filter else ""
            line.append(f" {i} {view.panel.title}{mark} ", "reverse" if name == self.current else "")
        return line

    def _fill(self, name: str) -> None:
        """Replace a table's rows; the cursor stays on the row that it is on, wherever that goes."""
        view, table = self.views[name], self._tables[name]
        selected, scrolled = self._selected(name), table.scroll_y
        found = view.rows(self.board, time.time())
        shown, fields = found[:SHOWN], view.panel.fields
        texts = [[each.text(row) for each in fields] for row in shown]
        columns = view.columns()
        width = table.content_size.width or self.size.width  # of one that was hidden until now
        fits = fit(columns, texts, width - table.scrollbar_size_vertical - GAP)
        self._set_columns(name, [(columns[each.place].name, each) for each in fits])
        for row, cells in zip(shown, texts, strict=True):
            drawn = []
            for each in fits:
                style = "bold red" if fields[each.place].is_alarming(row) else ""
                drawn.append(_aligned(elided(cells[each.place], each.width), each, style))
            table.add_row(*drawn, key=view.panel.key(row))
        keys = list(map(view.panel.key, shown))
        if selected in keys:
            table.move_cursor(row=keys.index(selected), scroll=False)
        table.scroll_to(y=scrolled, animate=False)
        table.border_title = self._title(name, len(shown), len(found))

    def _set_columns(self, name: str, columns: list[tuple[str, Fit]]) -> None:
        """Empty a table, and give it these columns."""
        table = self._tables[name]
        if self._laid_out.get(name) == columns:
            table.clear()
            return
        self._laid_out[name] = columns
        table.clear(columns=True)
        for head, each in columns:
            table.add_column(_aligned(head, each), width=each.width)

    def _title(self, name: str, shown: int, found: int) -> str:
        view = self.views[name]
        count = f" {shown} of {found}" if shown < found else f" {found}"
        return f"{view.panel.title}{count}" + (f" with {quoted(view.filter)}" if view.filter else "")

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _selected(self, name: str) -> str | None:
        table = self._tables[name]
        if not table.is_valid_coordinate(table.cursor_coordinate):
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def _row(self) -> Any:
        """What the cursor is on, in the current panel; None where that is nothing."""
        key = self._selected(self.current)
        return None if key is None else self.views[self.current].find(self.board, time.time(), key)

    def action_panel(self, name: str) -> None:
        """Go to a panel."""
        self._tables[name].focus()
        self._enter(name)

    def on_descendant_focus(self) -> None:
        """The panel that has the focus is the current one."""
        if isinstance(self.focused, DataTable) and self.focused.id != self.current:
            self._enter(str(self.focused.id))

    def _enter(self, name: str) -> None:
        self.current = name
        for each, table in self._tables.items():
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

    # --- order and filter ---------------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """Sort by the next column."""
        self.views[self.current].sort_next()
        self.draw()

    def action_reverse(self) -> None:
        """Turn the order round."""
        view = self.views[self.current]
        view.is_reversed = not view.is_reversed
        self.draw()

    def action_pause(self) -> None:
        """Stand still, to read; what happens meanwhile is drawn afterwards."""
        self._is_paused = not self._is_paused
        self.draw()

    def action_filter(self) -> None:
        """Ask what the rows of the panel must contain."""
        self._filter.value = self.views[self.current].filter
        self._filter.add_class("shown")
        self._filter.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show the rows that contain it alone."""
        if event.input is self._filter:
            self.views[self.current].filter = event.value.strip().lower()
            self._filter.remove_class("shown")
            self.action_panel(self.current)

    # --- dialogs ------------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(dialogs.Help())

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show all fields of the row."""
        view, key = self.views[self.current], event.row_key.value
        row = None if key is None else view.find(self.board, time.time(), key)
        if key is None or row is None:
            return

        def details() -> Details | None:
            found = view.find(self.board, time.time(), key)
            return None if found is None else view.panel.details(found)

        def do(what: str | None) -> None:
            if what == "block":
                self._ask_to_block(view.panel.client(row))
            elif what == "close":
                self._ask_to_close(view.panel.connection(row))

        offers = "b: block  " * bool(view.panel.client(row)) + "k: close  " * bool(view.panel.connection(row))
        zoom = dialogs.Zoom(view.panel.title, details, offers, REDRAW)
        self.push_screen(zoom, do)
        if self.current == "routes":
            self.run_worker(self._look_up(zoom, row.listener, row.hostname))

    async def _look_up(self, zoom: dialogs.Zoom, listener: str, hostname: str) -> None:
        """Show how a route is configured, too."""
        try:
            route = await asyncio.to_thread(self._feed.route, listener, hostname)
        except Lost as lost:
            zoom.add([("configured", str(lost))])
        else:
            fields = output.plain(route) if route else {"configured": "it is removed"}
            fields.pop("hostname", None)
            zoom.add([(name.replace("_", " "), _written(value)) for name, value in fields.items()])

    def action_block(self) -> None:
        """Block the client of the row."""
        row = self._row()
        self._ask_to_block("" if row is None else self.views[self.current].panel.client(row))

    def _ask_to_block(self, address: str) -> None:
        if not address:
            self.notify("go to a connection, a refusal or a client first", severity="warning")
            return

        def do(wanted: dialogs.Blocking | None) -> None:
            if wanted is not None:
                self.run_worker(self._do(self._block(address, wanted)))

        self.push_screen(dialogs.Block(address), do)

    async def _block(self, address: str, wanted: dialogs.Blocking) -> str:
        request = pb.AddFirewallRuleRequest(
            kind=pb.RULE_KIND_IP, value=address, ttl_seconds=wanted.seconds, kill=wanted.kill,
            own_ip=own_ip(os.environ), comment=self.TITLE, dry_run=True,
        )  # fmt: skip
        risks = (await asyncio.to_thread(self._feed.block, request)).effect.risks
        if risks and not await self.push_screen_wait(dialogs.Confirm(f"{'; '.join(risks)}. Block {address}?")):
            return "nothing has changed"
        request.dry_run = False
        answer = await asyncio.to_thread(self._feed.block, request)
        until = f" until {output.moment(answer.rule.expires_at)}" if answer.rule.expires_at else " for good"
        closed = f", {counted(answer.killed, 'connection')} closed" if wanted.kill else ""
        return f"{address} is blocked{until}{closed}; `mcproxy firewall remove {address}` lets it in again"

    def action_close_connection(self) -> None:
        """Close the connection of the row."""
        row = self._row()
        self._ask_to_close(0 if row is None else self.views[self.current].panel.connection(row))

    def _ask_to_close(self, number: int) -> None:
        if not number:
            self.notify("go to a connection first", severity="warning")
            return

        def do(is_meant: bool | None) -> None:
            if is_meant:
                self.run_worker(self._do(self._close(number)))

        self.push_screen(dialogs.Confirm(f"Close connection {number}?"), do)

    async def _close(self, number: int) -> str:
        await asyncio.to_thread(self._feed.close_connection, number)
        return f"connection {number} is closed"

    async def _do(self, action: Awaitable[str]) -> None:
        """Say what has become of it."""
        try:
            self.notify(await action)
        except Lost as lost:
            self.notify(str(lost), severity="error")


def _aligned(text: str, column: Fit, style: str = "") -> Text:
    """A cell or a head, to the right where there are numbers."""
    return Text(text, style, justify="right" if column.numeric else "left", no_wrap=True)


def _written(value: Any) -> str:
    """A field's value; "" for one that is not set."""
    return ("yes" if value is True else str(value)) if value else ""


@click.command(epilog=example("mcproxy top", "mcproxy top --server unix:/run/mcproxy/admin.sock"))
@target_options
def top(given: Path | None) -> None:
    """Show the server live on the whole terminal: routes, connections, listeners, refusals, clients. `?` lists keys."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        fail("mcproxy: top needs a terminal; use `mcproxy watch` or `mcproxy status --json` instead", INVALID)
    with connected(given) as client:
        client.call("GetStatus", pb.GetStatusRequest())  # a server that isn't there ends the program here
    feed = Feed(lambda: connected(given, lose))
    try:
        Top(feed).run()
    finally:
        feed.close()
