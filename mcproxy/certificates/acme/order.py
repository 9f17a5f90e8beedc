"""An order's state and what follows from it: when it is tried again, when a certificate is renewed. Pure.

Times are seconds since the epoch; `chance` is a random number from 0 to 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from mcproxy.certificates.pem import Certificate, Pair
from mcproxy.model import warned_from
from mcproxy.policy.firewall import Firewall
from mcproxy.words import moment

DAY = 86_400.0
RENEWED_AT = 2 / 3  # of its lifetime, where the CA doesn't say when (RFC 9773)
SHORT_LIFETIME = 10 * 86_400.0  # seconds: what lives no longer is renewed earlier, so that some tries are left
SHORT_RENEWED_AT = 1 / 2
RENEWAL_SPREAD = 0.03  # of a lifetime: so that many names that were ordered together are not renewed together
FIRST_RETRY = 600.0  # seconds: Let's Encrypt allows five failed validations of a name an hour
LAST_RETRY = 86_400.0  # seconds: it doubles up to here
CA_FIRST_RETRY = 15.0  # seconds: a CA that is away for a minute should not cost ten
CA_LAST_RETRY = 3_600.0
RETRY_SPREAD = 0.1  # of a pause, added
MAX_FAILURE = 500  # characters of the CA's own words that are kept
MAX_NAMED = 5  # rules in a sentence
# The longest prefixes of networks that a CA may be in: no provider has more than a /8 of IPv4, or than a /19 of IPv6.
WIDE = {4: 8, 6: 19}
WIDE_TOGETHER = {4: 7, 6: 19}  # of many narrower ones, as blocklists of whole providers have: the size of one so wide


class State(StrEnum):
    """Where a name's order is."""

    WAITING = "waiting"  # nothing is under way; the next try is at `next_at`
    ORDERING = "ordering"  # the CA is asked for an order; one that a crash cut off here may exist there
    VALIDATING = "validating"  # the challenge can be answered, and the CA was told to look
    ISSUING = "issuing"  # the CA has the request for the certificate


@dataclass(frozen=True, slots=True)
class Order:
    """One name's order: the row that a restart goes on from."""

    hostname: str
    state: State = State.WAITING
    directory: str = ""  # of the CA that `url` is at; else of the one that was asked last
    url: str = ""  # of the order at the CA; "": there is none to go on with
    key: str = ""  # the private key of the certificate that is ordered, PEM; never shown
    next_at: float = 0.0  # when to go on
    began: float = 0.0  # when the CA was asked for it; of a certificate, for that one
    failures: int = 0  # in a row
    failure: str = ""  # the last one, in the words of the CA
    failed_at: float = 0.0
    challenge: str = ""  # the key authorization that answers the CA's challenge, until the order ends; "": none yet

    def __repr__(self) -> str:
        return f"<Order {self.hostname} {self.state} failures={self.failures}>"  # and nothing of the key


@dataclass(frozen=True, slots=True)
class CaAccount:
    """An account at a CA, and how the CA does."""

    directory: str
    key: str  # PEM; never shown
    url: str = ""  # "": not registered yet
    paused_until: float = 0.0  # nothing is asked of the CA before
    failures: int = 0  # in a row, of the CA as a whole
    failure: str = ""

    def __repr__(self) -> str:
        return f"<CaAccount {self.directory} failures={self.failures}>"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a worker has of one name: the certificate, the answer to a challenge, and how its order does."""

    order: Order  # without its key
    pair: Pair | None = None  # None: there is no certificate yet
    certificate: Certificate | None = None  # what `pair` holds
    challenge: Pair | None = None  # None: no challenge is expected
    obstacle: str = ""  # why no order gets on, of whatever name; or why none begins
    is_general: bool = False  # the obstacle is that of orders which are under way, too
    is_halted: bool = False  # nothing will be tried before the configuration is another one

    def hindrance(self, now: float) -> str:
        """The obstacle, if it is one to this name: it has no certificate, or its order is under way or due."""
        order = self.order
        if order.state is not State.WAITING:
            return self.obstacle if self.is_general else ""
        return self.obstacle if self.certificate is None or order.failure or order.next_at <= now else ""

    @property
    def words(self) -> str:
        """Why there is no certificate yet, or why it is not renewed."""
        order = self.order
        if order.state is not State.WAITING and not (self.obstacle and self.is_general):
            return f"its order is {order.state}"
        if self.is_halted:
            return f"{self.obstacle}{order.failure and f'; the last order failed: {order.failure}'}"
        if order.failure:
            tries = f", try {order.failures}" if order.failures else ""
            return f"its order failed{tries}, next one at {moment(order.next_at)}: {order.failure}"
        return self.obstacle or f"its order is due at {moment(order.next_at)}"


def spent(most: int, free_at: float) -> str:
    """Why no order begins where so many have begun within an hour."""
    begun = f"{most} orders have begun within an hour, as many as mcproxy makes"
    return f"{begun}; the next one begins at {moment(free_at)}"


def kept_out(firewall: Firewall) -> str:
    """What the firewall blocks that may well have a CA in it, in words; "": nothing."""
    wide = (each for each in firewall.cidrs if int(each.rpartition("/")[2]) <= WIDE[6 if ":" in each else 4])
    blocked = [*sorted(firewall.countries), *wide, *_wide_together(firewall)]
    if not blocked:
        return ""
    more = f" and {len(blocked) - MAX_NAMED} more" if len(blocked) > MAX_NAMED else ""
    return (
        f"the firewall blocks {', '.join(blocked[:MAX_NAMED])}{more}, and a CA validates from several countries and"
        " networks"
    )


def _wide_together(firewall: Firewall) -> Iterator[str]:
    """The networks that are not wide, in words, where there are so many that a CA may well be in one."""
    for version, lengths in zip(WIDE, firewall.networks.lengths(), strict=True):
        narrow, size = [each for each in lengths if each > WIDE[version]], WIDE_TOGETHER[version]
        if sum(2.0**-each for each in narrow) >= 2.0**-size:
            yield f"{len(narrow)} networks of IPv{version} that together are as large as a /{size}"


def failed(order: Order, failure: str, now: float, chance: float, retry_after: float = 0.0) -> Order:
    """The order after it failed for good: the next try is a new one."""
    pause = min(FIRST_RETRY * 2 ** min(order.failures, 30), LAST_RETRY) * (1 + RETRY_SPREAD * chance)
    return replace(
        order, state=State.WAITING, url="", key="", next_at=now + max(pause, retry_after), failures=order.failures + 1,
        failure=failure[:MAX_FAILURE], failed_at=now, challenge="",
    )  # fmt: skip


def paused(account: CaAccount, failure: str, now: float, chance: float, retry_after: float = 0.0) -> CaAccount:
    """The account after the CA as a whole failed: no order has failed by that."""
    pause = min(CA_FIRST_RETRY * 2 ** min(account.failures, 30), CA_LAST_RETRY) * (1 + RETRY_SPREAD * chance)
    until = now + max(pause, retry_after)
    return replace(account, paused_until=until, failures=account.failures + 1, failure=failure[:MAX_FAILURE])


def renewed_at(certificate: Certificate, chance: float, began: float = 0.0) -> float:
    """When a certificate is renewed whose CA doesn't say; it was ordered at `began`."""
    lifetime = certificate.not_after - certificate.not_before
    share = SHORT_RENEWED_AT if lifetime <= SHORT_LIFETIME else RENEWED_AT
    chosen = certificate.not_before + lifetime * (share - RENEWAL_SPREAD * chance)
    return max(chosen, earliest_renewal(certificate, began))


def renewed_within(certificate: Certificate, begin: float, end: float, chance: float, began: float) -> float:
    """When a certificate is renewed for which the CA names a window: before its end is warned of, in any case."""
    latest = warned_from(certificate.not_before, certificate.not_after)
    return max(min(begin + (end - begin) * chance, latest), earliest_renewal(certificate, began))


def earliest_renewal(certificate: Certificate, began: float) -> float:
    """Before this a certificate is not renewed, or a CA or a clock that is wrong would cause a loop of orders.

    `began` is when it was ordered by this machine's clock; its dates are by the CA's.
    """
    since = max(certificate.not_before, began)
    return since + min(DAY, (certificate.not_after - certificate.not_before) / 10)


def lost(order: Order, now: float) -> Order:
    """The order after the CA has lost it: nothing has failed, and another one is due."""
    return replace(order, state=State.WAITING, url="", key="", next_at=now, challenge="")


def interrupted(order: Order, failure: str, now: float, again_at: float) -> Order:
    """The order after its validation failed since nobody was there: no try is used up."""
    return replace(lost(order, again_at), failure=failure[:MAX_FAILURE], failed_at=now)


def issued(order: Order, renew_at: float) -> Order:
    """The order after its certificate is there: it waits for the renewal."""
    return Order(order.hostname, directory=order.directory, next_at=renew_at, began=order.began)


def of_another_ca(order: Order, directory: str) -> bool:
    """Whether a certificate that waits for its renewal is of another CA than the one that is asked now."""
    waits = order.state is State.WAITING and not order.url and not order.failures
    return waits and order.directory not in ("", directory)
