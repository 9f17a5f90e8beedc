"""The user or address that a connection to the admin API comes from, and the name by which gRPC learns it.

gRPC names a peer on a UNIX socket after the name that the peer's socket is bound to. The doorman connects to gRPC from
an abstract name (unix(7)) that names that origin: "mcproxy-TOKEN-UID-SERIAL" or "mcproxy-TOKEN-ipHEX-SERIAL".
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Self

NETWORK = 8  # bytes of an IPv6 address that one client is given: it has as many addresses in there as it likes

_NAME = re.compile(r"unix-abstract:mcproxy-[0-9a-f]+-(?:(\d+)|ip([0-9a-f]{8}|[0-9a-f]{32}))-(\d+)")


@dataclass(frozen=True, slots=True)
class Peer:
    """A user of this machine, or an IP address in canonical form ("": none)."""

    uid: int | None = None
    ip: str = ""

    @classmethod
    def at(cls, host: str) -> Self:
        """The peer at a host's address as the kernel gives it: with a scope, or as IPv6 for an IPv4 one."""
        found = ip_address(host.partition("%")[0])
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        return cls(ip=str(mapped or found))

    def __str__(self) -> str:
        return self.ip or f"user {self.uid}"

    @property
    def origin(self) -> object:
        """Equal for connections that are counted together: those of a user, an IPv4 address or an IPv6 /64."""
        packed = ip_address(self.ip).packed if self.ip else b""
        return self.uid if not packed else packed[:NETWORK]

    def name(self, token: str, serial: int) -> str:
        """The name of an abstract socket; `token` is hexadecimal, and can't be guessed."""
        who = f"ip{ip_address(self.ip).packed.hex()}" if self.ip else self.uid
        return f"mcproxy-{token}-{who}-{serial}"


NOBODY = Peer()


def peer_of(name: str) -> Peer:
    """The peer in gRPC's name of it; NOBODY if it has not come through a doorman."""
    match = _NAME.fullmatch(name)
    if not match:
        return NOBODY
    return Peer(uid=int(match[1])) if match[1] else Peer(ip=str(ip_address(bytes.fromhex(match[2]))))


def serial_of(name: str) -> int | None:
    """The doorman's number of a connection in gRPC's name of its peer; None if it has not come through a doorman."""
    match = _NAME.fullmatch(name)
    return int(match[3]) if match else None
