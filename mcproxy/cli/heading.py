"""The upper lines of `mcproxy top`: the server's state, and its rates in the last minute."""

import time

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Sparkline, Static

from mcproxy.cli import output
from mcproxy.cli.board import Board, blocks
from mcproxy.cli.panels import rate, speed
from mcproxy.model import counted

SPARK_OF_RATES = 10  # characters of a line of blocks in the line of rates, a second each

GAUGES = {"accepted": "connections/s", "refused": "refused/s", "received": "received/s", "sent": "sent/s"}

CSS = """
Heading { height: auto; }
#head { height: 1; padding: 0 1; background: $primary-background; text-wrap: nowrap; text-overflow: ellipsis; }
#rates { height: 1; padding: 0 1; }
#gauges { height: 4; }
.gauge { padding: 0 1; width: 1fr; }
.gauge Sparkline { height: 2; }
#refused-gauge Sparkline > .sparkline--max-color { color: $error; }
#refused-gauge Sparkline > .sparkline--min-color { color: $error-darken-2; }
.-wide #rates, .-narrow #gauges { display: none; }
"""


class Gauge(Vertical):
    """One rate of the whole server: its name and value, and its last minute."""

    def __init__(self, name: str, id: str) -> None:  # noqa: A002 - as textual names it
        super().__init__(id=id, classes="gauge")
        self._title = name
        self._label = Static(name)
        self._line = Sparkline([0.0])

    def compose(self) -> ComposeResult:
        """The widgets."""
        yield self._label
        yield self._line

    def show(self, value: str, rates: list[float]) -> None:
        """Draw it."""
        self._label.update(Text.assemble((f"{self._title} ", "dim"), (value, "bold")))
        self._line.data = rates or [0.0]


class Heading(Vertical):
    """A line about the server, and its rates: in one line, or as gauges on a large terminal."""

    def __init__(self) -> None:
        super().__init__()
        # Kept, and not looked up for each drawing: the last one may come while the screen is being taken apart.
        self._head, self._rates = Static(id="head"), Static(id="rates")
        self._gauges = {name: Gauge(title, f"{name}-gauge") for name, title in GAUGES.items()}

    def compose(self) -> ComposeResult:
        """The widgets."""
        yield self._head
        yield self._rates
        yield Horizontal(*self._gauges.values(), id="gauges")

    def show(self, board: Board, notice: str, is_paused: bool) -> None:
        """Draw it; a notice takes the place of what is known of the server."""
        total = board.total
        for name, text, meter in (
            ("accepted", rate(total.accepted.rate), total.accepted),
            ("refused", rate(total.refused.rate), total.refused),
            ("received", output.amount(int(total.received.rate)), total.received),
            ("sent", output.amount(int(total.sent.rate)), total.sent),
        ):
            self._gauges[name].show(text, list(meter.rates))
        self._rates.update(_rates(board))
        if notice:
            self._head.update(Text(notice, "bold red" if board.status.version else "bold"))
        else:
            self._head.update(Text.assemble(*(("PAUSED  ", "bold yellow"),) * is_paused, _server(board)))


def _server(board: Board) -> str:
    status = board.status
    parts = (
            status.state, f"mcproxy {status.version}", f"up {output.span(time.time() - status.started_at)}",
            f"{board.total.open} open", counted(status.routes, "route"), f"generation {status.generation}",
    )  # fmt: skip
    workers = status.workers
    idle = [f"worker {each.number} {each.state}" for each in workers if each.state != status.state]
    some = (counted(len(workers), "worker"),) if workers else ()
    return "  ".join(map(output.clean, (*parts[:3], *idle, *parts[3:], *some)))


def _rates(board: Board) -> Text:
    total = board.total
    return Text.assemble(
        (rate(total.accepted.rate), "bold"), " conn/s ", (blocks(total.accepted.rates, SPARK_OF_RATES), "green"),
        ("  " + rate(total.refused.rate), "bold"), " refused/s ", (blocks(total.refused.rates, SPARK_OF_RATES), "red"),
        ("  " + speed(total.received.rate), "bold"), " in", ("  " + speed(total.sent.rate), "bold"), " out",
    )  # fmt: skip
