"""The feed tells what the server says, and goes on asking one that does not answer."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli.client import connected
from mcproxy.cli.feed import Feed, Lost, News, Sample, lose
from mcproxy.messages import ConnectionEvent, ConnectionInfo, EventKind, RouteCounters
from tests.kit.commands import shell, write_config
from tests.kit.control_plane import Control, counted
from tests.kit.peers import DEADLINE

T = TypeVar("T", bound=News)
INTERVAL = 0.05  # seconds
LIVE = ConnectionInfo(7, ":443", "192.0.2.1:5", 1000.0, "relaying", "a.test", "a.test", "127.0.0.1:3000")


@contextmanager
def feeding(config: Path) -> Iterator[Feed]:
    feed = Feed(lambda: connected(config, lose), INTERVAL)
    feed.start()
    try:
        yield feed
    finally:
        feed.close()


def wait_for(feed: Feed, kind: type[T], wanted: Callable[[T], bool] = lambda _: True) -> T:
    while True:
        try:
            news = feed.news.get(timeout=DEADLINE)
        except queue.Empty:
            raise AssertionError(f"no {kind}") from None
        if isinstance(news, kind) and wanted(news):
            return news


def tell(control: Control, kind: EventKind) -> None:
    assert control.plane.subscribed.wait(DEADLINE)
    for sink in control.plane.sinks:
        sink(ConnectionEvent(kind, 1000.0, LIVE))


def test_it_samples_and_watches(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.counters = [RouteCounters(":443", "git.example.org", counted(1, 2))]
        control.plane.open = [LIVE]
        with feeding(user.config) as feed:
            first = wait_for(feed, Sample)
            assert first.status.state == "serving"
            assert [each.hostname for each in first.routes] == ["git.example.org"]
            assert [each.id for each in first.connections] == [7]
            assert wait_for(feed, Sample).at > first.at
            tell(control, EventKind.REFUSED)
            assert wait_for(feed, pb.ConnectionEvent).connection.client == "192.0.2.1:5"


def test_it_cuts(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control), feeding(user.config) as feed:
        control.plane.open = [LIVE]
        feed.close_connection(7)
        assert ("close_connections", 7) in control.plane.calls
        with pytest.raises(Lost, match="8"):
            feed.close_connection(8)


def test_it_blocks_a_client(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control), feeding(user.config) as feed:
        request = pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_IP, value="2001:db8::1", ttl_seconds=60, kill=True)
        answer = feed.block(request)
        assert (answer.rule.value, answer.killed) == ("2001:db8::1", 3)
        assert [call[1].value for call in control.plane.calls if call[0] == "kill_matching"] == ["2001:db8::1"]
        assert ["ip", "2001:db8::1"] in [row[:2] for row in user.rows("firewall", "list")]
        request.value = "nonsense"
        with pytest.raises(Lost, match="nonsense"):
            feed.block(request)


def test_it_looks_up_how_a_route_is_configured(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, _), feeding(user.config) as feed:
        found = feed.route(":443", "www.example.org")
        assert found is not None
        assert found.backend == "127.0.0.1:3001"
        assert feed.route(":443", "www.example") is None
        with pytest.raises(Lost, match="no listener :1"):
            feed.route(":1", "www.example.org")


def test_a_server_that_is_not_there_is_asked_again(tmp_path: Path) -> None:
    config = write_config(tmp_path, f'addr = "unix:{tmp_path}/admin.sock"')
    with feeding(config) as feed:
        assert "can't reach the server" in str(wait_for(feed, Lost))
        with shell(tmp_path):
            assert wait_for(feed, Sample).status.state == "serving"
        # A call that is under way when the server stops is reported first.
        wait_for(feed, Lost, lambda lost: "can't reach the server" in str(lost))
