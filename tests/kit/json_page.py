"""docs/json.md, and whether what a command prints has the shape of its example there."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.kit.program import ROOT

PAGE = ROOT / "docs" / "json.md"
# Objects that have counters by names, which come and go.
NAMES = {"refused_by_reason", "ended", "requests", "request_ends"}
SOMETIMES = {"names", "warnings"}  # lists that are empty where there is nothing to show
VALUES = {"old", "new", "old_json", "new_json"}  # a listener, a route or a rule: the page has a section for these


def example(text: str) -> Any:
    """A commented example's value."""
    return json.loads(re.sub(r"//.*$", "", text, flags=re.MULTILINE))


class Page:
    """What the page shows."""

    def __init__(self) -> None:
        sections = re.compile(r"^## (?:mcproxy )?(.+?)\n.*?^```jsonc\n(.*?)^```", re.MULTILINE | re.DOTALL)
        texts = dict(sections.findall(PAGE.read_text()))
        self.examples = {title: example(text) for title, text in texts.items()}
        self.values = list(self.examples.pop("Values").values())
        self.effect = self.examples.pop("Effects")
        # Keys of which the page says that they may be null.
        self._nullable = {title: set(re.findall(r'"(\w+)":.*//.*\bnull\b', text)) for title, text in texts.items()}

    def differences(self, command: str, printed: Any) -> list[str]:
        """Where the shape of a command's example is not that of what it prints."""
        return list(self._differences(self.examples[command], printed, self._nullable[command], ""))

    def _differences(self, shown: Any, printed: Any, nullable: set[str], at: str) -> Iterator[str]:
        name = at.rpartition(".")[2]
        if printed is None and name in nullable:
            return
        if name in VALUES:
            shown = next((each for each in self.values if each.keys() == printed.keys()), {})
            nullable = self._nullable["Values"]
        elif name == "effect":
            shown, nullable = self.effect, self._nullable["Effects"]
        if kind(shown) != kind(printed):
            yield f"{at}: {shown!r} in the page, {printed!r} printed"
        elif name in NAMES:
            yield from (f"{at}.{each}: {count!r}" for each, count in printed.items() if kind(count) != "number")
        elif isinstance(shown, dict):
            yield from self._of_objects(shown, printed, nullable, at)
        elif isinstance(shown, list):
            if shown and not printed and name not in SOMETIMES:
                yield f"{at}: nothing is printed, so this test shows nothing"
            for each in printed:
                yield from self._differences(shown[0] if shown else None, each, nullable, f"{at}[]")

    def _of_objects(self, shown: dict[str, Any], printed: dict[str, Any], nullable: set[str], at: str) -> Iterator[str]:
        yield from (f"{at}.{each}: is not in the page" for each in printed.keys() - shown.keys())
        yield from (f"{at}.{each}: is not printed" for each in shown.keys() - printed.keys())
        for each in shown.keys() & printed.keys():
            yield from self._differences(shown[each], printed[each], nullable, f"{at}.{each}")


def kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
