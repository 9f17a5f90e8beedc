"""Admission: who the client is, and whether it may connect, before its ClientHello is read.

`let_in` decides as much as possible as soon as the connection is accepted. A refusal costs its sender next to nothing;
so where no PROXY header has to be read first, the firewall and the limits are asked before there is a watcher or a
greenlet. Where one has to, `read_proxy_header` waits for it, in the session's greenlet, and then asks them.

With several workers, a client may turn out to belong to another one: then HandedOver is raised once its connection is
on its way there, and `take_over` decides about it at its new worker.

`leave` gives back the places that the connection has taken among all connections.
"""

import time
from enum import Enum
from typing import Final

from mcproxy.model import Reason, Refused
from mcproxy.net.facts import Facts
from mcproxy.net.own import LEADS_BACK
from mcproxy.net.peek import peek
from mcproxy.net.raw import IoWatcher, RawSocket
from mcproxy.net.shared import Shared
from mcproxy.net.siblings import Handed, HandedOver
from mcproxy.policy import firewall
from mcproxy.policy.networks import pack, unpack
from mcproxy.table import ListenerTable
from mcproxy.wire import proxy_protocol


class Place(Enum):
    """Which places a connection holds."""

    NONE = "none"
    LISTENER = "listener"  # in the whole and in its listener
    CLIENT = "client"  # and among the connections of its client


# Named once: CONTRIBUTING says why.
_NONE: Final = Place.NONE
_LISTENER: Final = Place.LISTENER
_CLIENT: Final = Place.CLIENT


class Admission:
    """The admission of one connection, and the places that it holds."""

    __slots__ = ("_client", "_facts", "_place", "_shared", "listener")

    def __init__(self, shared: Shared, facts: Facts, client: RawSocket) -> None:
        """`facts` are given the client's address as soon as it is known; `client` is its socket."""
        self._shared = shared
        self._facts = facts
        self._client = client
        self._place = _NONE
        self.listener: ListenerTable  # as of the table that was read last; there once it was let in

    def __repr__(self) -> str:
        return f"<Admission {self._facts} {self._place.value}>"

    @property
    def is_complete(self) -> bool:
        """True if the connection has a place among its client's, so that only its ClientHello can refuse it."""
        return self._place is _CLIENT

    def let_in(self) -> None:
        """Decide as far as no byte of the client is needed. Raises Refused, and HandedOver."""
        listener = self._enter()
        self._recognise_peer()
        if self._shared.outgoing.own.has(self._client, self._facts.client):
            raise Refused(Reason.OWN_CONNECTION, LEADS_BACK)
        if not listener.listener.proxy_protocol:
            self._admit()

    def read_proxy_header(self, readable: IoWatcher) -> None:
        """Wait for the header, which names the client, and decide about that client. Raises Refused, and HandedOver."""
        facts = self._facts
        if self.listener.trusted.find(facts.packed) is None:
            raise Refused(Reason.PROXY_UNTRUSTED, f"{unpack(facts.packed)} is not in trusted_proxies")
        header = peek(self._client, readable, proxy_protocol.parse, Reason.PROXY_MALFORMED)
        self._client.recv(header.size)  # all of it is there: it was peeked at
        if header.source is not None:
            facts.client, facts.destination = header.source, header.destination
            facts.packed = pack(header.source[0])
        self._admit()

    def take_over(self, handed: Handed) -> None:
        """Decide about a connection whose client another worker has found out. Raises Refused."""
        facts = self._facts
        facts.client, facts.destination = handed.client, handed.destination
        facts.packed, facts.began = handed.packed, handed.began
        self._enter()
        self._admit(may_go=False)

    def leave(self) -> None:
        """Give back the places that it holds."""
        limits = self._shared.limits
        if self._place is _CLIENT:
            limits.release(self._facts.packed)
        if self._place is not _NONE:
            limits.leave(self._facts.listener)
        self._place = _NONE

    def _enter(self) -> ListenerTable:
        """Take a place among all connections and those of the listener."""
        shared, addr = self._shared, self._facts.listener
        # The lowest free number shows how many are taken; and each session will have a backend's, too.
        if max(self._client.fileno(), 2 * len(shared.sessions)) > shared.max_descriptor:
            raise Refused(Reason.DESCRIPTORS, "too few file descriptors left; raise the limit (ulimit -n)")
        listener = shared.live.table.listeners.get(addr)
        if listener is None:
            raise Refused(Reason.ROUTE_UNKNOWN, "the listener was removed")
        if reason := shared.limits.enter(addr, listener.listener.max_connections):
            raise Refused(reason)
        self._place = _LISTENER
        self.listener = listener
        return listener

    def _recognise_peer(self) -> None:
        """Note who connected, which is the client unless a PROXY header names another."""
        facts = self._facts
        host, port = facts.client
        facts.packed = packed = pack(host)
        if len(packed) == 4 and ":" in host:  # IPv4 that came to an IPv6 socket
            facts.client = (unpack(packed), port)

    def _admit(self, *, may_go: bool = True) -> None:
        """Ask the firewall, then take a place among this client's connections.

        The table is read again: a PROXY header may take long, and a rule's `--kill` meanwhile has missed this session.
        """
        shared, facts = self._shared, self._facts
        table = shared.live.table
        if rule := table.firewall.match(facts.packed, shared.country):
            raise Refused(firewall.REASONS[rule.kind], rule.value)
        if may_go and shared.siblings is not None and not shared.draining:
            self._hand_over()
        if reason := shared.limits.admit(facts.packed, time.monotonic()):
            raise Refused(reason)
        self._place = _CLIENT
        self.listener = table.listeners.get(facts.listener, self.listener)  # a connection outlives its listener

    def _hand_over(self) -> None:
        """Send the connection to the worker that is to have it, if that is another one, and raise HandedOver.

        Its places are given back first: its new worker must not count it twice, and refuse it at a limit.
        """
        shared, facts = self._shared, self._facts
        assert shared.siblings is not None
        clients = shared.limits.clients
        worker = shared.siblings.better(facts.packed, clients)
        if worker is None:
            return
        self.leave()
        handed = Handed(facts.listener, facts.client, facts.destination, facts.packed, facts.began)
        if shared.siblings.send(worker, self._client, handed):
            raise HandedOver
        if clients.are_limited:
            raise Refused(Reason.LIMIT_TABLE_FULL, f"worker {worker + 1}, which counts this client, is too busy")
        self._enter()
