"""From rows of the audit to the mutations that a node lacks: values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mcproxy.change import Change, Provenance
from mcproxy.store.history import Revision

Mark = tuple[int, float, str, str]  # generation, time, node, author: two generations of one number differ in these


@dataclass(frozen=True, slots=True)
class Mutation:
    """One generation's changes."""

    generation: int
    provenance: Provenance
    changes: Sequence[Change]

    @property
    def mark(self) -> Mark:
        """What identifies it."""
        return self.generation, self.provenance.at, self.provenance.node, self.provenance.who


NO_MARK: Mark = (0, 0.0, "", "")  # of a database that nothing was written to


def mark_from(generation: int, at: float | None, node: str | None, who: str | None) -> Mark:
    """The mark of a generation; its author is None before the first mutation."""
    return generation, at or 0.0, node or "", who or ""


def mark_of(revision: Revision) -> Mark:
    """What identifies the generation of a row."""
    return revision.generation, revision.at, revision.node, revision.who


def mutations(rows: Sequence[Revision], mark: Mark) -> list[Mutation] | None:
    """Those after the marked generation, in order, from all rows of that generation and of later ones.

    None where they don't continue it: rows are missing, or that generation was another one there. Raises UnreadableRow.
    """
    found: list[Mutation] = []
    expected = mark[0]
    for generation, group in groupby(rows, lambda row: row.generation):
        if generation != expected:
            return None
        whole = list(group)
        if generation == mark[0] and mark_of(whole[0]) != mark:
            return None
        if generation != mark[0]:
            found.append(_mutation(whole))
        expected = generation + 1
    return found if rows or not mark[0] else None


def _mutation(rows: Sequence[Revision]) -> Mutation:
    first = rows[0]
    changes = [Change(row.key, row.before(), row.after()) for row in rows]
    return Mutation(first.generation, Provenance(first.who, first.action, first.at, first.said, first.node), changes)
