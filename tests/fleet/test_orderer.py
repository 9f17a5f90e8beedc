"""Nodes that share the ordering of certificates, with a CA in memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcproxy.certificates.acme.contract import CaSettings
from mcproxy.fleet import nodes
from mcproxy.fleet.lead import LEAD_GONE, Head, Lead
from mcproxy.fleet.mirror import Mirror
from mcproxy.fleet.nodes import Report
from mcproxy.fleet.orderer import Orderer
from mcproxy.model import Backend, Mode, Route, Tls
from mcproxy.store.store import Store
from tests.kit.acme_stub import DIRECTORY, START, StubCA, Workers, table
from tests.kit.control_plane import store_at
from tests.kit.peers import Authority

pytestmark = pytest.mark.xdist_group("postgres")

A = "a.test"


class Ordering:
    """One node whose follower is the test."""

    def __init__(self, truth: Store, copy: Store, name: str, world: "World", settings: CaSettings | None) -> None:
        self._truth = truth
        self._name = name
        self._world = world
        self.workers = Workers()
        self.mirror = Mirror(truth, copy, self.workers, lambda: world.now)
        self.since = 1.0
        self.part = Orderer(
            truth, Lead(truth, name, str), self.mirror, lambda: table(*world.names), settings,
            lambda: self.since, lambda: world.now, lambda *_: world.ca,
        )  # fmt: skip
        self.polls()

    def polls(self) -> None:
        with self._truth.transaction() as database:
            run = database.executable.exec_driver_sql
            nodes.claim(run, Report(self._name, self._name, 0.0, acme_version=self.mirror.version))
            seen = f"EXISTS (SELECT 1 FROM nodes WHERE identity = orderer AND seen_at > 0 + {self._world.gone_before})"
            row = run(f"SELECT version, orderer, {seen} FROM acme_head").one()
        self.part.found(Head(*row))

    def step(self) -> None:
        self._world.now += 1.0
        self.part.step()
        self.polls()


@dataclass
class World:
    """What nodes share beside the database."""

    ca: StubCA
    names: tuple[str, ...] = (A,)
    now: float = START
    gone_before: float = 0.0


MakeNode = Callable[..., Ordering]


@pytest.fixture
def world() -> World:
    made = World(StubCA(lambda: START))
    made.ca = StubCA(lambda: made.now)
    return made


@pytest.fixture
def node(truth: Store, world: World, tmp_path: Path) -> Iterator[MakeNode]:
    with ExitStack() as stack:

        def make(name: str, settings: CaSettings | None = CaSettings(DIRECTORY)) -> Ordering:  # noqa: B008 - frozen
            return Ordering(truth, stack.enter_context(store_at(tmp_path / f"{name}.db")), name, world, settings)

        yield make


def rounds(*them: Ordering, number: int = 8) -> None:
    for _ in range(number):
        for each in them:
            each.step()


def orders(world: World) -> int:
    return world.ca.calls.count(f"order {A}")


def test_one_node_orders_and_all_have_the_certificate(node: MakeNode, world: World) -> None:
    one, two = node("one"), node("two")
    rounds(one, two)
    assert orders(world) == 1
    kept = one.workers.names[A]
    assert kept.pair is not None
    assert two.workers.names[A] == kept


def test_the_ca_is_told_to_look_when_every_node_can_answer(node: MakeNode, world: World) -> None:
    one, two = node("one"), node("two")
    answering: list[bool] = []

    def look(method: str) -> None:
        if method == "begin":
            answering.append(two.workers.names[A].challenge is not None)

    world.ca.on_call = look
    for _ in range(4):
        one.step()
    assert answering == [], "the other one has not polled"
    rounds(two, one, number=3)
    assert answering == [True]


def test_a_node_that_does_not_answer_is_waited_for_within_bounds(
    node: MakeNode, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    one = node("one")
    node("two")
    rounds(one, number=20)
    assert one.workers.names[A].pair is not None
    assert "though some nodes may not answer yet: two" in caplog.text


def test_a_node_without_acme_never_orders(node: MakeNode, world: World) -> None:
    one, two = node("one", None), node("two")
    rounds(one, two)
    assert one.workers.names[A].pair is not None
    two.part.configure(None)
    two.step()
    three = node("three")
    world.ca.calls.clear()
    one.part.renew(A)
    rounds(three, one)
    assert orders(world) == 1, "the place was given up, and any node asks for a renewal"


def test_another_node_goes_on_with_the_order_of_one_that_is_gone(node: MakeNode, world: World, truth: Store) -> None:
    one, two = node("one"), node("two")
    one.step()
    with truth.transaction() as database:
        database.executable.exec_driver_sql(f"UPDATE nodes SET seen_at = seen_at - {LEAD_GONE + 1} WHERE name = 'one'")
        world.gone_before = database.executable.exec_driver_sql(
            f"SELECT extract(epoch FROM clock_timestamp()) - {LEAD_GONE}"
        ).scalar_one()
    two.polls()
    rounds(two)
    assert orders(world) == 1
    assert two.workers.names[A].pair is not None
    with truth.transaction() as database:
        database.executable.exec_driver_sql("UPDATE acme_head SET version = version")
    one.part.found(Head(one.mirror.version, "one", is_there=True))
    world.ca.calls.clear()
    two.part.renew(A)
    one.part.step()
    assert orders(world) == 0, "the one that was gone learns that from the database, before it asks the CA"


def test_after_a_break_a_node_begins_with_what_is_durable(node: MakeNode, world: World, truth: Store) -> None:
    """The database has lost its last changes in a failover, the certificate among them."""
    one = node("one")
    rounds(one)
    with truth.transaction() as database:
        for rows in ("certificates", "acme_orders", "acme_starts"):
            database.executable.exec_driver_sql(f"DELETE FROM {rows}")
    one.since = 2.0
    one.mirror.doubt()
    one.polls()
    rounds(one)
    assert orders(world) == 2
    assert one.workers.names[A].pair is not None


def test_a_routes_files_are_adopted_once_by_whichever_node_has_them(
    node: MakeNode, world: World, authority: Authority
) -> None:
    world.names = ()
    one, two = node("one"), node("two")
    one.step()
    chain, key = authority.pair(A)
    route = Route(A, Backend("127.0.0.1", 1), Mode.L7, str(chain), str(key), tls=Tls.FILES)
    two.part.adopt(route)
    adopted = two.workers.names[A]
    assert adopted.pair is not None, "before its table is in force"
    two.part.adopt(route)
    one.polls()
    assert one.workers.names[A] == adopted
    world.names = (A,)
    rounds(one, two)
    assert one.workers.names[A].pair != adopted.pair
    assert two.workers.names[A] == one.workers.names[A]


def test_a_node_that_ends_gives_the_place_up(node: MakeNode, world: World) -> None:
    one, two = node("one"), node("two")
    one.step()
    one.part.close()
    two.polls()
    rounds(two, number=20)  # it waits for the other one to answer
    assert two.workers.names[A].pair is not None


def test_another_process_of_the_node_goes_on_with_the_order(node: MakeNode, world: World) -> None:
    """The place is not given up for it, so that no other node begins."""
    one, two = node("one"), node("two")
    one.step()
    one.part.hands_over = True
    one.part.close()
    rounds(two)
    assert "of another node" in repr(two.part)
    heir = node("one")
    rounds(heir, two)
    assert orders(world) == 1
    assert two.workers.names[A] == heir.workers.names[A]
    assert two.workers.names[A].pair is not None
