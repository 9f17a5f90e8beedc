"""One thing that a check has found.

Tested by tests/check/test_files.py, which reads what is found as an operator does.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """A problem, its place and its remedy."""

    key: str  # of the configuration, or a row of the database: "route www.example.org on :443: tls_cert"; "": the whole
    message: str
    serious: bool = True  # a start would fail, or clients would not be served; else it is a warning

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


def warning(key: str, message: str) -> Found:
    """Something that works, but not well, or not for long."""
    return Found(key, message, serious=False)
