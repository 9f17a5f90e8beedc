"""Finds backends that are our own listeners: connections would loop until descriptors run out.

Only the addresses themselves are judged. A name other than "localhost" may resolve to anything, and the addresses of
this machine, which a listener on all addresses takes, are not known.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from mcproxy.model import Backend
from mcproxy.notation.address import split_host_port

LOOP: Final = "{} is mcproxy's own listener {}, which would be a loop: name the server behind it"
LOCALHOST: Final = "localhost"  # RFC 6761, section 6.3: always a loopback address, IPv4 or IPv6

_Ip = IPv4Address | IPv6Address


class OwnListeners:
    """The addresses that we listen on, as configured, indexed for many look-ups."""

    def __init__(self, addrs: Iterable[str]) -> None:
        self._by_port: dict[int, list[tuple[str, str]]] = {}  # each with its host
        for addr in addrs:
            host, port = split_host_port(addr)
            self._by_port.setdefault(port, []).append((addr, host))

    def __repr__(self) -> str:
        return f"<OwnListeners ports={sorted(self._by_port)}>"

    def reached_by(self, backend: Backend) -> str:
        """The listener that a connection to `backend` would reach; "" where it reaches none."""
        if backend.path:
            return ""
        of_port = self._by_port.get(backend.port, ())
        return next((addr for addr, host in of_port if _reaches(backend.host, host)), "")


def _reaches(host: str, listens: str) -> bool:
    """True if a connection to `host` reaches a listener on this address ("": all addresses) and the same port."""
    taken = _ip(listens) if listens else None
    if host.removesuffix(".") == LOCALHOST:
        return taken is None or taken.is_unspecified or taken in (IPv4Address("127.0.0.1"), IPv6Address("::1"))
    wanted = _ip(host)
    if wanted is None:  # a name
        return False
    wanted = _connected(wanted)
    if taken is None:
        return wanted.is_loopback
    if taken.is_unspecified:
        return wanted.is_loopback and wanted.version == taken.version
    return wanted == taken


def _connected(wanted: _Ip) -> _Ip:
    """The address that Linux connects to: the loopback address for the unspecified one."""
    if not wanted.is_unspecified:
        return wanted
    return IPv4Address("127.0.0.1") if wanted.version == 4 else IPv6Address("::1")


def _ip(host: str) -> _Ip | None:
    """An address, IPv4-mapped ones as IPv4; None for a name."""
    try:
        found = ip_address(host)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
