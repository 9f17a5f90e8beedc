import errno
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from mcproxy.admin import bulk
from mcproxy.admin.applying import MAX_WARNINGS
from mcproxy.admin.paging import PAGE
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.certificates.routes import RouteProblem
from mcproxy.change import table_values
from mcproxy.messages import GeoipStatus
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store import history
from mcproxy.table import Table
from tests.kit.apply_requests import request
from tests.kit.control_plane import RULES, SEED, Control, route
from tests.kit.peers import DEADLINE, until


def apply(control: Control, *parts: pb.Values, count: int | None = None, **options: Any) -> list[pb.ApplyResponse]:
    return list(control.stub.Apply(request(*parts, count=count, **options), timeout=DEADLINE))


def refused(control: Control, *parts: pb.Values, count: int | None = None, **options: Any) -> tuple[Any, str]:
    """How it is refused; it changes nothing, on disk or in memory."""
    before = control.writer.table
    with pytest.raises(grpc.RpcError) as caught:
        apply(control, *parts, count=count, **options)
    assert control.writer.table is before
    assert control.writer.store.load().generation == before.generation
    answer: Any = caught.value
    return answer.code(), answer.details()


def whole(*pairs: Any, rules: Any = ()) -> pb.Values:
    (first, *more) = bulk.exported(Table.build(pairs, rules))
    for each in more:
        first.MergeFrom(each)
    return first


def words(answers: list[pb.ApplyResponse]) -> list[tuple[str, ...]]:
    """Each change: its key, and whether there is something before and after."""
    changes = [change for each in answers for change in each.changes]
    return [(*each.key, "".join(("-" * bool(each.old_json), "+" * bool(each.new_json)))) for each in changes]


OTHER = (Listener(":8443"), [route("new.example.org"), route("git.example.org")])
CHANGED = (Listener(":443", max_connections=5), [route("git.example.org", "127.0.0.1:9")])


def test_all_of_it_is_one_generation_with_a_row_of_the_audit_for_each_value(control: Control) -> None:
    answers = apply(control, whole(CHANGED, OTHER, rules=[FirewallRule(RuleKind.IP, "203.0.113.9")]))
    assert [each.generation for each in answers] == [2]
    assert words(answers) == [
        (":443", "-+"),
        (":8443", "+"),
        (":443", "git.example.org", "-+"),
        (":8443", "new.example.org", "+"),
        (":8443", "git.example.org", "+"),
        ("ip", "203.0.113.9", "+"),
    ]
    rows = history.revisions(control.writer.store, 100)
    assert {(row.generation, row.action) for row in rows[:6]} == {(2, "apply")}
    assert rows[6].generation == 1
    assert control.plane.accepting == {":443", ":8443"}
    assert table_values(control.writer.store.load()) == table_values(control.writer.table)


def test_what_is_not_in_the_request_stays_unless_it_is_pruned(control: Control) -> None:
    apply(control, whole(CHANGED))
    assert set(control.writer.table.listeners[":443"].routes) == {"git.example.org", "www.example.org"}
    assert len(control.writer.table.firewall) == len(RULES)
    gone = apply(control, whole(CHANGED), prune=True)
    assert sorted(words(gone)) == [
        (":443", "www.example.org", "-"),
        ("cidr", "198.51.100.0/24", "-"),
        ("ip", "192.0.2.1", "-"),
    ]
    assert not len(control.writer.table.firewall)


def test_a_listener_is_pruned_with_its_routes_and_closed(control: Control) -> None:
    apply(control, whole(OTHER), prune=True)
    assert set(control.writer.table.listeners) == {":8443"}
    assert control.plane.accepting == {":8443"}


def test_temporary_rules_are_never_pruned(control: Control) -> None:
    ban = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.77", ttl_seconds=3600)
    control.stub.AddFirewallRule(ban, timeout=DEADLINE)
    apply(control, whole(*SEED), prune=True)
    assert [each.value for each in control.writer.table.firewall.rules()] == ["192.0.2.77"]


def test_a_temporary_rule_that_is_in_the_request_is_for_good(control: Control) -> None:
    ban = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="192.0.2.77", ttl_seconds=3600)
    control.stub.AddFirewallRule(ban, timeout=DEADLINE)
    apply(control, whole(rules=[FirewallRule(RuleKind.IP, "192.0.2.77")]))
    assert FirewallRule(RuleKind.IP, "192.0.2.77") in set(control.writer.table.firewall.rules())


def test_the_last_listener_is_not_pruned(control: Control) -> None:
    """A file that is empty by mistake would take every service away."""
    code, words = refused(control, whole(), prune=True)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words == "options.prune: would remove every listener: keep at least one"


@pytest.mark.parametrize("prune", [False, True])
def test_the_same_again_changes_nothing(control: Control, prune: bool) -> None:
    apply(control, whole(CHANGED, OTHER), prune=prune)
    (again,) = apply(control, whole(CHANGED, OTHER), prune=prune)
    assert (again.generation, again.total, len(again.changes)) == (2, 0, 0)
    assert control.writer.table.generation == 2


def test_what_was_exported_changes_nothing(control: Control) -> None:
    parts = [each.values for each in control.stub.Export(pb.ExportRequest(), timeout=DEADLINE)]
    (answer,) = apply(control, *parts, prune=True)
    assert (answer.generation, answer.total) == (1, 0)


def test_a_dry_run_answers_with_the_plan_and_changes_nothing(control: Control) -> None:
    before = control.writer.table
    answers = apply(control, whole(CHANGED), dry_run=True, prune=True)
    assert [each.generation for each in answers] == [1]
    assert (":443", "www.example.org", "-") in words(answers)
    assert control.writer.table is before


def test_more_than_a_page_of_changes(control: Control) -> None:
    routes = [route(f"r{i}.example.org") for i in range(PAGE + 10)]
    answers = apply(control, whole((Listener(":443"), routes)))
    assert [len(each.changes) for each in answers] == [PAGE, 10]
    assert {(each.generation, each.total) for each in answers} == {(2, PAGE + 10)}


def test_an_address_that_cannot_be_had_leaves_everything_as_it_was(control: Control) -> None:
    control.plane.fail["bind_listener"] = OSError(errno.EADDRINUSE, "Address already in use")
    code, words = refused(control, whole(CHANGED, OTHER))
    assert (code, words) == (
        grpc.StatusCode.FAILED_PRECONDITION, "can't listen on :8443: another program listens there",
    )  # fmt: skip


def test_listeners_that_exclude_each_other(control: Control) -> None:
    addrs = ("127.0.0.1:443", "0.0.0.0:8443", "127.0.0.1:8443")
    code, words = refused(control, whole(*((Listener(addr), ()) for addr in addrs)), prune=True)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words.splitlines() == [
        "listeners[0].addr: 127.0.0.1:443 and :443 can't both be listened on; remove :443 first",
        "listeners[1].addr: 0.0.0.0:8443 and 127.0.0.1:8443 can't both be listened on; remove one of them",
        "listeners[2].addr: 127.0.0.1:8443 and 0.0.0.0:8443 can't both be listened on; remove one of them",
    ]


@pytest.mark.parametrize("dry_run", [False, True])
def test_files_of_new_and_changed_routes_are_judged(control: Control, dry_run: bool) -> None:
    control.plane.problems = [RouteProblem(":443", "git.example.org", "tls_cert", "/a.pem can't be read")]
    code, words = refused(control, whole(CHANGED), dry_run=dry_run)
    assert (code, words) == (grpc.StatusCode.INVALID_ARGUMENT, "routes[0].tls_cert: /a.pem can't be read")
    assert control.plane.calls[-1] == ("check_routes", 1, 2, (":443", "git.example.org"))


@pytest.mark.parametrize("count", [1, MAX_WARNINGS, MAX_WARNINGS + 3])
def test_warnings_have_a_bound(control: Control, count: int) -> None:
    control.plane.warnings = [f"warning {i}" for i in range(count)]
    (answer,) = apply(control, whole(CHANGED))
    assert len(answer.warnings) == min(count, MAX_WARNINGS + 1)
    assert answer.warnings[-1] == (f"warning {count - 1}" if count <= MAX_WARNINGS else "and 3 more warnings")


def test_countries_need_a_database_of_them(control: Control) -> None:
    control.plane.geoip = GeoipStatus()
    code, words = refused(control, whole(rules=[FirewallRule(RuleKind.COUNTRY, "AQ")]), dry_run=True)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "GeoIP" in words


def test_the_expected_generation(control: Control) -> None:
    for dry_run in (True, False):
        code, _ = refused(control, whole(OTHER), expected_generation=7, dry_run=dry_run)
        assert code is grpc.StatusCode.ABORTED
    assert apply(control, whole(OTHER), expected_generation=1)[0].generation == 2


def test_a_request_that_ends_early_changes_nothing(control: Control) -> None:
    code, words = refused(control, whole(CHANGED), count=3, prune=True)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "3 values were announced and 2 came" in words


def test_a_caller_that_leaves_in_the_middle_changes_nothing_and_is_no_bug(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    answers = being_received(control, go_on, count=9, prune=True)
    answers.cancel()
    go_on.set()
    until(lambda: not is_refused_as_second(control), "the server to give it up")
    assert control.writer.table.generation == 1
    assert "bug in" not in caplog.text


def test_one_is_received_at_a_time(control: Control) -> None:
    go_on = threading.Event()
    answers = being_received(control, go_on)
    go_on.set()
    assert [each.generation for each in answers] == [2]
    assert apply(control, whole(OTHER))[0].total == 0


def being_received(control: Control, go_on: threading.Event, **options: Any) -> Any:
    """An apply whose first message the server has, so that others are refused; the rest comes after `go_on`.

    Only another apply shows that. Where that one was the first to arrive, ours was refused, and is made again.
    """

    def slowly() -> Iterator[pb.ApplyRequest]:
        parts = request(whole(OTHER), **options)
        yield next(parts)
        assert go_on.wait(DEADLINE)
        yield from parts

    answers = control.stub.Apply(slowly(), timeout=DEADLINE)
    until(lambda: not answers.is_active() or is_refused_as_second(control), "one of the two to be refused")
    if answers.is_active():
        return answers
    with pytest.raises(grpc.RpcError, match="another apply is under way"):
        list(answers)
    return being_received(control, go_on, **options)


def is_refused_as_second(control: Control) -> bool:
    try:
        apply(control, whole(), dry_run=True)
    except grpc.RpcError as error:
        answer: Any = error
        assert answer.details() == "another apply is under way: try again when it has ended"
        return bool(answer.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
    return False
