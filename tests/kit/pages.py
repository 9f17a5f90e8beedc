"""What the pages of docs/ say to type, on which host, and what is to be printed; and the files that they show.

A block of ```console has commands: "$ " is on the page's only host, "NAME$ " on one of several. Lines below a command
are what it prints, "..." being anything. A block whose first line says ```LANGUAGE PATH is a file of that host: it is
written where the page has it. Between the comments <!-- clients --> and <!-- none was refused -->, clients of another
host connect all the time.
"""

import re
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from typing import NamedTuple

_PROMPT = re.compile(r"([a-z]*)\$ (.*)")
CLIENTS, NONE_REFUSED = "<!-- clients -->", "<!-- none was refused -->"
_FILE = re.compile(r"```[a-z]+ (?:([a-z]+):)?(/.*)")


class Step(NamedTuple):
    """Something to do on a host: a command, a file to write, or one of the comments."""

    line: int
    host: str  # "" is the only one
    command: str  # or the file's path, or the comment
    text: str  # what the command is to print, or the file's content
    is_file: bool = False


def steps(page: str) -> list[Step]:
    """Everything that there is to do, in order."""
    found: list[Step] = []
    block = ""
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            block = "" if block else line
            if file := _FILE.fullmatch(block):
                found.append(Step(number, file[1] or "", file[2], "", is_file=True))
        elif line in {CLIENTS, NONE_REFUSED}:
            found.append(Step(number, "", line, ""))
        elif block == "```console" and (prompt := _PROMPT.fullmatch(line)):
            found.append(Step(number, prompt[1], prompt[2], ""))
        elif block == "```console" or _FILE.fullmatch(block):
            found[-1] = found[-1]._replace(text=f"{found[-1].text}{line}\n")
    return found


def matches(expected: str, output: str) -> bool:
    """Whether a command printed what a page says, blanks aside."""
    expected = re.sub(r"^\.\.\.\n", "...", expected, flags=re.MULTILINE)
    return OutputChecker().check_output(expected, output, ELLIPSIS | NORMALIZE_WHITESPACE)
