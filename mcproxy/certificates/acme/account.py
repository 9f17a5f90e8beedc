"""The account at the CA: registered when it is needed, paused where the CA can't be asked, replaced once it is gone."""

import logging
from collections.abc import Callable
from dataclasses import replace

from mcproxy.certificates.acme import challenge, order
from mcproxy.certificates.acme.contract import Asked, Asking, CaSettings, Refusal, Rows
from mcproxy.certificates.acme.course import RATE_LIMITED
from mcproxy.certificates.acme.order import CaAccount
from mcproxy.words import moment

_GONE = frozenset({"accountDoesNotExist", "unauthorized"})  # what a CA says that doesn't take the account

log = logging.getLogger(__package__)


class Account:
    """An account at one CA. Its methods may raise NotDurable."""

    def __init__(
        self, settings: CaSettings, rows: Rows, ask: Asking, clock: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        """Find the account, or make a key for one."""
        self.directory = settings.directory
        self._settings = settings
        self._rows = rows
        self._ask = ask
        self._clock = clock
        self._chance = chance
        found = rows.account(settings.directory)
        self._row = found or CaAccount(settings.directory, challenge.new_key())
        if found is None:
            rows.write_account(self._row)
        self._ca: Asked | None = None  # made when it is needed
        self._has_email = False  # as it is in the settings

    def __repr__(self) -> str:
        return f"<Account {self._row}>"

    @property
    def paused_until(self) -> float:
        """Nothing is asked of the CA before."""
        return self._row.paused_until

    @property
    def words(self) -> str:
        """Why it is paused, and until when."""
        return f"{self._row.failure}; next try at {moment(self._row.paused_until)}"

    def registered(self) -> Asked:
        """The CA, with an account. Raises Refusal, of the CA as a whole; ImportError where the library is missing."""
        if self._ca is None:
            self._ca = self._ask(self._settings, self._row)
        if self._row.url:
            return self._ca
        try:
            self._write(replace(self._row, url=self._ca.register()))
        except Refusal as refusal:  # no name is at fault
            raise Refusal(str(refusal), refusal.code, refusal.retry_after, whole=True) from refusal
        self._has_email = True
        log.info("registered an account at %s: %s", self.directory, self._row.url)
        return self._ca

    def give_email(self, ca: Asked) -> None:
        """Give the CA the address in [acme], once: the account may have another. That it refuses it stops no order.

        Raises Refusal, of the CA as a whole.
        """
        if self._has_email or not self._settings.email:
            return
        try:
            ca.write_to(self._settings.email)
        except Refusal as refusal:
            if not refusal.code or refusal.code in _GONE:
                raise Refusal(str(refusal), refusal.code, refusal.retry_after, whole=True) from refusal
            log.warning("acme.email: the CA refuses %s: %s", self._settings.email, refusal)
        self._has_email = True

    def is_gone(self, refusal: Refusal) -> bool:
        """Whether the CA refuses because it no longer takes the account. It is asked, for it may be about the name."""
        if refusal.code != "unauthorized" or self._ca is None:
            return refusal.code in _GONE
        try:
            return not self._ca.is_valid()
        except Refusal:
            return False

    def pause(self, refusal: Refusal, *, gone: bool) -> None:
        """Leave the CA alone for a while: it can't be asked, or it refuses whatever name it is. `gone`: register again.

        The key of an account that the CA doesn't know is good; that of one which it no longer takes is of no use.
        """
        self._ca = None  # its directory, and its nonces, are read again
        limited = RATE_LIMITED if refusal.code == "rateLimited" else 0.0
        pause = refusal.retry_after or limited
        row = order.paused(self._row, str(refusal), self._clock(), self._chance(), pause)
        if gone:
            row = replace(row, url="")
        if gone and refusal.code == "unauthorized":
            log.warning("the account at %s is no longer valid: a new one is registered", self.directory)
            row = replace(row, key=challenge.new_key())
        self._write(row)
        log.error("%s, next try at %s", row.failure, moment(row.paused_until))

    def stop_for(self, why: str, seconds: float) -> None:
        """Ask for nothing until then, or until a restart."""
        self._row = replace(self._row, paused_until=self._clock() + seconds, failure=why)
        log.error("%s", why)

    def recovered(self) -> None:
        """The CA has answered."""
        if self._row.failures:
            self._write(replace(self._row, failures=0, failure="", paused_until=0.0))

    def _write(self, row: CaAccount) -> None:
        self._rows.write_account(row)
        self._row = row
