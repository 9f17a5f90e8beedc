from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.store import listing
from mcproxy.store.listing import After, Page
from mcproxy.store.store import Store
from tests.kit.control_plane import route, store_at

SEED = [(Listener(f":{port}"), [route(f"{name}.example.org") for name in "abcde"]) for port in (443, 8443, 9443)]
RULES = [FirewallRule(RuleKind.IP, f"192.0.2.{i}", 100.0 + i) for i in range(7)] + [
    FirewallRule(RuleKind.COUNTRY, "DE")
]

Lister = Callable[[Store, int, After | None], Page[Any]]


@pytest.mark.parametrize(
    ("lister", "count"), [(listing.listeners, 3), (listing.routes, 15), (listing.rules, 8)], ids=lambda x: str(x)[:22]
)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 15, 100])
def test_pages_have_everything_once_and_in_order(tmp_path: Path, lister: Lister, count: int, limit: int) -> None:
    with store_at(tmp_path / "a.db", SEED, RULES) as store:
        whole = lister(store, 1000, None)
        assert whole.following is None
        assert len(whole.items) == count
        found, after, pages = [], None, 0
        while True:
            page = lister(store, limit, after)
            found += page.items
            pages += 1
            assert page.generation == 1
            if (after := page.following) is None:
                break
        assert found == whole.items
        assert pages == -(-count // limit), "no empty last page"


def test_routes_of_one_listener(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db", SEED, RULES) as store:
        page = listing.routes(store, 2, (":8443", "b.example.org"), ":8443")
        assert [(addr, each.hostname) for addr, each in page.items] == [
            (":8443", "c.example.org"),
            (":8443", "d.example.org"),
        ]


def test_what_begins_with_a_prefix(tmp_path: Path) -> None:
    seed = [(listener, [*routes, route("under-score.example.org")]) for listener, routes in SEED[:1]]
    with store_at(tmp_path / "a.db", seed, RULES) as store:
        for prefix, count in (("", 6), ("a.ex", 1), ("under-score.example.org", 1), ("u%", 0), ("under_", 0)):
            assert len(listing.routes(store, 10, prefix=prefix).items) == count, prefix
        assert [each.value for each in listing.rules(store, 10, prefix="D").items] == ["DE"]
        assert len(listing.rules(store, 10, ("ip", "192.0.2.4"), "192.0.2.").items) == 2


def test_ended_rules_come_longest_overdue_first(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db", SEED, RULES) as store:
        assert [rule.value for rule in listing.ended_rules(store, 103.0, 10)] == [f"192.0.2.{i}" for i in range(4)]
        assert [rule.value for rule in listing.ended_rules(store, 103.0, 2)] == ["192.0.2.0", "192.0.2.1"]
        assert not listing.ended_rules(store, 99.0, 10)


def test_an_empty_database_has_empty_pages(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db", [], []) as store:
        assert listing.routes(store, 10) == Page([], None, 0)
