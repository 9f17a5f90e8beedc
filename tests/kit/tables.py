"""Tables of every shape, for properties: what holds of any of them; and tables with one value more or less."""

from hypothesis import strategies as st

from mcproxy.change import Change, Key, Value, current, listener_key, next_table, route_key, rule_key
from mcproxy.model import Backend, FirewallRule, Listener, Mode, Route, RuleKind
from mcproxy.store.store import ListenerRoutes
from mcproxy.table import Table

# Few of each, so that two tables have much in common; paths hold what has to be escaped.
_PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8).map("/etc/".__add__)
_NAMES = st.sampled_from([f"{name}.example.org" for name in ("git", "www", "a--b", "xn--bcher-kva")])
_BACKENDS = st.one_of(
    st.builds(Backend, st.sampled_from(["127.0.0.1", "::1", "backend.example"]), st.integers(1, 65535)),
    st.builds(Backend, path=_PATHS.filter(str.isprintable)),
)
_L4 = st.builds(Route, _NAMES, _BACKENDS, send_proxy_protocol=st.booleans())
_L7 = st.builds(Route, _NAMES, _BACKENDS, st.just(Mode.L7), _PATHS, _PATHS)
_L7_TLS = st.builds(
    Route, _NAMES, _BACKENDS, st.just(Mode.L7), _PATHS, _PATHS, st.just(True), st.just("") | _PATHS,
    st.just("") | _NAMES, st.booleans(),
)  # fmt: skip
_NETWORKS = st.sampled_from(["192.0.2.0/24", "198.51.100.0/25", "2001:db8::/32"])
_COUNTS = st.sampled_from([0, 1, 4096])
_RULES = st.one_of(
    st.builds(FirewallRule, st.just(RuleKind.IP), st.sampled_from(["192.0.2.1", "203.0.113.9", "2001:db8::1"])),
    st.builds(FirewallRule, st.just(RuleKind.CIDR), _NETWORKS),
    st.builds(FirewallRule, st.just(RuleKind.COUNTRY), st.sampled_from(["AQ", "DE"])),
)


def _listener(addr: str) -> st.SearchStrategy[Listener]:
    plain = st.builds(Listener, st.just(addr), max_connections=_COUNTS)
    proxies = st.lists(_NETWORKS, min_size=1, unique=True).map(tuple)
    return plain | st.builds(Listener, st.just(addr), st.just(True), proxies, _COUNTS)


def _pair(addr: str) -> st.SearchStrategy[ListenerRoutes]:
    return st.tuples(_listener(addr), st.lists(_L4 | _L7 | _L7_TLS, unique_by=lambda route: route.hostname))


PAIRS = st.lists(st.sampled_from([":443", "127.0.0.1:8443", "[::1]:9443"]), unique=True).flatmap(
    lambda addrs: st.tuples(*map(_pair, addrs)).map(list)
)
RULES = st.lists(_RULES, unique_by=lambda rule: (rule.kind, rule.value))
_ENDING = st.builds(
    FirewallRule, st.just(RuleKind.IP), st.sampled_from(["192.0.2.1", "192.0.2.77"]), st.floats(1e9, 2e9)
)


@st.composite
def tables(draw: st.DrawFn, *, temporary: bool = True) -> Table:
    """A table; its rules are all for good unless some may be `temporary`."""
    rules = [*draw(RULES), *(draw(st.lists(_ENDING, max_size=2)) if temporary else ())]
    return Table.build(draw(PAIRS), rules, draw(st.integers(1, 1000)))


def with_value(table: Table, value: Value, addr: str = "") -> Table:
    """The next table, with this value added or replaced; `addr` is the listener of a route."""
    if isinstance(value, Listener):
        key = listener_key(value.addr)
    elif isinstance(value, Route):
        key = route_key(addr, value.hostname)
    else:
        key = rule_key(value.kind, value.value)
    return next_table(table, [Change(key, current(table, key), value)], table.generation + 1)


def without(table: Table, key: Key) -> Table:
    """The next table, without the value of this key."""
    return next_table(table, [Change(key, current(table, key), None)], table.generation + 1)
