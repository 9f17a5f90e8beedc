"""Which fault was there from when to when: what is allowed to fail meanwhile, and nothing else is."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

SETTLES = 2.0  # seconds after a fault until nothing of it is left: connections that it cut, one that waits to be made


@dataclass
class Fault:
    """One that was injected."""

    what: str
    targets: frozenset[str]  # names of proxies or routes that it may disturb
    begin: float
    end: float = float("inf")


@dataclass(frozen=True)
class Failure:
    """A request that failed."""

    client: str
    targets: frozenset[str]  # the proxy and the route that it used
    begin: float
    end: float
    why: str

    def shown(self, faults: Sequence[Fault]) -> str:
        """In a line, with the last fault that was over before it."""
        before = max((fault.end for fault in faults if fault.end < self.begin), default=None)
        since = f", {self.begin - before:.2f} s after the last fault" if before else ""
        took = f"{self.end - self.begin:.2f} s"
        return f"{self.client} by way of {', '.join(sorted(self.targets))}, took {took}{since}: {self.why}"


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

    def unexplained(self) -> list[Failure]:
        """Those that no fault accounts for."""
        return [
            failure
            for failure in self.failures
            if not any(
                fault.begin <= failure.end and failure.begin <= fault.end and fault.targets & failure.targets
                for fault in self.injected
            )
        ]
