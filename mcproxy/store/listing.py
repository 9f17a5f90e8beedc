"""Pages of the database's values in the order of their keys; a page's cost depends only on its own length."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import and_, or_, select
from sqlalchemy.sql.expression import Executable

from mcproxy.change import What
from mcproxy.model import FirewallRule, Listener, Route
from mcproxy.store.records import RECORDS, ROUTES, RULES
from mcproxy.store.store import Store, last_generation

T = TypeVar("T")
After = tuple[str, str]  # the key of the last one on the page before


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items, and where the next page begins: None after the last one."""

    items: list[T]
    following: After | None
    generation: int  # at which this page was true


def listeners(store: Store, limit: int, after: After | None = None) -> Page[Listener]:
    """Listeners by address. Raises StoreError."""
    record = RECORDS[What.LISTENER]
    column = record.table.c.addr
    query = select(record.table).order_by(column).limit(limit + 1)
    if after is not None:
        query = query.where(column > after[1])
    found, generation = _read(store, query)
    items = [store.value(Listener, What.LISTENER, row) for row in found]
    return _page([("", each.addr, each) for each in items], limit, generation)


def routes(
    store: Store, limit: int, after: After | None = None, listener: str = "", prefix: str = "", mode: str = ""
) -> Page[tuple[str, Route]]:
    """Listeners' addresses and routes, by both; of one listener, or of all where it is empty. Raises StoreError.

    Their host names begin with `prefix`; with `mode`, only those of one mode.
    """
    query = select(ROUTES).order_by(ROUTES.c.listener, ROUTES.c.hostname).limit(limit + 1)
    if listener:
        query = query.where(ROUTES.c.listener == listener)
    if mode:
        query = query.where(ROUTES.c.mode == mode)
    if prefix:
        query = query.where(ROUTES.c.hostname.startswith(prefix, autoescape=True))
    if after is not None:
        query = query.where(_beyond(ROUTES.c.listener, ROUTES.c.hostname, after))
    found, generation = _read(store, query)
    items = [(row["listener"], store.value(Route, What.ROUTE, row)) for row in found]
    return _page([(addr, each.hostname, (addr, each)) for addr, each in items], limit, generation)


def rules(store: Store, limit: int, after: After | None = None, prefix: str = "") -> Page[FirewallRule]:
    """Firewall rules by kind and value, of which the values begin with `prefix`. Raises StoreError."""
    query = select(RULES).order_by(RULES.c.kind, RULES.c.value).limit(limit + 1)
    if prefix:
        query = query.where(RULES.c.value.startswith(prefix, autoescape=True))
    if after is not None:
        query = query.where(_beyond(RULES.c.kind, RULES.c.value, after))
    found, generation = _read(store, query)
    items = [store.value(FirewallRule, What.RULE, row) for row in found]
    return _page([(str(each.kind), each.value, each) for each in items], limit, generation)


def ended_rules(store: Store, now: float, limit: int) -> list[FirewallRule]:
    """At most `limit` temporary rules whose end has come, the longest overdue first. Raises StoreError."""
    query = select(RULES).where(RULES.c.expires_at <= now).order_by(RULES.c.expires_at).limit(limit)
    found, _ = _read(store, query)
    return [store.value(FirewallRule, What.RULE, row) for row in found]


def _beyond(first: Any, second: Any, after: After) -> Any:
    # Row values, (a, b) > (x, y), would be shorter; not every dialect compares them.
    return or_(first > after[0], and_(first == after[0], second > after[1]))


def _read(store: Store, query: Executable) -> tuple[list[Any], int]:
    with store.transaction() as database:
        found = list(database.query(query))
        return found, last_generation(database)


def _page(items: list[tuple[str, str, T]], limit: int, generation: int) -> Page[T]:
    more = len(items) > limit
    shown = items[:limit]
    return Page([item for _, _, item in shown], shown[-1][:2] if more else None, generation)
