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
# A count, an amount, a speed, a length of time or a moment: never elided, and aligned to the right.
_NUMBER = re.compile(r"-|\d+(\.\d+)?[kMG]?( [kMGT]?B(/s)?)?|(\d+[dhms]){1,2}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")


class Column(NamedTuple):
    """A column's head, and what may happen to it on a narrow terminal."""

    name: str
    rank: int = 0  # the highest is left out first; 0 never
    least: int = LEAST  # characters that its values may be elided to
    prose: bool = False  # its values are sentences, which wrap
    usual: int = 0  # characters that are kept for its values, so that a live table doesn't shift
    wraps: bool = False  # its values are some names, which wrap between them


class Fit(NamedTuple):
    """A column that is shown: its place in the rows, its width in characters, and whether it has only numbers."""

    place: int
    width: int
    numeric: bool
    prose: bool


class _Measured(NamedTuple):
    place: int
    column: Column
    natural: int  # characters that the longest value takes
    least: int
    numeric: bool
    empty: bool  # no row has a value


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The head and the rows as lines of at most `width` characters, where that is possible."""
    fits = fit(columns, rows, width)
    lines = [_line([columns[each.place].name for each in fits], fits)]
    for row in rows:
        cells = [_cell(columns[each.place], row[each.place], each.width) for each in fits]
        lines.extend(_line(line, fits) for line in zip_longest(*cells, fillvalue=""))
    return lines


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Fit]:
    """The columns that fit into `width` characters, with `GAP` between them."""
    measured = [_measured(i, column, [row[i] for row in rows]) for i, column in enumerate(columns)]
    shown = _chosen(measured, width)
    widths = _widths(shown, width)
    return [Fit(each.place, size, each.numeric, each.column.prose) for each, size in zip(shown, widths, strict=True)]


def elided(text: str, width: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _measured(place: int, column: Column, cells: Sequence[str]) -> _Measured:
    natural = max(column.usual, *map(cell_len, [column.name, *cells]))
    numeric = all(_NUMBER.fullmatch(cell) for cell in cells)
    least = natural if numeric else min(natural, max(column.least, len(column.name)))
    return _Measured(place, column, natural, least, numeric, all(cell == "-" for cell in cells))


def _chosen(fits: list[_Measured], width: int) -> list[_Measured]:
    """Those that fit when all are as narrow as may be; an empty one is the least important."""
    shown = list(fits)
    while _total([each.least for each in shown]) > width:
        least_important = max(shown, key=lambda each: (each.column.rank > 0, each.empty, each.column.rank, each.place))
        if not least_important.column.rank:
            return shown
        shown.remove(least_important)
    return shown


def _widths(fits: Sequence[_Measured], width: int) -> list[int]:
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


def _cell(column: Column, text: str, width: int) -> list[str]:
    """The lines of a cell."""
    return _wrapped(text, width) if column.prose or column.wraps else [text]


def _wrapped(text: str, width: int) -> list[str]:
    """A sentence's lines; a word that is longer than a line stays whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _line(cells: Sequence[str], fits: Sequence[Fit]) -> str:
    padded = []
    for cell, each in zip(cells, fits, strict=True):
        text = cell if each.prose else elided(cell, each.width)
        blank = " " * (each.width - cell_len(text))
        padded.append(blank + text if each.numeric else text + blank)
    return (" " * GAP).join(padded).rstrip()
