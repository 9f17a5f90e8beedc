"""Makes inputs, gives them to a target, and makes one that fails small.

An input is an example of the target's, changed in a few places. What a target returns stands for what the input has
reached: an input that reaches something new becomes an example too. All of it follows from the seed.
"""

import random
import signal
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

MAX_SIZE = 70_000  # bytes of an input: more than any bound of a parser
MAX_EXAMPLES = 2_000
MOST_CHANGES = 4  # to one example
TOO_LONG = 3.0  # seconds of CPU for one input; a hundred times what any takes
STUCK = 20  # seconds for one input, on the most loaded machine, after which it counts as a hang
PIECES = (1, 1, 2, 4, 9, 16, 64, 256)  # bytes
STRETCHED = 60_000  # bytes that one becomes, now and then: what takes time with the square of a length shows so
SELDOM = 500  # changes, of which one stretches
SEPARATORS = b' \t,;:="\r\n'  # what expressions repeat, and try in many ways
LOOK = 256  # executions between two looks at the clock
MINIMISING = 20.0  # seconds at most
INTERESTING = (0, 1, 2, 3, 4, 9, 10, 13, 16, 22, 31, 32, 58, 63, 64, 65, 127, 128, 129, 192, 224, 254, 255)


@dataclass(frozen=True)
class Target:
    """A parser and what it is held against."""

    name: str
    about: str
    check: Callable[[bytes], Hashable]  # raises whatever is wrong; returns what was reached
    examples: Sequence[bytes]
    words: Sequence[bytes] = ()  # that mean something in the format


@dataclass(frozen=True)
class Failure:
    """An input that a target fails on."""

    data: bytes
    error: BaseException

    @property
    def kind(self) -> tuple[type[BaseException], str, int]:
        """Two inputs with the same have the same fault, as far as one can see: what is raised, and where."""
        place = traceback.extract_tb(self.error.__traceback__)[-1]
        return type(self.error), place.filename, place.lineno or 0


@dataclass
class Run:
    """What came of a run."""

    target: Target
    seed: int
    executions: int = 0
    seconds: float = 0.0
    reached: set[Hashable] = field(default_factory=set)
    failure: Failure | None = None

    def __str__(self) -> str:
        rate = self.executions / max(self.seconds, 1e-6)
        return (
            f"{self.target.name:10} {self.executions:>10,} executions, {rate:>8,.0f} a second, "
            f"{len(self.reached):>5} outcomes, seed {self.seed}: {'FAILED' if self.failure else 'no fault'}"
        )


@contextmanager
def _stopped_when_stuck() -> Iterator[Callable[[], object]]:
    """Gives what is to be called now and then; without a call for STUCK seconds, TimeoutError is raised."""

    def stuck(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no result within {STUCK} seconds")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(STUCK)
    try:
        yield lambda: signal.alarm(STUCK)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(target: Target, data: bytes) -> Hashable | Failure:
    """What an input reaches, or how it fails."""
    begun = time.process_time()
    try:
        reached = target.check(data)
        took = time.process_time() - begun
        assert took < TOO_LONG, f"{len(data)} bytes take {took:.1f} s of CPU"
    except Exception as error:  # noqa: BLE001 - whatever is raised is a finding
        return Failure(data, error)
    return reached


def run(target: Target, seed: int, seconds: float = float("inf"), executions: int = 1 << 62) -> Run:
    """Until a time or a number of executions is over, or a fault is found."""
    rng = random.Random(f"{target.name} {seed}")
    found = Run(target, seed)
    examples = list(target.examples)
    begun = time.monotonic()
    with _stopped_when_stuck() as alive:
        for data in _inputs(rng, examples, target.words):
            reached = attempt(target, data)
            found.executions += 1
            if isinstance(reached, Failure):
                alive()
                found.failure = smallest(target, reached)
                break
            if reached not in found.reached:
                found.reached.add(reached)
                if len(examples) < MAX_EXAMPLES:
                    examples.append(data)
            if found.executions % LOOK == 0 or found.executions >= executions:
                alive()
                found.seconds = time.monotonic() - begun
                if found.seconds >= seconds or found.executions >= executions:
                    break
    found.seconds = time.monotonic() - begun
    return found


def _inputs(rng: random.Random, examples: list[bytes], words: Sequence[bytes]) -> Iterator[bytes]:
    """The examples first, as they are."""
    yield from list(examples)
    while True:
        data = bytearray(rng.choice(examples))
        for _ in range(rng.randint(1, MOST_CHANGES)):
            _change(rng, data, examples, words)
        yield bytes(data[:MAX_SIZE])


def _change(rng: random.Random, data: bytearray, examples: list[bytes], words: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    if not rng.randrange(SELDOM):
        _stretch(rng, data, at)
        return
    how = rng.randrange(10)
    if how < 3 and at + 1 < len(data):
        _change_number(rng, data, at, how)
    elif how == 3:
        data[at:at] = rng.randbytes(rng.randint(1, 4))
    elif how == 4:
        del data[at : at + rng.choice(PIECES)]
    elif how == 5:
        data[at:at] = data[at : at + rng.choice(PIECES)]
    elif how < 8:
        other = rng.choice(examples)
        start = rng.randrange(len(other) + 1)
        data[at : len(data) if how == 6 else at] = other[start : start + (MAX_SIZE if how == 6 else rng.choice(PIECES))]
    elif words:
        word = rng.choice(words)
        data[at : at + (len(word) if how == 9 else 0)] = word


def _stretch(rng: random.Random, data: bytearray, at: int) -> None:
    """Repeat a byte, a separator if one follows, and put something behind it that may not be there."""
    at = next((i for i in range(at, len(data)) if data[i] in SEPARATORS), at)
    data[at:at] = data[at : at + 1] * STRETCHED + bytes((rng.choice(INTERESTING),)) * rng.randrange(2)


def _change_number(rng: random.Random, data: bytearray, at: int, how: int) -> None:
    if how == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        data[at] = rng.choice(INTERESTING)
    else:  # a length of two bytes, a little off
        value = int.from_bytes(data[at : at + 2], "big") + rng.choice((-2, -1, 1, 2))
        data[at : at + 2] = (value & 0xFFFF).to_bytes(2, "big")


def smallest(target: Target, failure: Failure) -> Failure:
    """A smaller input with the same fault, or this one: pieces are left out for as long as it fails."""
    end = time.monotonic() + MINIMISING
    size = max(1, len(failure.data) // 2)
    while size and time.monotonic() < end:
        at, before = 0, failure
        while at < len(failure.data) and time.monotonic() < end:
            shorter = attempt(target, failure.data[:at] + failure.data[at + size :])
            if isinstance(shorter, Failure) and shorter.kind == failure.kind:
                failure = shorter
            else:
                at += size
        if failure is before or size > 1:
            size //= 2
    return failure
