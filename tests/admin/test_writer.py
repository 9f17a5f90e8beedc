import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from mcproxy.admin import mutations
from mcproxy.admin.errors import AlreadyThere, Busy, Overtaken, Unready
from mcproxy.admin.writer import Writer
from mcproxy.change import Change, current, route_key, table_values
from mcproxy.messages import PlaneBusy
from mcproxy.model import Backend, FirewallRule, Listener, Mode, Route, RuleKind, Tls
from mcproxy.store import history
from mcproxy.store.errors import Unavailable
from mcproxy.store.store import Store
from mcproxy.table import Table
from tests.kit.clock import Clock
from tests.kit.control_plane import RULES, SEED, FakePlane, make_writer, route, store_at
from tests.kit.peers import DEADLINE

NEW = Listener(":8443")
ADD = mutations.put_listener(NEW, exists=False)


@dataclass
class Setting:
    store: Store
    plane: FakePlane
    writer: Writer

    def unchanged(self) -> None:
        """Memory, disk and sockets are those of the seed."""
        assert table_values(self.writer.table) == table_values(Table.build(SEED, RULES))
        assert table_values(self.store.load()) == table_values(Table.build(SEED, RULES))
        assert self.plane.bound == self.plane.accepting == {":443"}


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with store_at(tmp_path / "a.db") as store:
        plane = FakePlane()
        yield Setting(store, plane, make_writer(store, plane, Clock(5000.0)))


def test_durable_then_visible_then_known_to_the_data_plane(setting: Setting) -> None:
    outcome = setting.writer.mutate("uid:7", "route.add", mutations.put_route("", route("a.b"), exists=False))
    assert outcome.generation == 2
    assert "a.b" in setting.writer.table.listeners[":443"].routes
    assert table_values(setting.store.load()) == table_values(setting.writer.table)
    assert setting.plane.calls == [("publish", 2)]
    (revision,) = history.revisions(setting.store, 1)
    assert (revision.who, revision.action, revision.at) == ("uid:7", "route.add", 5000.0)


def test_a_plan_changes_nothing(setting: Setting) -> None:
    planned = setting.writer.plan(ADD, expected=1)
    assert (planned.generation, [str(each.key) for each in planned.changes]) == (1, ["listener :8443"])
    with pytest.raises(Overtaken, match="the generation is 1, not 2"):
        setting.writer.plan(ADD, expected=2)
    setting.unchanged()


def test_a_listener_is_bound_before_the_commit_and_accepts_after_it(setting: Setting) -> None:
    setting.writer.mutate("test", "listener.add", ADD)
    assert [name for name, *_ in setting.plane.calls] == ["bind_listener", "publish", "start_listener"]
    setting.plane.calls.clear()
    setting.writer.mutate("test", "listener.remove", mutations.remove_listener(":8443"))
    assert setting.plane.calls == [("publish", 3), ("close_listener", ":8443")]


def test_an_address_that_can_not_be_bound_leaves_no_row(setting: Setting) -> None:
    setting.plane.fail["bind_listener"] = OSError(98, "Address already in use")
    with pytest.raises(Unready, match="can't listen on :8443: another program listens there"):
        setting.writer.mutate("test", "listener.add", ADD)
    setting.unchanged()
    assert setting.writer.table.generation == setting.store.load().generation == 1


def test_a_bind_that_nobody_answered_is_undone(setting: Setting) -> None:
    setting.plane.fail["bind_listener"] = PlaneBusy("the hub is busy")
    with pytest.raises(PlaneBusy):
        setting.writer.mutate("test", "listener.add", ADD)
    setting.unchanged()
    assert ("close_listener", ":8443") in setting.plane.calls


def test_a_listener_that_does_not_accept_after_all_is_undone_by_a_mutation(setting: Setting) -> None:
    setting.plane.fail["start_listener"] = OSError(98, "Address already in use")
    with pytest.raises(Unready, match="the change is undone"):
        setting.writer.mutate("test", "listener.add", ADD)
    setting.unchanged()
    assert setting.writer.table.generation == setting.store.load().generation == 3
    undone, done = history.revisions(setting.store, 2)
    assert (undone.who, undone.action, undone.new) == ("undo", "undo 2", None)
    assert undone.old == done.new


def test_a_commit_that_fails_changes_nothing_and_gives_the_address_back(setting: Setting) -> None:
    with closing(Store.open(setting.store.path, busy_timeout=0.05)) as impatient:
        setting.writer.store = impatient
        with closing(sqlite3.connect(setting.store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="another process holds its lock"):
                setting.writer.mutate("test", "listener.add", ADD)
        setting.unchanged()
        setting.writer.mutate("test", "listener.add", ADD)
        setting.writer.store = setting.store


def test_a_table_that_can_not_be_compiled_is_never_durable(setting: Setting) -> None:
    bad = mutations.put_listener(Listener(":1", True, ("nonsense",)), exists=False)
    with pytest.raises(ValueError, match="nonsense"):
        setting.writer.mutate("test", "listener.add", bad)
    setting.unchanged()


def test_a_mutation_that_expects_another_generation_is_aborted(setting: Setting) -> None:
    setting.writer.mutate("test", "route.add", mutations.put_route("", route("a.b"), exists=False), expected=1)
    with pytest.raises(Overtaken, match="the generation is 2, not 1"):
        setting.writer.mutate("test", "route.add", mutations.put_route("", route("c.d"), exists=False), expected=1)
    assert "c.d" not in setting.writer.table.listeners[":443"].routes


def test_a_decision_to_change_nothing_is_no_generation(setting: Setting) -> None:
    assert setting.writer.mutate("test", "nothing", lambda _table, _now: []).generation == 1
    assert not setting.plane.calls


def test_a_refusal_releases_the_lock(setting: Setting) -> None:
    again = mutations.put_route("", route("git.example.org", "127.0.0.1:1"), exists=False)
    for _ in range(2):
        with pytest.raises(AlreadyThere):
            setting.writer.mutate("test", "route.add", again, wait=0.0)


def test_who_waits_too_long_for_others_is_told(setting: Setting) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slowly(_table: Table, _now: float) -> list[Change]:
        entered.set()
        leave.wait(DEADLINE)
        return []

    slow = threading.Thread(target=setting.writer.mutate, args=("test", "slow", slowly))
    slow.start()
    try:
        assert entered.wait(DEADLINE)
        with pytest.raises(Busy, match="try again"):
            setting.writer.mutate("test", "route.add", ADD, wait=0.01)
    finally:
        leave.set()
        slow.join(DEADLINE)


def test_a_data_plane_that_is_slow_to_learn_does_not_undo_what_is_durable(setting: Setting) -> None:
    setting.plane.fail["publish"] = PlaneBusy("the hub is busy")
    setting.plane.fail["close_listener"] = PlaneBusy("the hub is busy")
    setting.writer.mutate("test", "listener.remove", mutations.remove_listener(":443"))
    assert not setting.writer.table.listeners


def test_whoever_ends_rules_is_told_of_new_ones(setting: Setting) -> None:
    setting.writer.mutate("test", "route.add", mutations.put_route("", route("a.b"), exists=False))
    assert not setting.writer.rules_changed.is_set()
    setting.writer.mutate("test", "rule.add", mutations.add_rule(FirewallRule(RuleKind.IP, "192.0.2.9"), 5.0))
    assert setting.writer.rules_changed.is_set()


def test_readers_see_the_old_table_or_the_new_one(setting: Setting) -> None:
    """Each mutation moves two routes to one backend; a mixture would show two."""
    stop = threading.Event()
    mixed: list[set[str]] = []

    def read() -> None:
        while not stop.is_set():
            routes = setting.writer.table.listeners[":443"].routes
            backends = {str(routes[name].backend) for name in ("git.example.org", "www.example.org")}
            if len(backends) != 1:
                mixed.append(backends)

    def both(number: int) -> mutations.Decision:
        target = f"127.0.0.1:{number}"
        decisions = [
            mutations.put_route("", route(f"{name}.example.org", target), exists=True) for name in ("git", "www")
        ]
        return lambda table, now: [change for decide in decisions for change in decide(table, now)]

    setting.writer.mutate("test", "route.update", both(1))
    reader = threading.Thread(target=read)
    reader.start()
    for number in range(2, 100):
        setting.writer.mutate("test", "route.update", both(number))
    stop.set()
    reader.join(DEADLINE)
    assert not mixed


def test_files_are_adopted_before_a_route_has_its_certificate_from_acme(tmp_path: Path) -> None:
    """Else its clients would be refused until there is one."""
    files = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, "/a.pem", "/a.key")
    with store_at(tmp_path / "a.db", [(Listener(":443"), [files])]) as store:
        plane = FakePlane()
        writer = make_writer(store, plane)
        acme = Route("a.test", Backend("127.0.0.1", 1), Mode.L7, tls=Tls.ACME)
        for new, adopted in ((acme, ["a.test"]), (files, []), (acme, ["a.test"])):
            plane.calls.clear()
            writer.mutate("me", "route.update", partial(_becomes, new))
            assert [each[1] for each in plane.calls if each[0] == "adopt"] == adopted
            assert [each[0] for each in plane.calls][-1] == "publish", "what is durable first"


def _becomes(new: Route, table: Table, _now: float) -> list[Change]:
    key = route_key(":443", new.hostname)
    return [Change(key, current(table, key), new)]
