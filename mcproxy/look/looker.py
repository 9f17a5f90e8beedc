"""Looks at backends: dials on the hub as a session does, then speaks TLS and HTTP in the calling native thread.

The dial is the data path's own, in a greenlet: the same resolver, the same order of addresses, the same reasons. What
comes after it takes blocking sockets with a deadline, because a handshake costs the hub more than it is worth here.
If the route sends PROXY headers, this connection's is LOCAL, the protocol's form for a proxy's own connections.

An l7 backend is judged: a fault that keeps it from answering requests fails. An l4 backend only has to accept a
connection; its protocol is reported, not judged.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from socket import AF_UNIX, socket

from gevent import Timeout, spawn_raw

from mcproxy.certificates.contexts import Contexts
from mcproxy.certificates.pem import Unusable
from mcproxy.look import speak
from mcproxy.messages import MAX_LOOK, Look, PlaneBusy, Step
from mcproxy.model import Mode, Reason, Refused, Route, host_port
from mcproxy.net.dial import Outgoing
from mcproxy.net.door import Door
from mcproxy.net.lookups import Address
from mcproxy.net.raw import RawSocket
from mcproxy.net.reach import try_out

MAX_LOOKS = 4  # at once: each holds a thread of the admin API and, for a moment, two descriptors
HUB_GRACE = 1.0  # seconds that the hub may be late with what it was asked for


class Looker:
    """Looks at backends. `look` may be called from any native thread."""

    def __init__(self, door: Door, contexts: Contexts, outgoing: Outgoing, patience: Callable[[], float]) -> None:
        """`patience` gives the seconds that a session has for its dial."""
        self._door = door
        self._contexts = contexts
        self._outgoing = outgoing
        self._patience = patience
        self._slots = threading.BoundedSemaphore(MAX_LOOKS)

    def __repr__(self) -> str:
        return f"<Looker patience={self._patience():g}>"

    def look(self, route: Route, seconds: float = MAX_LOOK) -> Look:
        """Look at a route's backend, for `seconds` or what a session has, if that is less. Raises PlaneBusy."""
        if not self._slots.acquire(blocking=False):
            raise PlaneBusy(f"{MAX_LOOKS} backends are being looked at, which is the limit; try again")
        try:
            return self._look(route, min(seconds, self._patience(), MAX_LOOK))
        finally:
            self._slots.release()

    def _look(self, route: Route, limit: float) -> Look:
        deadline = time.monotonic() + limit
        try:
            with self._connected(route, deadline, limit) as (sock, step):
                found = speak.any_tls(sock, route.hostname, deadline) if route.mode is Mode.L4 else None
                return Look([step, found] if found else [step, *self._http(sock, route, deadline, limit)])
        except _Unreached as unreached:
            return Look([unreached.step], unreached.reason if route.mode is Mode.L4 else Reason.OK)

    def _http(self, sock: socket, route: Route, deadline: float, limit: float) -> Iterator[Step]:
        """Check the needs of an l7 route: a valid certificate if it uses TLS, and the HTTP that it wants."""
        if not route.backend_tls:
            yield speak.http(sock, route.backend_protocol, deadline)
            return
        try:
            context = self._contexts.towards(route)
        except Unusable as error:
            yield Step(speak.TLS, False, f"{speak.ANSWERED_502}: {error}")
            return
        try:
            tls = speak.shake_hands(sock, context, speak.name_of(route), deadline)
        except OSError as error:
            yield Step(speak.TLS, False, speak.refusal(error, route) + self._shown(route, deadline, limit))
            return
        with closing(tls):
            yield (step := speak.agreed(tls, route))
            if step.passed:
                yield speak.http_over(tls, deadline)

    def _shown(self, route: Route, deadline: float, limit: float) -> str:
        """The certificate that was not accepted, from a second connection: OpenSSL doesn't reveal it."""
        try:
            with self._connected(route, deadline, limit) as (sock, _):
                return speak.shown(sock, speak.name_of(route), deadline)
        except _Unreached:
            return ""

    @contextmanager
    def _connected(self, route: Route, deadline: float, limit: float) -> Iterator[tuple[socket, Step]]:
        """A connection to the backend, and the step that says how it was made. Raises _Unreached and PlaneBusy."""
        attempt = _Attempt(route, self._outgoing, max(0.0, deadline - time.monotonic()), limit)
        try:
            self._door.call(spawn_raw, attempt.run)
            raw = attempt.result.result(attempt.seconds + HUB_GRACE)
        except TimeoutError as error:
            attempt.result.cancel()
            raise PlaneBusy("the data path is too busy to dial; try again") from error
        except Refused as refused:
            raise _Unreached(attempt.failed(refused), refused.reason) from refused
        with socket(fileno=raw.detach()) as sock:
            yield sock, attempt.succeeded()


class _Unreached(Exception):
    """There is no connection."""

    def __init__(self, step: Step, reason: Reason) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = reason


class _Attempt:
    """One dial, in a greenlet of the hub."""

    def __init__(self, route: Route, outgoing: Outgoing, seconds: float, limit: float) -> None:
        """It has `seconds`; `limit` is the time of the whole look, for messages."""
        self._route = route
        self._outgoing = outgoing
        self._limit = limit
        self.seconds = seconds
        self.result: Future[RawSocket] = Future()
        self._took = 0.0
        self._failures: list[str] = []  # by address
        self._reached = ""

    def __repr__(self) -> str:
        return f"<_Attempt {self._route.backend} {self.result}>"

    def run(self) -> None:
        """The greenlet's job; never raises."""
        began = time.monotonic()
        try:
            late = Refused(Reason.BACKEND_TIMEOUT, f"{self._route.backend}: no connection in {self._limit:g} s")
            with Timeout(self.seconds, late):
                sock = try_out(self._route, self._outgoing, self._tried)
        except Exception as error:  # noqa: BLE001 - passed on to the caller
            if self.result.set_running_or_notify_cancel():
                self.result.set_exception(error)
            return
        self._took = time.monotonic() - began
        if self.result.set_running_or_notify_cancel():
            self.result.set_result(sock)
        else:
            sock.close()  # the caller has given up

    def _tried(self, address: Address, error: OSError | None) -> None:
        family, where = address
        text = f"unix:{where}" if family == AF_UNIX else host_port(where[0], where[1])
        if error is None:
            self._reached = text
        else:
            self._failures.append(f"{text}: {error.strerror}")

    def succeeded(self) -> Step:
        """The step that says how the connection was made."""
        named = ", its name's resolution included" if self._route.backend.host not in self._reached else ""
        header = ", after a PROXY header (LOCAL)" if self._route.send_proxy_protocol else ""
        how = f"connected to {self._reached} in {speak.milliseconds(self._took)}{named}{header}"
        return Step("connect", True, "; ".join([*self._failures, how]))

    def failed(self, refused: Refused) -> Step:
        """The step that says why there is no connection."""
        last = [] if self._failures and refused.reason is not Reason.BACKEND_TIMEOUT else [refused.detail]
        why = "; ".join([*self._failures, *last])
        if self._route.mode is Mode.L4:
            return Step("connect", False, why)
        status = 504 if refused.reason is Reason.BACKEND_TIMEOUT else 502
        return Step("connect", False, f"requests will be answered {status}: {why}")
