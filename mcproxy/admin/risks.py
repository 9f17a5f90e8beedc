"""Risks that a person should agree to before a mutation: a sentence for each step that is easily made by mistake."""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from mcproxy.change import Change, What
from mcproxy.model import FirewallRule, Listener, Route, RuleKind, counted
from mcproxy.policy.firewall import CountryOf, Firewall
from mcproxy.policy.networks import unpack

# Shorter prefixes are probably mistakes: no provider has more than a /8 of IPv4, or than a /19 of IPv6.
SHORTEST = {4: 8, 6: 19}
MANY_CUT = 100  # live connections of a network or a country; those of one address are what --kill is for
NAMED = 3  # routes that a sentence names, and listeners that have a sentence


def of_changes(changes: Sequence[Change]) -> Iterator[str]:
    """The risks of removing listeners with their routes, and of changing a route's mode."""
    gone = {change.key.name for change in changes if isinstance(change.old, Listener) and change.new is None}
    removed: dict[str, list[str]] = {}
    turned: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        if change.key.what is What.ROUTE and change.key.scope in gone:
            removed.setdefault(change.key.scope, []).append(change.key.name)
        elif isinstance(change.old, Route) and isinstance(change.new, Route) and change.old.mode != change.new.mode:
            turned.setdefault((change.old.mode, change.new.mode), []).append(str(change.key))
    for addr, names in islice(removed.items(), NAMED):
        yield f"removing {addr} removes {counted(len(names), 'route')}: {_named(names)}"
    if len(removed) > NAMED:
        yield f"the same applies to {counted(len(removed) - NAMED, 'more listener')}"
    for (old, new), keys in turned.items():
        subject = f"the {keys[0]} changes" if len(keys) == 1 else f"{len(keys)} routes change"
        yield f"{subject} from {old} to {new}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def of_rollback(changes: Sequence[Change]) -> Iterator[str]:
    """The risks of a rollback that changes anything."""
    if changes:
        yield f"it changes {counted(len(changes), 'value')}"
        yield from of_changes(changes)


def of_rule(rule: FirewallRule, own: Iterable[bytes], country: CountryOf, cut: int) -> Iterator[str]:
    """The risks of a rule that matches the caller's own addresses or too much, or `cut`s too many connections."""
    firewall = Firewall.compile([rule])
    for packed in dict.fromkeys(own):
        if firewall.match(packed, country):
            yield f"it blocks {unpack(packed)}, your own address"
    if rule.kind is RuleKind.CIDR:
        network = ipaddress.ip_network(rule.value)
        if not network.prefixlen:
            yield f"it blocks every IPv{network.version} address"
        elif network.prefixlen < SHORTEST[network.version]:
            yield f"it blocks a /{network.prefixlen} of IPv{network.version}, 1 address in {2**network.prefixlen}"
    if rule.kind is not RuleKind.IP and cut > MANY_CUT:
        yield f"it cuts {counted(cut, 'live connection')}"
