import time
from pathlib import Path

import pytest

from mcproxy.admin import mutations
from mcproxy.admin.errors import Refusal
from mcproxy.admin.expiry import Expiry
from mcproxy.admin.writer import Writer
from mcproxy.model import FirewallRule, RuleKind
from mcproxy.store import history
from tests.kit.control_plane import RULES, SEED, FakePlane, make_writer, store_at
from tests.kit.peers import until

TEMPORARY = FirewallRule(RuleKind.IP, "192.0.2.9")


def blocked(writer: Writer) -> set[str]:
    return {rule.value for rule in writer.table.firewall.rules()}


def test_a_rule_ends_on_time_and_not_before(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        writer = make_writer(store, FakePlane())
        expiry = Expiry(writer)
        try:
            outcome = writer.mutate("test", "rule.add", mutations.add_rule(TEMPORARY, 0.2))
            rule = outcome.changes[0].new
            assert isinstance(rule, FirewallRule)
            assert rule.expires_at is not None
            until(lambda: TEMPORARY.value not in blocked(writer))
            late = time.time() - rule.expires_at
            assert 0 <= late < 10.0, "it waits for that moment, not for the next of many rounds"
        finally:
            expiry.close()
        (revision,) = history.revisions(store, 1)
        assert (revision.who, revision.action, revision.generation) == ("expiry", "rule.expire", 3)
        assert revision.at >= rule.expires_at
        assert {rule.value for rule in store.load().firewall.rules()} == {rule.value for rule in RULES}


def test_what_ended_while_the_server_was_down_goes_at_its_start(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    lasting = FirewallRule(RuleKind.IP, "192.0.2.10")
    with store_at(path) as store:
        writer = make_writer(store, FakePlane())
        for rule, ttl in ((TEMPORARY, 0.001), (lasting, 3600.0)):
            writer.mutate("test", "rule.add", mutations.add_rule(rule, ttl))
    with store_at(path) as store:
        writer = make_writer(store, FakePlane())
        assert {TEMPORARY.value, lasting.value} <= blocked(writer), "both are durable"
        expiry = Expiry(writer)
        try:
            until(lambda: TEMPORARY.value not in blocked(writer))
            assert lasting.value in blocked(writer)
        finally:
            expiry.close()


def test_many_end_together(tmp_path: Path) -> None:
    rules = [FirewallRule(RuleKind.IP, f"10.0.{i >> 8}.{i & 255}", 1.0) for i in range(2500)]
    with store_at(tmp_path / "a.db", SEED, [*RULES, *rules]) as store:
        writer = make_writer(store, FakePlane())
        expiry = Expiry(writer)
        try:
            until(lambda: len(blocked(writer)) == len(RULES))
        finally:
            expiry.close()
        assert writer.table.generation == 4, "three mutations of at most a thousand"


def test_a_refused_mutation_keeps_the_rule_and_the_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Writer):
        refusals = 0

        def mutate(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            self.refusals += 1
            raise Refusal("no room")

    with store_at(tmp_path / "a.db", SEED, [FirewallRule(RuleKind.IP, "192.0.2.9", 1.0)]) as store:
        good = make_writer(store, FakePlane())
        writer = Stubborn(store, good.table, FakePlane())
        expiry = Expiry(writer)
        try:
            until(lambda: writer.refusals == 1)
            writer.rules_changed.set()  # it tries again when something changes, or after a while
            until(lambda: writer.refusals == 2)
            assert "192.0.2.9" in blocked(writer)
        finally:
            expiry.close()
    assert caplog.messages == ["expired rules stay in force; trying again every 5 s: no room"], "once, not each time"
