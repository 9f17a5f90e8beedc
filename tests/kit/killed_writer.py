"""Kill a process that changes the database, again and again, and look at what is left each time.

Run as a program of its own (`python -m tests.kit.killed_writer FOLDER ROUNDS`), because it forks: imports are paid for
once, and no thread of a test is alive in it. Prints what it did as JSON; an assertion fails where the database lies.
"""

import json
import os
import random
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import IO

from mcproxy.admin import mutations
from mcproxy.admin.writer import Writer
from mcproxy.change import Key, table_values
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store import history, sqlite
from mcproxy.store.records import to_json
from mcproxy.store.store import Store
from tests.kit.control_plane import FakePlane, make_writer, route, store_at

MAX_ACKS = 8  # of one life; about 1 ms each
MAX_MORE = 0.004  # seconds after the last of them


def main(folder: Path, rounds: int) -> None:
    path = folder / "mcproxy.db"
    chance = random.Random(rounds)  # the same every time
    acknowledged = unacknowledged = 0
    with store_at(path):
        pass
    expected = 1
    for life in range(rounds):
        last = _live_and_die(path, life, chance)
        found = _judge(path)
        assert found in {max(last, expected), max(last, expected) + 1}, f"generation {found}, acknowledged was {last}"
        acknowledged += max(0, last - expected)
        unacknowledged += found - max(last, expected)
        expected = found
    print(json.dumps({"rounds": rounds, "acknowledged": acknowledged, "durable_unacknowledged": unacknowledged}))


def _live_and_die(path: Path, life: int, chance: random.Random) -> int:
    """Run a writer, kill it at some moment, return the last generation that it acknowledged (0: none)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _mutate(path, life, os.fdopen(writing, "w"))
    os.close(writing)
    with os.fdopen(reading) as acks:
        seen = [acks.readline() for _ in range(chance.randint(0, MAX_ACKS))]
        time.sleep(chance.random() * MAX_MORE)  # the moment is what is random here
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        whole = "".join([*seen, acks.read()]).split("\n")[:-1]
    return int(whole[-1]) if whole else 0


def _mutate(path: Path, life: int, acks: IO[str]) -> None:
    """Never returns: change something, say so, and so on."""
    writer = make_writer(Store.open(path), FakePlane())
    count = 0
    while True:
        count += 1
        for mutation in _some(writer, f"{life}-{count}"):
            generation = writer.mutate("test", "test", mutation).generation
            acks.write(f"{generation}\n")
            acks.flush()


def _some(writer: Writer, name: str) -> list[mutations.Decision]:
    """A route, a rule, and a listener that comes, gets routes, and goes with all of them in one mutation."""
    number = writer.table.generation
    rule = FirewallRule(RuleKind.IP, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    there = ":9443" in writer.table.listeners
    many = [mutations.put_route(":9443", route(f"r{i}.example.org"), exists=False) for i in range(3)]
    return [
        mutations.put_route(":443", route(f"r{name}.example.org"), exists=False),
        mutations.add_rule(rule, 0.0),
        *(
            [mutations.remove_listener(":9443")]
            if there
            else [mutations.put_listener(Listener(":9443"), exists=False), *many]
        ),
    ]


def _judge(path: Path) -> int:
    """The file is whole, and what it holds is what its audit tells, change by change. Returns its generation."""
    with closing(Store.open(path)) as store:
        table = store.load()
        told: dict[Key, str | None] = {}
        revisions = history.revisions(store, 1_000_000)
        for revision in reversed(revisions):
            assert told.get(revision.key) == revision.old
            told[revision.key] = revision.new
        held = {key: to_json(key.what, value) for key, value in table_values(table).items()}
        assert held == {key: value for key, value in told.items() if value is not None}
        assert {revision.generation for revision in revisions} == set(range(1, table.generation + 1))
    assert sqlite.defects(path) == []
    return table.generation


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
