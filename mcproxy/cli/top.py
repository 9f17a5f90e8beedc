"""`mcproxy top`: the server, live, on the whole terminal.

Above, rates of the last minute; below, routes, refusals by reason, clients, and then the newest refusals and the open
connections. The screen asks nobody: it draws what the feed has put on the board.
"""

import queue
import time
from pathlib import Path
from typing import ClassVar

import click
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Input, Sparkline, Static

from mcproxy.cli import output
from mcproxy.cli.board import Board, Traffic, blocks
from mcproxy.cli.client import connected
from mcproxy.cli.feed import Feed, Lost, Sample, lose
from mcproxy.cli.target import target_options

REDRAW = 0.5  # seconds between two looks at the news
SHOWN = 100  # rows of a table: more than fit on any screen
SPARK = 16  # characters of a sparkline in a table, a second each

Row = tuple[str | Text, ...]

GAUGES = {"accepted": "connections/s", "refused": "refused/s", "received": "received/s", "sent": "sent/s"}
TITLES = {
    "routes": "Routes",
    "reasons": "Refusals by reason",
    "clients": "Busiest clients, last minute",
    "refusals": "Newest refusals",
    "connections": "Open connections, oldest first",
}

# What routes may be sorted by; clients go by what is nearest to it.
SORTS = ("connections", "refusals", "bytes", "open", "name")


def _right(value: object) -> Text:
    return Text(str(value), justify="right")


def _rate(value: float) -> Text:
    return _right(f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}")


def _speed(value: float) -> Text:
    return _right(f"{output.amount(int(value))}/s")


def _warned(text: Text, bad: bool) -> Text:
    if bad:
        text.stylize("bold red")
    return text


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
    CSS = """
    Screen { layout: vertical; }
    #head { height: 1; padding: 0 1; background: $primary-background; }
    #gauges { height: 4; }
    .gauge { padding: 0 1; width: 1fr; }
    .gauge Sparkline { height: 2; }
    #refused Sparkline > .sparkline--max-color { color: $error; }
    #refused Sparkline > .sparkline--min-color { color: $error-darken-2; }
    .row { height: 1fr; }
    DataTable { border: round $primary-background; border-title-color: $text; width: 1fr; height: 100%;
                scrollbar-size: 1 1; }
    DataTable > .datatable--cursor { background: $surface; color: $text; text-style: none; }
    DataTable:focus { border: round $accent; }
    DataTable:focus > .datatable--cursor { background: $primary; }
    #routes { width: 2fr; }
    #filter { display: none; height: 3; }
    #filter.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("s", "sort", "Sort"),
        ("f", "filter", "Filter by route"),
        ("k", "cut", "Cut the connection"),
        ("p", "pause", "Pause"),
        ("tab", "focus_next", "Next table"),
    ]
    COLUMNS: ClassVar[dict[str, tuple[str, ...]]] = {
        "routes": ("ROUTE", "CONN/S", "LAST SECONDS", "OPEN", "REFUSED/S", "RECEIVED", "SENT", "LISTENER"),
        "reasons": ("REFUSED FOR", "/S", "LAST SECONDS", "TOTAL"),
        "clients": ("CLIENT", "ENDED", "REFUSED", "MOVED"),
        "refusals": ("REFUSED AT", "CLIENT", "SNI", "REASON"),
        "connections": ("ID", "CLIENT", "ROUTE", "BACKEND", "STATE", "AGE", "RECEIVED", "SENT"),
    }

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.board = Board()
        self._feed = feed
        self._sort = 0
        self._route = ""  # shown alone
        self._paused = False
        self._notice = "asking the server"
        # Kept, and not looked up for each drawing: the last one may come while the screen is being taken apart.
        self._line = Static(id="head")
        self._tables: dict[str, DataTable[str | Text]] = {
            name: DataTable(id=name, cursor_type="row") for name in TITLES
        }
        self._gauges = {name: Gauge(title, name) for name, title in GAUGES.items()}

    def compose(self) -> ComposeResult:
        """The screen's parts, from top to bottom."""
        yield self._line
        yield Horizontal(*self._gauges.values(), id="gauges")
        yield Input(placeholder="part of a route's name; empty for all; Enter", id="filter")
        for names in (("routes", "reasons"), ("clients", "refusals"), ("connections",)):
            yield Horizontal(*(self._tables[name] for name in names), classes="row")
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        for name, columns in self.COLUMNS.items():
            table = self._tables[name]
            table.border_title = TITLES[name]
            for column in columns:
                table.add_column(column)
        self._tables["routes"].focus()
        self._feed.start()
        self.set_interval(REDRAW, self.refresh_board)
        self.draw()

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
                self._notice = str(news)
            else:
                self.board.happened(news)
        if changed and not self._paused:
            self.draw()

    def draw(self) -> None:
        """Draw everything."""
        total = self.board.total
        self._gauge("accepted", _rate(total.accepted.rate).plain, list(total.accepted.rates))
        self._gauge("refused", _rate(total.refused.rate).plain, list(total.refused.rates))
        self._gauge("received", output.amount(int(total.received.rate)), list(total.received.rates))
        self._gauge("sent", output.amount(int(total.sent.rate)), list(total.sent.rates))
        self._fill("routes", self._routes())
        self._fill("reasons", self._reasons())
        self._fill("clients", self._clients())
        self._fill("refusals", self._refusals())
        self._fill("connections", self._connections())
        self._line.update(self._head())

    def _gauge(self, name: str, value: str, rates: list[float]) -> None:
        self._gauges[name].show(value, rates)

    def _fill(self, name: str, rows: list[tuple[str, Row]]) -> None:
        """Replace a table's rows; the cursor stays on the row that it is on, wherever that goes."""
        table = self._tables[name]
        selected = self._selected(name)
        scrolled = table.scroll_y
        table.clear()
        for key, row in rows[:SHOWN]:
            table.add_row(*row, key=key)
        keys = [key for key, _ in rows[:SHOWN]]
        if selected in keys:
            table.move_cursor(row=keys.index(selected), scroll=False)
        table.scroll_to(y=scrolled, animate=False)

    def _selected(self, name: str) -> str | None:
        table = self._tables[name]
        if not table.is_valid_coordinate(table.cursor_coordinate):
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def _head(self) -> Text:
        status = self.board.status
        if self._notice:
            return Text(self._notice, "bold red" if status.version else "bold")
        parts = [
            status.state, f"mcproxy {status.version}", f"up {output.span(time.time() - status.started_at)}",
            f"{self.board.total.open} open", f"{status.routes} routes", f"generation {status.generation}",
            f"sorted by {SORTS[self._sort]}",
        ]  # fmt: skip
        head = Text("  ".join(parts))
        if self._route:
            head.append(f"  only *{self._route}*", "bold yellow")
        if self._paused:
            head.append("  PAUSED", "bold yellow")
        return head

    def _wanted(self, route: str) -> bool:
        return self._route in route

    def _routes(self) -> list[tuple[str, Row]]:
        found = [(key, traffic) for key, traffic in self.board.routes.items() if self._wanted(key[1])]
        found.sort(key=lambda item: (self._weight(item[1]), item[0]))
        return [
            (
                "\t".join(key),
                (
                    key[1], _rate(each.accepted.rate), blocks(each.accepted.rates, SPARK), _right(each.open),
                    _warned(_rate(each.refused.rate), each.refused.rate > 0), _speed(each.received.rate),
                    _speed(each.sent.rate), key[0],
                ),
            )
            for key, each in found
        ]  # fmt: skip

    def _weight(self, traffic: Traffic) -> float:
        return {
            "connections": -sum(traffic.accepted.rates),
            "refusals": -sum(traffic.refused.rates),
            "bytes": -(traffic.received.rate + traffic.sent.rate),
            "open": -float(traffic.open),
            "name": 0.0,
        }[SORTS[self._sort]]

    def _reasons(self) -> list[tuple[str, Row]]:
        meters = sorted(self.board.reasons.items(), key=lambda item: (-sum(item[1].rates), item[0]))
        return [
            (reason, (reason, _warned(_rate(meter.rate), meter.rate > 0), blocks(meter.rates, SPARK),
                      _right(self.board.refused_by_reason[reason])))
            for reason, meter in meters
        ]  # fmt: skip

    def _clients(self) -> list[tuple[str, Row]]:
        rows = self.board.clients(time.time(), self._route)
        by = SORTS[self._sort]
        rows.sort(key=lambda row: -(row.refused if by == "refusals" else row.moved if by == "bytes" else row.ended))
        return [
            (row.address, (row.address, _right(row.ended), _warned(_right(row.refused), row.refused > 0),
                           _right(output.amount(row.moved))))
            for row in rows
        ]  # fmt: skip

    def _refusals(self) -> list[tuple[str, Row]]:
        return [
            (str(event.connection.id), (time.strftime("%H:%M:%SZ", time.gmtime(event.at)), event.connection.client,
                                        output.clean(event.connection.sni or "-"), Text(event.reason, "red")))
            for event in self.board.refusals
            if self._wanted(event.connection.route)
        ]  # fmt: skip

    def _connections(self) -> list[tuple[str, Row]]:
        now = time.time()
        return [
            (str(each.id), (_right(each.id), each.client, output.clean(each.route or "-"), each.backend or "-",
                            output.state(each.state), _right(output.span(now - each.started_at)),
                            _right(output.amount(each.received_bytes)), _right(output.amount(each.sent_bytes))))
            for each in self.board.connections
            if self._wanted(each.route)
        ]  # fmt: skip

    def action_sort(self) -> None:
        """Sort by the next thing."""
        self._sort = (self._sort + 1) % len(SORTS)
        self.draw()

    def action_pause(self) -> None:
        """Stand still, to read; what happens meanwhile is drawn afterwards."""
        self._paused = not self._paused
        self.draw()

    def action_filter(self) -> None:
        """Ask for a part of a route's name."""
        asking = self.query_one("#filter", Input)
        asking.add_class("shown")
        asking.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Show the routes that contain it alone."""
        self._route = event.value.strip().lower()
        event.input.remove_class("shown")
        self._tables["routes"].focus()
        self.draw()

    def action_cut(self) -> None:
        """Cut the connection that the cursor is on, which must be in the table of connections."""
        selected = self._selected("connections")
        if selected is None or not self._tables["connections"].has_focus:
            self.notify("go to a connection first, with Tab and the arrows", severity="warning")
            return
        try:
            self._feed.cut(int(selected))
        except Lost as lost:
            self.notify(str(lost), severity="error")
        else:
            self.notify(f"connection {selected} is cut")


@click.command()
@target_options
def top(given: Path | None) -> None:
    """Show the server live on the whole terminal: rates, routes, refusals, clients, connections."""
    feed = Feed(lambda: connected(given, lose))
    try:
        Top(feed).run()
    finally:
        feed.close()
