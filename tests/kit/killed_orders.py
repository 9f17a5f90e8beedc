"""Kill the server at every step of an order, and look at what the next one makes of it.

    python -m tests.kit.killed_orders FOLDER

A step is a request to the CA: the server is killed before the CA hears of it, or when the CA has done what it asks and
the answer is lost. Between two requests is whatever the server writes, so each state of its rows is met. Prints what
came of each step as JSON; an assertion fails where an order was made twice, or a certificate was lost.
"""

import json
import signal
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.kit.acme_scene import WWW, Scene
from tests.kit.ca_relay import Answer, Asked, CARelay, Cut
from tests.kit.peers import DEADLINE, until

Step = tuple[str, int]  # a kind of request, and which one of this kind it is
STEPS: list[Step] = [
    ("dir", 1), ("sign-me-up", 1), ("order-plz", 1), ("my-order", 1), ("authZ", 1), ("chalZ", 1), ("my-order", 2),
    ("finalize-order", 1), ("my-order", 3), ("certZ", 1),
]  # fmt: skip
CUT_OFF = "the process ended, or the disk failed"
IN_VAIN = "mcproxy began while the CA was validating"  # which has looked while nobody was there


class Killer:
    """Kills a server at a step."""

    def __init__(self, scene: Scene, relay: CARelay, step: Step, when: str) -> None:
        self.is_done = threading.Event()
        self._scene = scene
        self._step = step
        self._seen: Counter[str] = Counter()
        relay.before = self._before
        relay.after = self._after
        self._is_before = when == "before"

    def _before(self, asked: Asked) -> Answer | None:
        self._seen[asked.kind] += 1
        if self._is_before:
            self._kill(asked)
        return None

    def _after(self, asked: Asked, answer: Answer) -> Answer:
        if not self._is_before:
            self._kill(asked)
        return answer

    def _kill(self, asked: Asked) -> None:
        if not self.is_done.is_set() and (asked.kind, self._seen[asked.kind]) == self._step:
            self._scene.server.signal(signal.SIGKILL)
            self._scene.server.wait()
            self.is_done.set()
            raise Cut


def killed_at(scene: Scene, relay: CARelay, step: Step, when: str) -> str:
    """Kill the server at a step of the order for WWW; returns the failure that this was, "" for none.

    Nothing is ordered before its time, and what was ordered comes into use and stays.
    """
    passed = len(relay.passed)

    def asked(kind: str) -> int:
        return sum(each.kind == kind for each in relay.passed[passed:])

    killer = Killer(scene, relay, step, when)
    scene.start()
    scene.add()
    assert killer.is_done.wait(DEADLINE), f"no {step} came"
    scene.start()
    until(lambda: scene.listed()["names"] or scene.listed()["failure"], "a certificate or a failure")
    failure = str(scene.listed()["failure"])
    orders = asked("order-plz")
    if failure.startswith(IN_VAIN):
        assert (step, orders) == (("chalZ", 1), 1)
        orders += 1  # soon, by itself
    elif failure:  # whether an order was made is not known
        assert failure.startswith(CUT_OFF), failure
        assert orders == (0 if when == "before" else 1), "no further one before its time"
        scene.ok("certificates", "renew", WWW)
        orders += 1
    else:
        assert orders == 1
    scene.until_issued()
    assert (asked("order-plz"), asked("finalize-order")) == (orders, 1)
    serial = scene.serial()
    scene.kill()
    scene.start()
    assert scene.serial() == serial, "it is durable"
    assert asked("order-plz") == orders
    scene.kill()
    return failure


def main(folder: Path) -> dict[str, str]:
    """Each step, and the failure that a kill there was."""
    found = {}
    for number, (step, when) in enumerate((step, when) for step in STEPS for when in ("before", "after")):
        here = folder / str(number)
        here.mkdir()
        with ExitStack() as stack:
            scene = Scene(stack, here, PEBBLE_WFE_NONCEREJECT="0")
            relay = CARelay(stack, scene.pebble.start())
            scene.tables["acme"] = relay.section()
            name = f"{when} {step[0]} {step[1]}"
            found[name] = killed_at(scene, relay, step, when)
            print(f"{name}: {found[name] or 'went on'}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), indent=1))
