"""The dialogs of `mcproxy top`: help, all fields of one row, and questions before a change."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from rich.markup import escape
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, Static

from mcproxy.cli.panels import Details
from mcproxy.notation.duration import parse_duration

KEYS = (
    ("1 to 6, Tab", "another panel"),
    ("arrows, PgUp, PgDn", "move in the panel"),
    ("Enter", "all fields of the row"),
    ("s, r", "sort by the next column; reverse the order"),
    ("/", "show only rows that contain a text"),
    ("b", "block the client of the row"),
    ("k", "close the connection of the row"),
    ("p", "pause, to read; once more to go on"),
    ("?", "this page"),
    ("q, Ctrl-C", "quit"),
)
NOTES = """
CONN/S and REF/S are connections and refusals a second, 2XX to 5XX the
answers of l7 routes since the server's start, by class of status.
Connections are the 1,000 oldest, refusals the 200 newest, clients
those of the last minute."""

CSS = """
ModalScreen { align: center middle; }
.dialog { width: 76; max-width: 100%; height: auto; max-height: 100%; padding: 0 1; border: round $accent;
          background: $surface; }
.problem { color: $error; }
"""


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,question_mark,q,enter,space", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        """The widgets."""
        with Vertical(classes="dialog") as frame:
            frame.border_title = "Keys"
            frame.border_subtitle = "Esc: back"
            yield Static(_grid(KEYS, "bold"))
            yield Static(NOTES)


class Zoom(ModalScreen[str]):
    """All fields of one row, as they change. Answers with the action to take: "block", "close" or ""."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,enter", "dismiss('')", "Back"),
        ("b", "dismiss('block')", "Block"),
        ("k", "dismiss('close')", "Close"),
    ]

    def __init__(self, title: str, details: Callable[[], Details | None], offers: str, interval: float) -> None:
        """`details` gives the fields, or None when the row is gone; it is asked every `interval` seconds.

        `offers` says which keys do something to the row.
        """
        super().__init__()
        self._title = title
        self._offers = offers
        self._details = details
        self._interval = interval
        self._more: Details = []
        self._shown: Details = []
        self._gone = Static(Text("gone; these are its last values", "bold yellow"))
        self._text = Static()

    def compose(self) -> ComposeResult:
        """The widgets."""
        with VerticalScroll(classes="dialog") as frame:
            frame.border_title = self._title
            frame.border_subtitle = f"{self._offers}Esc: back"
            yield self._gone
            yield self._text

    def on_mount(self) -> None:
        """Begin."""
        self.set_interval(self._interval, self.refresh_fields)
        self.refresh_fields()

    def add(self, more: Details) -> None:
        """Show these too."""
        self._more = more
        self.refresh_fields()

    def refresh_fields(self) -> None:
        """Draw the fields as they are now, or as they were last."""
        found = self._details()
        if found is not None:
            self._shown = found
        self._gone.display = found is None
        self._text.update(_grid([(name, value) for name, value in [*self._shown, *self._more] if value], "dim"))


@dataclass(frozen=True, slots=True)
class Blocking:
    """How to block a client."""

    seconds: float  # 0: permanent
    kill: bool  # close its connections too


class Block(ModalScreen[Blocking | None]):
    """Asks for how long a client is blocked."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "Back")]

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self._problem = Static(classes="problem")
        self._kill = Checkbox("close its connections too", value=True, compact=True)

    def compose(self) -> ComposeResult:
        """The widgets."""
        with Vertical(classes="dialog") as frame:
            frame.border_title = f"Block {escape(self._address)}"
            frame.border_subtitle = "Enter: block  Tab, Space: the check box  Esc: back"
            yield Static('For how long, such as "10m" or "1h"; empty: permanent:')
            yield Input("1h")
            yield self._kill
            yield self._problem

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer, if that is a length of time."""
        text = event.value.strip()
        try:
            seconds = parse_duration(text) if text else 0.0
        except ValueError as error:
            self._problem.update(str(error))
            return
        if text and not seconds:
            self._problem.update("must be more than 0; empty: permanent")
            return
        self.dismiss(Blocking(seconds, self._kill.value))


class Confirm(ModalScreen[bool]):
    """Asks for confirmation."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y,enter", "dismiss(True)", "Yes"),
        ("n,escape,q", "dismiss(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The widgets."""
        with Vertical(classes="dialog") as frame:
            frame.border_subtitle = "y: yes  n: no"
            yield Static(Text(self._question))


def _grid(rows: Iterable[tuple[str, str]], style: str) -> Table:
    """Two columns; the first in this style."""
    table = Table.grid(padding=(0, 2))
    for left, right in rows:
        table.add_row(Text(left, style), Text(right))
    return table
