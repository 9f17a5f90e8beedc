"""What the keeper asks of a CA, of the database and of the workers: protocols and values, nothing that acts.

Tested by tests/certificates/acme/test_keeper.py, whose CA, rows and workers keep to them.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from mcproxy.certificates.acme.order import CaAccount, Kept, Order
from mcproxy.certificates.pem import Pair
from mcproxy.model import Route


@dataclass(frozen=True, slots=True)
class CaSettings:
    """[acme] of the configuration, as far as it says how to ask."""

    directory: str
    email: str = ""
    profile: str = ""
    ca: str = ""  # file of CAs to verify the CA's own server with; "" is the system's


class Refusal(Exception):
    """A CA refused, or can't be asked; the message is for people."""

    def __init__(self, message: str, code: str = "", retry_after: float = 0.0, *, whole: bool = False) -> None:
        """`code` is that of RFC 8555, section 6.7; `whole`: it is about the CA or the account, and not about a name."""
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after  # seconds; 0.0: it didn't say
        self.whole = whole


class OrderLost(Refusal):
    """The CA has no such order, or has it no longer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An order as the CA has it."""

    status: str  # RFC 8555, section 7.1.6
    finalize: str = ""
    certificate: str = ""  # where it is, once the order is valid
    challenge: str = ""  # the URL of tls-alpn-01, while it is pending
    token: str = ""  # its token
    is_looking: bool = False  # the CA was told to look at the answer, and has not decided
    problem: str = ""  # why it is invalid
    retry_after: float = 0.0


class NotDurable(Exception):
    """A row can't be read or written now; nothing has changed."""


class Asked(Protocol):
    """An account at a CA (ca.py). Every call may raise Refusal."""

    def register(self) -> str:
        """Make an account, or find it. Returns its URL."""

    def is_valid(self) -> bool:
        """Whether the CA takes the account still."""

    def write_to(self, email: str) -> None:
        """Have the account's owner be written to at this address."""

    def order(self, hostname: str, renewed: bytes | None) -> str:
        """Order a certificate for a name, in place of the chain `renewed`. Returns the order's URL."""

    def look(self, url: str) -> Seen:
        """An order as it is now. Raises OrderLost."""

    def key_authorization(self, token: str) -> str:
        """What the answer to a challenge has to show."""

    def begin(self, challenge: str) -> None:
        """Have the CA look at the answer."""

    def finalize(self, url: str, request: bytes) -> None:
        """Have the certificate issued."""

    def download(self, url: str) -> bytes:
        """The chain, PEM."""

    def renewal(self, chain: bytes) -> tuple[float, float, float] | None:
        """When to renew: begin and end of a window, and seconds until the next question; None: it doesn't say."""


class Rows(Protocol):
    """What is durable (store/acme.py). Every method may raise NotDurable."""

    def account(self, directory: str) -> CaAccount | None:
        """The account at a CA."""

    def orders(self) -> list[Order]:
        """Every name's order."""

    def certificates(self) -> dict[str, Pair]:
        """Every certificate with its key, by name."""

    def starts(self, since: float) -> list[float]:
        """When orders began, from `since` on."""

    def write_account(self, account: CaAccount) -> None:
        """Insert or replace an account."""

    def write_order(self, order: Order) -> None:
        """Insert or replace an order."""

    def take_up(self, orders: Collection[Order]) -> None:
        """Insert orders of names that are new; one that has an order already keeps it."""

    def write_start(self, order: Order, forget_before: float) -> None:
        """Write an order that begins, and that it has."""

    def write_issued(self, order: Order, issued: Pair, not_after: float) -> None:
        """Write a certificate, and the order that waits for its renewal, together."""

    def remove(self, hostname: str, ended_before: float) -> None:
        """Remove a name's order, and its certificate if that has ended before."""


Lacking = Callable[[], Collection[str]]  # names of nodes; may raise NotDurable


class Holder(Protocol):
    """The workers, which have what is kept of each name."""

    def keep(self, kept: Kept) -> None:
        """Have this for a name from now on."""

    def forget(self, hostname: str) -> None:
        """Have nothing for a name from now on."""

    def spreading(self) -> Lacking:
        """What returns the other nodes of the fleet that don't have yet what is durable now."""


class Certificates(Protocol):
    """What has certificates ordered: the keeper, or in a fleet the node's part in it. Any thread may call it."""

    @property
    def wake(self) -> threading.Event:
        """Set where a table has come into force."""

    def renew(self, hostname: str) -> None:
        """Order a certificate for a name now, whatever it waits for. May raise NotDurable."""

    def adopt(self, route: Route) -> None:
        """Serve what a route's files hold until there is a certificate from ACME. May raise NotDurable."""

    def configure(self, settings: CaSettings | None) -> None:
        """Ask by these settings from now on."""

    def start(self) -> None:
        """Begin, in a thread of its own."""

    def close(self) -> None:
        """Ask for nothing more."""


Asking = Callable[[CaSettings, CaAccount], Asked]  # raises ImportError where the library is missing
