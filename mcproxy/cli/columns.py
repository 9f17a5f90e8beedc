"""How a table fits a terminal: which columns it has, how wide each is, and its lines.

Pure. No value is broken: a number is shown whole, a name that is too long ends in an ellipsis, a sentence wraps
between words. What doesn't fit even so loses its least important columns; a pipe and `--json` have them all.
"""

import re
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

GAP = 2  # characters between two columns
LEAST = 16  # characters that a column of names keeps, unless it says something else
_NUMBER = re.compile(r"-|\d+(\.\d+)?( [kMGT]?B)?|(\d+[dhms]){1,2}")  # a count, an amount or a length of time


class Column(NamedTuple):
    """A column's head, and what may happen to it on a narrow terminal."""

    name: str
    rank: int = 0  # the highest is left out first; 0 never
    least: int = LEAST  # characters that its values may be elided to
    prose: bool = False  # its values are sentences, which wrap


class _Fit(NamedTuple):
    """A column with its place in the rows and its widths in characters."""

    place: int
    column: Column
    natural: int
    least: int
    numeric: bool


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The head and the rows as lines of at most `width` characters, where that is possible."""
    shown = _chosen([_measured(i, column, [row[i] for row in rows]) for i, column in enumerate(columns)], width)
    widths = _widths(shown, width)
    lines = [_line([fit.column.name for fit in shown], shown, widths)]
    for row in rows:
        cells = [_cut(row[fit.place], fit, size) for fit, size in zip(shown, widths, strict=True)]
        lines.extend(_line(each, shown, widths) for each in zip_longest(*cells, fillvalue=""))
    return lines


def _measured(place: int, column: Column, cells: Sequence[str]) -> _Fit:
    natural = max(map(cell_len, [column.name, *cells]))
    numeric = all(_NUMBER.fullmatch(cell) for cell in cells)
    least = natural if numeric else min(natural, max(column.least, len(column.name)))
    return _Fit(place, column, natural, least, numeric)


def _chosen(fits: list[_Fit], width: int) -> list[_Fit]:
    """Those that fit when all are as narrow as may be."""
    shown = list(fits)
    while _total([fit.least for fit in shown]) > width:
        least_important = max(shown, key=lambda fit: (fit.column.rank, fit.place))
        if not least_important.column.rank:
            return shown
        shown.remove(least_important)
    return shown


def _widths(fits: Sequence[_Fit], width: int) -> list[int]:
    """Natural widths, of which sentences and then the widest names give what is too much."""
    widths = [fit.natural for fit in fits]
    while _total(widths) > width:
        giving = [i for i, fit in enumerate(fits) if widths[i] > fit.least]
        if not giving:
            break
        widths[max(giving, key=lambda i: (fits[i].column.prose, widths[i]))] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _cut(text: str, fit: _Fit, width: int) -> list[str]:
    """A cell's lines."""
    if cell_len(text) <= width:
        return [text]
    if fit.column.prose:
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [set_cell_size(text, width - 1).rstrip() + "…"]


def _line(cells: Sequence[str], fits: Sequence[_Fit], widths: Sequence[int]) -> str:
    padded = []
    for text, fit, width in zip(cells, fits, widths, strict=True):
        blank = " " * (width - cell_len(text))
        padded.append(blank + text if fit.numeric else text + blank)
    return (" " * GAP).join(padded).rstrip()
