"""The panels of `mcproxy top`: their columns, their order, and all fields of one row.

Pure: a board and the time in, texts out.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import output
from mcproxy.cli.board import CLASSES, Board, ClientRow, Meter, Traffic, blocks
from mcproxy.cli.columns import Column
from mcproxy.model import host_of

SPARK = 16  # characters of a line of blocks, a second each

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
Details = list[tuple[str, str]]  # names and values


@dataclass(frozen=True, slots=True)
class PanelColumn(Generic[T_contra]):
    """One column of a panel."""

    column: Column
    text: Callable[[T_contra], str]
    order: Callable[[T_contra], Any]  # what its rows are sorted by
    descending: bool = True  # the greatest first, until the order is reversed
    is_alarming: Callable[[T_contra], bool] = lambda _: False


@dataclass(frozen=True, slots=True)
class Panel(Generic[T]):
    """One kind of thing that is listed."""

    title: str
    rows: Callable[[Board, float], Iterable[T]]
    key: Callable[[T], str]  # identifies a row, also in the next sample
    fields: tuple[PanelColumn[T], ...]
    details: Callable[[T], Details]
    sorted_by: int = 0  # the field, at first
    client: Callable[[T], str] = lambda _: ""  # the address that could be blocked
    connection: Callable[[T], int] = lambda _: 0  # the id of what could be closed


class View(Generic[T]):
    """A panel as it is shown: its order, and its filter."""

    def __init__(self, panel: Panel[T]) -> None:
        self.panel = panel
        self.sorted_by = panel.sorted_by
        self.is_reversed = False
        self.filter = ""  # what a value must contain, in small letters

    def __repr__(self) -> str:
        return f"<View {self.panel.title} by={self.panel.fields[self.sorted_by].column.name} filter={self.filter!r}>"

    def sort_next(self) -> None:
        """Sort by the next column."""
        self.sorted_by = (self.sorted_by + 1) % len(self.panel.fields)
        self.is_reversed = False

    def columns(self) -> list[Column]:
        """The columns; an arrow marks the one that the rows are sorted by."""
        arrow = "▼" if self._descends() else "▲"
        columns = [each.column for each in self.panel.fields]
        chosen = columns[self.sorted_by]
        columns[self.sorted_by] = chosen._replace(name=f"{chosen.name}{arrow}", rank=0)
        return columns

    def rows(self, board: Board, now: float) -> list[T]:
        """The rows that contain what is looked for, in order."""
        fields = self.panel.fields
        found = [row for row in self.panel.rows(board, now) if self._is_wanted(row)]
        return sorted(found, key=fields[self.sorted_by].order, reverse=self._descends())

    def find(self, board: Board, now: float, key: str) -> T | None:
        """The row with this key, if it is there still."""
        return next((row for row in self.panel.rows(board, now) if self.panel.key(row) == key), None)

    def _descends(self) -> bool:
        return self.panel.fields[self.sorted_by].descending is not self.is_reversed

    def _is_wanted(self, row: T) -> bool:
        return not self.filter or any(self.filter in each.text(row).lower() for each in self.panel.fields)


def _name(column: Column, text: Callable[[T], str]) -> PanelColumn[T]:
    """A column of texts, in alphabetical order."""
    return PanelColumn(column, lambda row: output.clean(text(row)) or "-", text, descending=False)


def _number(
    column: Column, value: Callable[[T], float], text: Callable[[float], str],
    is_alarming: Callable[[T], bool] = lambda _: False,
) -> PanelColumn[T]:  # fmt: skip
    """A column of numbers, the greatest first."""
    return PanelColumn(column, lambda row: text(value(row)), value, is_alarming=is_alarming)


def rate(value: float) -> str:
    """How many a second."""
    return f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}"


def speed(value: float) -> str:
    """Bytes a second."""
    return f"{output.amount(int(value))}/s"


def short(value: float) -> str:
    """A count in at most five characters."""
    for unit in ("", "k", "M"):
        if value < 1000:
            return f"{value:.0f}{unit}" if not unit or value >= 99.95 else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}G"


def _amount(value: float) -> str:
    return output.amount(int(value))


def _refusals(reasons: Counter[str]) -> Details:
    return [(f"refused: {reason}", str(count)) for reason, count in reasons.most_common()]


# --- connections ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Live:
    """An open connection."""

    connection: pb.Connection
    age: float  # seconds
    speed: float  # bytes a second, both ways


def _connection(row: _Live) -> Details:
    each = row.connection
    return [
        ("id", str(each.id)),
        *([("worker", str(each.worker))] if each.worker else []),
        ("client", each.client),
        ("listener", each.listener),
        ("server name", each.sni),
        ("route", each.route),
        ("backend", each.backend),
        ("mode", output.word(pb.Mode.DESCRIPTOR, each.mode) if each.mode else ""),
        ("state", output.state(each.state)),
        ("since", output.moment(each.started_at)),
        ("age", output.span(row.age)),
        ("received", output.amount(each.received_bytes)),
        ("sent", output.amount(each.sent_bytes)),
        ("speed", speed(row.speed)),
    ]


CONNECTIONS: Panel[_Live] = Panel(
    title="Connections",
    rows=lambda board, now: [
        _Live(each, max(0.0, now - each.started_at), board.speeds[each.id].rate) for each in board.connections
    ],
    key=lambda row: str(row.connection.id),
    fields=(
        _number(Column("ID", rank=1), lambda row: row.connection.id, lambda value: f"{value:.0f}"),
        _name(Column("CLIENT", least=21), lambda row: row.connection.client),
        _name(Column("ROUTE"), lambda row: row.connection.route or row.connection.sni),
        _name(Column("BACKEND", rank=4), lambda row: row.connection.backend),
        _name(Column("STATE", rank=2, usual=11), lambda row: output.state(row.connection.state)),
        _number(Column("AGE", usual=6), lambda row: row.age, output.span),
        _number(Column("RECEIVED", rank=3, usual=8), lambda row: row.connection.received_bytes, _amount),
        _number(Column("SENT", rank=3, usual=8), lambda row: row.connection.sent_bytes, _amount),
        _number(Column("SPEED", usual=10), lambda row: row.speed, speed),
        _name(Column("LISTENER", rank=5), lambda row: row.connection.listener),
    ),
    details=_connection,
    sorted_by=5,
    client=lambda row: host_of(row.connection.client),
    connection=lambda row: row.connection.id,
)


# --- routes and listeners ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Busy:
    """A route or a listener, and what passes through it."""

    listener: str
    hostname: str
    traffic: Traffic


def _traffic(each: Traffic) -> Details:
    return [
        ("open", str(each.open)),
        ("accepted", f"{each.total}, {rate(each.accepted.rate)}/s"),
        ("refused", f"{each.refusals}, {rate(each.refused.rate)}/s"),
        ("received", f"{output.amount(each.moved[0])}, {speed(each.received.rate)}"),
        ("sent", f"{output.amount(each.moved[1])}, {speed(each.sent.rate)}"),
        ("last seconds", blocks(each.accepted.rates, SPARK).lstrip()),
        *[(f"requests {status}", str(count)) for status, count in sorted(each.answers.items())],
        *[(f"requests: {end}", str(count)) for end, count in sorted(each.ends.items())],
        *_refusals(each.reasons),
    ]


def _class_of(status: str) -> PanelColumn[_Busy]:
    """A column of answers of one class of status; those of 5xx that come now are alarming."""
    none = Meter()
    return PanelColumn(
        Column(status.upper(), rank=1, usual=4),
        lambda row: short(row.traffic.answers[status]) if status in row.traffic.answers else "-",
        lambda row: row.traffic.answers.get(status, 0),
        is_alarming=lambda row: status == "5xx" and row.traffic.answering.get(status, none).rate > 0,
    )


def _passing(spark: int, moved: int) -> tuple[PanelColumn[_Busy], ...]:
    """The columns of all traffic; the arguments are the ranks of two kinds of columns."""
    return (
        _number(Column("CONN/S", usual=7), lambda row: row.traffic.accepted.rate, rate),
        PanelColumn(
            Column("LAST SECONDS", rank=spark),
            lambda row: blocks(row.traffic.accepted.rates, SPARK),
            lambda row: sum(row.traffic.accepted.rates),
        ),
        _number(Column("OPEN", usual=5), lambda row: row.traffic.open, short),
        _number(
            Column("REF/S", usual=5),
            lambda row: row.traffic.refused.rate,
            rate,
            lambda row: row.traffic.refused.rate > 0,
        ),
        *map(_class_of, CLASSES),
        _number(Column("RECEIVED", rank=moved + 1, usual=10), lambda row: row.traffic.received.rate, speed),
        _number(Column("SENT", rank=moved, usual=10), lambda row: row.traffic.sent.rate, speed),
    )  # fmt: skip


ROUTES: Panel[_Busy] = Panel(
    title="Routes",
    rows=lambda board, _: [_Busy(*key, traffic) for key, traffic in board.routes.items()],
    key=lambda row: f"{row.listener}\t{row.hostname}",
    fields=(
        _name(Column("ROUTE", least=20), lambda row: row.hostname),
        *_passing(spark=3, moved=2),
        _name(Column("LISTENER", rank=4), lambda row: row.listener),
    ),
    details=lambda row: [("route", row.hostname), ("listener", row.listener), *_traffic(row.traffic)],
    sorted_by=1,
)


@dataclass(frozen=True, slots=True)
class _Listening(_Busy):
    status: pb.ListenerStatus


def _listener(row: _Listening) -> Details:
    each = row.status
    return [
        ("listener", each.addr),
        ("state", "accepting" if each.accepting else "closed"),
        ("routes", str(each.routes)),
        *_traffic(row.traffic),
        *[(f"ended: {end}", str(count)) for end, count in sorted(each.ended.items())],
    ]


LISTENERS: Panel[_Listening] = Panel(
    title="Listeners",
    rows=lambda board, _: [
        _Listening(each.addr, "", board.listeners[each.addr], each) for each in board.status.listeners
    ],
    key=lambda row: row.listener,
    fields=(
        _name(Column("LISTENER", least=21), lambda row: row.listener),
        _name(Column("STATE", rank=4), lambda row: "accepting" if row.status.accepting else "closed"),
        _number(Column("ROUTES", rank=3), lambda row: row.status.routes, short),
        *_passing(spark=5, moved=2),
    ),
    details=_listener,
)


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refusal(event: pb.ConnectionEvent) -> Details:
    each = event.connection
    return [
        ("refused at", output.moment(event.at)),
        ("reason", event.reason),
        ("detail", event.detail),
        ("client", each.client),
        ("listener", each.listener),
        ("server name", each.sni),
        ("route", each.route),
        ("backend", each.backend),
        ("id", str(each.id)),
        ("received", output.amount(each.received_bytes)),
        ("sent", output.amount(each.sent_bytes)),
        ("duration", f"{event.duration_seconds:.3f} s"),
    ]


REFUSALS: Panel[pb.ConnectionEvent] = Panel(
    title="Refusals",
    rows=lambda board, _: board.refusals,
    key=lambda event: str(event.connection.id),
    fields=(
        PanelColumn(
            Column("AT"), lambda event: time.strftime("%H:%M:%SZ", time.gmtime(event.at)), lambda event: event.at
        ),
        _name(Column("CLIENT", least=21), lambda event: event.connection.client),
        _name(Column("SERVER NAME"), lambda event: event.connection.sni),
        PanelColumn(
            Column("REASON", least=24), lambda event: event.reason, lambda event: event.reason, descending=False,
            is_alarming=lambda _: True,
        ),
        _name(Column("DETAIL", rank=1, prose=True), lambda event: event.detail),
        _name(Column("LISTENER", rank=2), lambda event: event.connection.listener),
    ),
    details=_refusal,
    client=lambda event: host_of(event.connection.client),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Reason:
    """Why connections are refused, and how many."""

    reason: str
    count: int
    meter: Meter


REASONS: Panel[_Reason] = Panel(
    title="Reasons",
    rows=lambda board, _: [
        _Reason(reason, board.refused_by_reason[reason], meter) for reason, meter in board.reasons.items()
    ],
    key=lambda row: row.reason,
    fields=(
        _name(Column("REFUSED FOR", least=24), lambda row: row.reason),
        _number(Column("/S"), lambda row: row.meter.rate, rate, lambda row: row.meter.rate > 0),
        PanelColumn(
            Column("LAST SECONDS", rank=1), lambda row: blocks(row.meter.rates, SPARK), lambda row: sum(row.meter.rates)
        ),
        _number(Column("TOTAL"), lambda row: row.count, lambda value: f"{value:.0f}"),
    ),
    details=lambda row: [("reason", row.reason), ("total", str(row.count)), ("now", f"{rate(row.meter.rate)}/s")],
    sorted_by=2,
)


# --- clients ----------------------------------------------------------------------------------------------------------


def _client(row: ClientRow) -> Details:
    return [
        ("client", row.address),
        ("open", str(row.open)),
        ("ended in the last minute", str(row.ended)),
        ("of these refused", str(row.refused)),
        ("bytes of those that ended", output.amount(row.moved)),
        *_refusals(row.reasons),
    ]


CLIENTS: Panel[ClientRow] = Panel(
    title="Clients",
    rows=lambda board, now: board.clients(now),
    key=lambda row: row.address,
    fields=(
        _name(Column("CLIENT", least=21), lambda row: row.address),
        _number(Column("OPEN"), lambda row: row.open, short),
        _number(Column("ENDED"), lambda row: row.ended, short),
        _number(Column("REFUSED"), lambda row: row.refused, short, lambda row: row.refused > 0),
        _number(Column("MOVED", usual=8), lambda row: row.moved, _amount),
        _name(Column("MOSTLY FOR", rank=1), lambda row: max(row.reasons, key=row.reasons.__getitem__, default="")),
    ),
    details=_client,
    sorted_by=2,
    client=lambda row: row.address,
)

PANELS: Mapping[str, Panel[Any]] = MappingProxyType(
    {
        "routes": ROUTES,
        "connections": CONNECTIONS,
        "listeners": LISTENERS,
        "refusals": REFUSALS,
        "reasons": REASONS,
        "clients": CLIENTS,
    }
)
