"""A CA in memory for the keeper, which does what the test says; and rows and workers that only remember."""

import datetime as dt
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mcproxy.certificates.acme.contract import CaSettings, Lacking, Refusal, Seen
from mcproxy.certificates.acme.keeper import Keeper
from mcproxy.certificates.acme.order import CaAccount, Kept, Order
from mcproxy.certificates.pem import Pair
from mcproxy.model import Backend, Listener, Mode, Route, Tls
from mcproxy.table import Table

DIRECTORY = "https://ca.test/dir"
START = 1_800_000_000.0
DAY = 86_400.0
AWAY = Refusal("the CA can't be asked: Connection refused", whole=True)


def table(*hostnames: str, generation: int = 1) -> Table:
    """A table with an ACME route for each name."""
    routes = [Route(each, Backend("127.0.0.1", 1), Mode.L7, tls=Tls.ACME) for each in hostnames]
    return Table.build([(Listener(":443"), routes)], [], generation)


@dataclass
class Rows:
    """The database, in memory; `full` says that nothing can be written."""

    accounts: dict[str, CaAccount] = field(default_factory=dict)
    order_rows: dict[str, Order] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    started: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)  # what was written, in order
    fail: Exception | None = None
    after_order: Callable[[Order], None] = lambda _order: None  # a row of an order was written

    def _write(self, what: str) -> None:
        if self.fail is not None:
            raise self.fail
        self.log.append(what)

    def account(self, directory: str) -> CaAccount | None:
        return self.accounts.get(directory)

    def orders(self) -> list[Order]:
        return list(self.order_rows.values())

    def certificates(self) -> dict[str, Pair]:
        return dict(self.pairs)

    def starts(self, since: float) -> list[float]:
        return [each for each in self.started if each >= since]

    def write_account(self, account: CaAccount) -> None:
        self._write("account")
        self.accounts[account.directory] = account

    def write_order(self, order: Order) -> None:
        self._write(f"{order.hostname} {order.state}")
        self.order_rows[order.hostname] = order
        self.after_order(order)

    def take_up(self, orders: Collection[Order]) -> None:
        for order in orders:
            self.order_rows.setdefault(order.hostname, order)

    def write_start(self, order: Order, forget_before: float) -> None:
        self.started = [each for each in self.started if each >= forget_before] + [order.began]
        self.write_order(order)

    def write_issued(self, order: Order, issued: Pair, not_after: float) -> None:
        if self.fail is None:
            self.pairs[order.hostname] = issued
        self.write_order(order)

    def remove(self, hostname: str, ended_before: float) -> None:
        self._write(f"remove {hostname}")
        self.order_rows.pop(hostname, None)


@dataclass
class Workers:
    """What is kept of each name."""

    names: dict[str, Kept] = field(default_factory=dict)
    behind: list[Collection[str]] = field(default_factory=list)  # nodes of a fleet, each time that it is asked

    def keep(self, kept: Kept) -> None:
        self.names[kept.order.hostname] = kept

    def forget(self, hostname: str) -> None:
        del self.names[hostname]

    def spreading(self) -> Lacking:
        return lambda: self.behind.pop(0) if self.behind else ()


class StubCA:
    """Takes every order through all its states; `refuse` maps a method's name to what it raises, once each."""

    def __init__(self, clock: Callable[[], float], lifetime: float = 90 * DAY) -> None:
        self.calls: list[str] = []
        self.on_call: Callable[[str], None] = lambda _method: None
        self.issued_for = ""  # another name than the ordered one
        self.junk = b""  # instead of a chain
        self.refuse: dict[str, list[Refusal]] = {}
        self.invalid = ""  # why validation fails
        self.window: tuple[float, float, float] | None = None
        self.lifetime = lifetime
        self.renewed: bytes | None = None  # by the last order
        self.crash: Exception | None = None  # a bug
        self.account_is_valid = True
        self.names: dict[str, str] = {}  # status by host name
        self.looking: set[str] = set()  # names whose challenge it looks at while their order is pending
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._requests: dict[str, bytes] = {}

    def _called(self, method: str, about: str = "") -> None:
        self.calls.append(f"{method} {about}".strip())
        self.on_call(method)
        if self.crash is not None:
            raise self.crash
        if self.refuse.get(method):
            raise self.refuse[method].pop(0)

    def register(self) -> str:
        self._called("register")
        return "https://ca.test/account/1"

    def is_valid(self) -> bool:
        self._called("is_valid")
        return self.account_is_valid

    def write_to(self, email: str) -> None:
        self._called("write_to", email)

    def order(self, hostname: str, renewed: bytes | None) -> str:
        self._called("order", hostname)
        self.names[hostname] = "pending"
        self.renewed = renewed
        return f"https://ca.test/order/{hostname}"

    def look(self, url: str) -> Seen:
        hostname = url.rpartition("/")[2]
        self._called("look", hostname)
        status = self.names[hostname]
        if status == "pending":
            challenge, is_looking = f"https://ca.test/challenge/{hostname}", hostname in self.looking
            return Seen(status, challenge=challenge, token="token", is_looking=is_looking)
        if status == "processing":
            self.names[hostname] = "valid"
        return Seen(status, f"finalize/{hostname}", f"certificate/{hostname}", problem=self.invalid)

    def key_authorization(self, token: str) -> str:
        return f"{token}.thumb"

    def begin(self, challenge: str) -> None:
        hostname = challenge.rpartition("/")[2]
        self._called("begin", hostname)
        self.names[hostname] = "invalid" if self.invalid else "ready"

    def finalize(self, url: str, request: bytes) -> None:
        hostname = url.rpartition("/")[2]
        self._called("finalize", hostname)
        self._requests[hostname] = request
        self.names[hostname] = "processing"

    def download(self, url: str) -> bytes:
        hostname = url.rpartition("/")[2]
        self._called("download", hostname)
        return self.junk or self._issue(self.issued_for or hostname, x509.load_der_x509_csr(self._requests[hostname]))

    def renewal(self, chain: bytes) -> tuple[float, float, float] | None:
        self._called("renewal")
        return self.window

    def _issue(self, hostname: str, request: x509.CertificateSigningRequest) -> bytes:
        """A certificate for the key of a request."""
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stub CA")])
        builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(name)
        builder = builder.public_key(request.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(seconds=self.lifetime))
        names = x509.SubjectAlternativeName([x509.DNSName(hostname)])
        issued = builder.add_extension(names, critical=True).sign(self._key, hashes.SHA256())
        return issued.public_bytes(Encoding.PEM)


class Bench:
    """A keeper whose clock the test winds and whose steps it takes."""

    def __init__(self, *hostnames: str, lifetime: float = 90 * DAY) -> None:
        self.now = START
        self.rows, self.workers = Rows(), Workers()
        self.ca = StubCA(lambda: self.now, lifetime)
        self.table = table(*hostnames)
        self.settings: CaSettings | None = CaSettings(DIRECTORY)
        self.keeper = self.restart()

    def restart(self) -> Keeper:
        """A new keeper on the same rows, as after a kill."""
        self.workers.names.clear()
        self.keeper = Keeper(
            self.rows,
            self.workers,
            lambda: self.table,
            self.settings,
            lambda *_: self.ca,
            lambda: self.now,
            lambda: 0.5,
        )
        return self.keeper

    def step(self, seconds: float = 0.0) -> float:
        """One round, after so many seconds."""
        self.now += seconds
        return self.keeper.step()

    def until_waiting(self, hostname: str, most: int = 20) -> Order:
        """Rounds until nothing is under way for a name; its order."""
        for _ in range(most):
            self.step(1.0)
            kept = self.workers.names[hostname]
            if kept.order.state == "waiting" and (kept.order.failures or kept.pair):
                return replace(kept.order)
        raise AssertionError(f"{hostname} is {self.workers.names[hostname].order}")


def asked(bench: Bench, *methods: str) -> list[str]:
    """The calls of these methods, in their order."""
    return [each for each in bench.ca.calls if each.split()[0] in methods]
