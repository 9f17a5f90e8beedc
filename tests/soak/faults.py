"""Which fault was there from when to when: what is allowed to fail meanwhile, and nothing else is."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mcproxy.lines import timestamp
from tests.soak.trail import Trail

NEAREST = 4  # faults that the report of a failure names
SETTLES = 2.0  # seconds after a fault until nothing of it is left: connections that it cut, one that waits to be made


@dataclass
class Fault:
    """One that was injected."""

    what: str
    targets: frozenset[str]  # names of proxies or routes that it may disturb
    begin: float
    end: float = float("inf")

    def shown(self, failure: "Failure") -> str:
        """In words, with its times as seconds since the failed request began."""
        begin, end = self.begin - failure.begin, self.end - failure.begin
        return f"{self.what} ({', '.join(sorted(self.targets))}) from {begin:+.2f} s to {end:+.2f} s"


@dataclass
class Failure:
    """A request that failed."""

    client: str
    targets: frozenset[str]  # the proxy and the route that it used
    begin: float
    end: float
    why: str
    trail: Trail = field(default_factory=Trail)  # of its connection
    at: str = field(default_factory=lambda: timestamp(time.time()))  # as the proxy's log has it
    lines: list[str] = field(default_factory=list)  # that the proxy has logged of its connection

    def shown(self, faults: Sequence[Fault]) -> str:
        """In a paragraph: what failed, the faults around it whatever their targets, and what the proxy logged of it."""
        took = f"failed at {self.at} after {self.end - self.begin:.2f} s"
        said = [f"{self.client} by way of {', '.join(sorted(self.targets))} {took}: {self.why}"]
        said.append(f"client: {self.trail.shown(self.end)}")
        said += [f"fault: {fault.shown(self)}" for fault in sorted(faults, key=self.distance)[:NEAREST]]
        said += [f"proxy: {line.rstrip()}" for line in self.lines] or ["proxy: it has logged nothing of it"]
        return "\n    ".join(said)

    def seek(self, lines: Iterable[str]) -> None:
        """Keep those of the proxy's lines that are of its connection; again and again, for it may log them late."""
        if self.trail.port:
            self.lines += [line for line in self.trail.among(lines) if line not in self.lines]

    def distance(self, fault: Fault) -> float:
        """Seconds between it and a fault; 0: they overlap."""
        return max(0.0, self.begin - fault.end, fault.begin - self.end)


@dataclass
class Faults:
    """All of them, and what failed. Used by many threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    injected: list[Fault] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    requests: int = 0

    @contextmanager
    def fault(self, what: str, *targets: str) -> Iterator[None]:
        """For as long as the block lasts, and a little longer."""
        fault = Fault(what, frozenset(targets), time.monotonic())
        with self.lock:
            self.injected.append(fault)
        try:
            yield
        finally:
            fault.end = time.monotonic() + SETTLES

    def served(self) -> None:
        """A request came back as it should."""
        with self.lock:
            self.requests += 1

    def failed(self, failure: Failure) -> None:
        """It didn't."""
        with self.lock:
            self.failures.append(failure)

    def unexplained(self, since: float = 0.0) -> list[Failure]:
        """Those that no fault accounts for, and that ended after `since`."""
        return [
            failure
            for failure in self.failures
            if failure.end > since
            and not any(
                fault.begin <= failure.end and failure.begin <= fault.end and fault.targets & failure.targets
                for fault in self.injected
            )
        ]
