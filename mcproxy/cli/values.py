"""Types of options and arguments: one of a few words, or a whole number. Errors list the valid values."""

from typing import Any

import click

from mcproxy.words import meant, quoted


class Word(click.Choice):  # type: ignore[type-arg]  # not generic in every version of click that will do
    """One of a few words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word. Raises click.BadParameter."""
        if value not in self.choices:
            near = meant(value, self.choices)
            hint = f"; did you mean {near}?" if near else ""
            self.fail(f"{quoted(value)} is not one of {', '.join(self.choices)}{hint}", param, ctx)
        return value


class Count(click.IntRange):
    """A whole number, with both bounds included."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises click.BadParameter."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            bounds = f"from {self.min} to {self.max}" if self.max is not None else f"from {self.min} on"
            self.fail(f"{quoted(str(value))} is not a whole number {bounds}", param, ctx)
