"""The firewall: may this client connect at all? It is evaluated first for every connection.

Rules are refusals of three kinds, tried in the order ip, cidr, country; the first that matches decides. Each kind has
a structure of its own whose cost hardly depends on the number of rules: a dictionary for addresses, a binary search
over disjoint ranges for networks (policy/networks.py), a dictionary for countries. A kind without rules costs next to
nothing, and the country of a client is looked up only where there are country rules.

The data path calls `match`; `explain` shows the result of the same methods, one for each kind. The firewall has no
clock: a rule is in force while it is in the firewall, and admin/expiry.py removes it when it expires.

A firewall is immutable. A changed copy shares the kinds that the change doesn't touch; of the kind that it does touch
it copies references, not rules.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeVar

from mcproxy.model import FirewallRule, Reason, RuleKind
from mcproxy.native import mypyc_attr
from mcproxy.policy.networks import Networks, canonical_ip, canonical_network, pack, unpack
from mcproxy.words import quoted

K = TypeVar("K")
CountryOf = Callable[[bytes], str | None]  # a packed address to an ISO 3166-1 alpha-2 code, where it is known

REASONS: Mapping[RuleKind, Reason] = MappingProxyType(
    {
        RuleKind.IP: Reason.BLOCKED_IP,
        RuleKind.CIDR: Reason.BLOCKED_CIDR,
        RuleKind.COUNTRY: Reason.BLOCKED_COUNTRY,
    }
)

# Codes that people write and that ISO 3166-1 does not assign: rules for them would never match anything.
_MISTAKEN_COUNTRIES: Final = {"UK": "GB", "EL": "GR"}


def canonical_country(text: str) -> str:
    """The ISO 3166-1 alpha-2 code in capitals. Raises ValueError if the text doesn't have that form."""
    code = text.upper()
    if not (len(text) == 2 and text.isascii() and text.isalpha()):
        raise ValueError(f'{quoted(text)} is not a country code; write the two letters of ISO 3166-1, such as "DE"')
    if code in _MISTAKEN_COUNTRIES:
        raise ValueError(
            f"{quoted(text)} is not assigned in ISO 3166-1; did you mean {quoted(_MISTAKEN_COUNTRIES[code])}?"
        )
    return code


_CANONICAL: Mapping[RuleKind, Callable[[str], str]] = MappingProxyType(
    {RuleKind.IP: canonical_ip, RuleKind.CIDR: canonical_network, RuleKind.COUNTRY: canonical_country}
)


def rule(kind: RuleKind, value: str, expires_at: float | None = None) -> FirewallRule:
    """A rule with its value in canonical form. Raises ValueError saying what is wrong and what to write instead."""
    return FirewallRule(kind, _CANONICAL[kind](value), expires_at)


def _checked(unchecked: FirewallRule) -> FirewallRule:
    try:
        value = _CANONICAL[unchecked.kind](unchecked.value)
    except ValueError as error:
        raise ValueError(f"firewall rule {unchecked.kind}: {error}") from None
    return unchecked if value == unchecked.value else replace(unchecked, value=value)


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True)
class Trial:
    """The result of trying one kind of rule."""

    kind: RuleKind
    rules: int  # how many of this kind there are
    subject: str  # what was looked for: the address, or its country; "" where the country is not known or not asked for
    matched: FirewallRule | None


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True, repr=False)
class Firewall:
    """All rules, compiled. `Firewall()` refuses no client."""

    ips: Mapping[bytes, FirewallRule] = field(default_factory=dict)  # by packed address
    cidrs: Mapping[str, FirewallRule] = field(default_factory=dict)  # by canonical text
    networks: Networks = field(default_factory=Networks)  # the same ones, to be searched
    countries: Mapping[str, FirewallRule] = field(default_factory=dict)  # by code

    @classmethod
    def compile(cls, rules: Iterable[FirewallRule]) -> "Firewall":
        """Of two rules with the same kind and value the later one holds. Raises ValueError naming the bad rule."""
        ips, cidrs, countries = {}, {}, {}
        for each in map(_checked, rules):
            match each.kind:
                case RuleKind.IP:
                    ips[pack(each.value)] = each
                case RuleKind.CIDR:
                    cidrs[each.value] = each
                case RuleKind.COUNTRY:
                    countries[each.value] = each
        return cls(ips, cidrs, Networks.of(cidrs), countries)

    def match(self, packed: bytes, country: CountryOf) -> FirewallRule | None:
        """The rule that refuses this client, or None. A rule is always true, so `or` stops at the first."""
        return self._match_ip(packed) or self._match_cidr(packed) or self._match_country(packed, country)

    def explain(self, packed: bytes, country: CountryOf) -> Iterator[Trial]:
        """Each kind that `match` tries for this client, in its order, up to and with the one that matches."""
        asked: list[str | None] = []

        def remember(packed: bytes) -> str | None:
            asked.append(country(packed))
            return asked[-1]

        address = unpack(packed)
        matched = self._match_ip(packed)
        yield Trial(RuleKind.IP, len(self.ips), address, matched)
        if not matched:
            matched = self._match_cidr(packed)
            yield Trial(RuleKind.CIDR, len(self.cidrs), address, matched)
        if not matched:
            matched = self._match_country(packed, remember)
            yield Trial(RuleKind.COUNTRY, len(self.countries), (asked[0] or "") if asked else "", matched)

    def _match_ip(self, packed: bytes) -> FirewallRule | None:
        return self.ips.get(packed)

    def _match_cidr(self, packed: bytes) -> FirewallRule | None:
        if not self.cidrs:
            return None
        found = self.networks.find(packed)
        return None if found is None else self.cidrs[found]

    def _match_country(self, packed: bytes, country: CountryOf) -> FirewallRule | None:
        if not self.countries:
            return None
        code = country(packed)
        return None if code is None else self.countries.get(code)

    def rules(self) -> Iterator[FirewallRule]:
        """Every rule, also those within others, by kind in the order in which the kinds are tried."""
        for kind in (self.ips, self.cidrs, self.countries):
            yield from kind.values()

    def with_rule(self, added: FirewallRule) -> "Firewall":
        """A firewall with this rule as well, or with its new expiry. Raises ValueError naming the rule."""
        each = _checked(added)
        match each.kind:
            case RuleKind.IP:
                return replace(self, ips={**self.ips, pack(each.value): each})
            case RuleKind.CIDR:
                return replace(self, cidrs={**self.cidrs, each.value: each}, networks=self.networks.adding(each.value))
            case RuleKind.COUNTRY:
                return replace(self, countries={**self.countries, each.value: each})

    def without_rule(self, kind: RuleKind, value: str) -> "Firewall":
        """A firewall without this rule. Raises KeyError if it is not there, ValueError if it is invalid."""
        canonical = _CANONICAL[kind](value)
        match kind:
            case RuleKind.IP:
                return replace(self, ips=_without(self.ips, pack(canonical)))
            case RuleKind.CIDR:
                cidrs = _without(self.cidrs, canonical)
                return replace(self, cidrs=cidrs, networks=self.networks.removing(canonical))
            case RuleKind.COUNTRY:
                return replace(self, countries=_without(self.countries, canonical))

    def __len__(self) -> int:
        return len(self.ips) + len(self.cidrs) + len(self.countries)

    def __repr__(self) -> str:
        return f"<Firewall ip={len(self.ips)} cidr={len(self.cidrs)} country={len(self.countries)}>"


def _without(rules: Mapping[K, FirewallRule], key: K) -> Mapping[K, FirewallRule]:
    remaining = dict(rules)
    del remaining[key]
    return remaining
