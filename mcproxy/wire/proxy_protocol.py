"""The PROXY protocol, versions 1 and 2: the client's address, from the proxy in front of us and to backends.

Rules and section numbers are those of HAProxy's doc/proxy-protocol.txt ("the specification").

`parse` is given a connection's first bytes, as MSG_PEEK showed them, and answers with a Header, with the number of
bytes that it needs at least, or with Refused. It never asks for a byte behind the header: the ClientHello follows
directly and must stay in the kernel. `encode_v2` writes the header that backends get; it goes out before anything else.

The caller decides whether a header is expected, and from which peers. It must never be guessed from the bytes (section
2): a client that could choose to send one could choose its own address.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Final

from mcproxy.model import Endpoint, Reason, Refused
from mcproxy.words import quoted

# The specification would allow a v2 header of 64 KiB. Addresses take at most 216 bytes, and the TLVs that proxies send
# (names, TLS details, a checksum) a few hundred; nginx takes as many as this (NGX_PROXY_PROTOCOL_MAX_HEADER).
MAX_HEADER_BYTES: Final = 4096
MAX_V1_BYTES: Final = 107  # section 2.1: the longest line, CRLF included
MIN_V1_BYTES: Final = 15  # "PROXY UNKNOWN\r\n"

_TLS: Final = b"\x16\x03"  # a record of a handshake: the client comes past the proxy that would send a header
V1_PREFIX: Final = b"PROXY "
V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_FIXED: Final = 16  # signature, version and command, family and protocol, length

LOCAL: Final = 0x20  # version 2, command 0: a connection of the proxy's own, such as a health check
PROXY: Final = 0x21  # version 2, command 1: on behalf of a client
TCP4: Final = 0x11
TCP6: Final = 0x21
# Section 2.2: the valid pairs of family and protocol, and the bytes that their addresses take.
ADDRESS_BYTES: Final = {
    0x00: 0,  # unspecified
    TCP4: 2 * 4 + 2 * 2,
    0x12: 2 * 4 + 2 * 2,  # UDP over IPv4
    TCP6: 2 * 16 + 2 * 2,
    0x22: 2 * 16 + 2 * 2,  # UDP over IPv6
    0x31: 2 * 108,  # UNIX stream
    0x32: 2 * 108,  # UNIX datagram
}
TLV_ALPN: Final = 0x01
TLV_AUTHORITY: Final = 0x02
TLV_CRC32C: Final = 0x03

_fixed: Final = Struct(">12sBBH")
_addresses4: Final = Struct(">4s4sHH")
_addresses6: Final = Struct(">16s16sHH")
_tlv: Final = Struct(">BH")

_HOST: Final = rb"([0-9A-Fa-f:.]+)"  # what may stand in either family; the address readers know the rest
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_v1_line: Final = re.compile(
    rb"PROXY (?:(TCP4|TCP6) %b %b %b %b|UNKNOWN(?: [^\r\n]*)?)\r\n" % (_HOST, _HOST, _PORT, _PORT)
).fullmatch


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed PROXY header. Addresses are None if the connection's own count."""

    size: int  # bytes on the wire
    source: Endpoint | None  # an IPv4-mapped IPv6 address is given as the IPv4 address that it is
    destination: Endpoint | None


def parse(data: bytes) -> Header | int:
    """Read the header at the start of `data`, which holds a connection's bytes from the first on.

    The int is a number of bytes, greater than len(data) and never beyond the header's end, below which the header
    can't be complete. Raises Refused with PROXY_MALFORMED.
    """
    if V2_SIGNATURE.startswith(data[: len(V2_SIGNATURE)]):
        if len(data) < V2_FIXED:
            return V2_FIXED if data else MIN_V1_BYTES  # the shorter of the two, as long as it may be either
        return _parse_v2(data)
    if V1_PREFIX.startswith(data[: len(V1_PREFIX)]):
        return _parse_v1(data)
    raise _malformed("no PROXY header" + (", but TLS at once" if data.startswith(_TLS) else ""))


# --- version 1 --------------------------------------------------------------------------------------------------------


def _parse_v1(data: bytes) -> Header | int:
    """Section 2.1: one line of text that ends in CRLF."""
    size = data.find(b"\n", 0, MAX_V1_BYTES) + 1
    if not size:
        if len(data) >= MAX_V1_BYTES:
            raise _malformed(f"no end of line in {MAX_V1_BYTES} bytes")
        return max(MIN_V1_BYTES, len(data) + (1 if data.endswith(b"\r") else 2))
    line = _v1_line(data, 0, size)
    if not line:
        raise _malformed(f"not a version 1 line: {quoted(data[:size].decode('ascii', 'backslashreplace'))}")
    family, source, destination, source_port, destination_port = line.groups()
    if not family:  # UNKNOWN: whatever else the line says is to be ignored
        return Header(size, None, None)
    return Header(size, _v1_address(family, source, source_port), _v1_address(family, destination, destination_port))


def _v1_address(family: bytes, host: bytes, port: bytes) -> Endpoint:
    """Section 2.1: an address in the format of its family, and a port of at most 65535; neither with leading zeroes."""
    if int(port) > 0xFFFF:
        raise _malformed(f"port {int(port)}")
    try:
        ip = IPv4Address(host.decode()) if family == b"TCP4" else IPv6Address(host.decode())
    except AddressValueError as error:
        raise _malformed(f"{family.decode()} with {error}") from None
    return _host(ip), int(port)


# --- version 2 --------------------------------------------------------------------------------------------------------


def _parse_v2(data: bytes) -> Header | int:
    """Section 2.2: a binary header, of which the fixed part is there."""
    _signature, command, family, length = _fixed.unpack_from(data)
    if command not in (LOCAL, PROXY):
        raise _malformed(f"version and command {command:#04x}")
    size: int = V2_FIXED + length
    if size > MAX_HEADER_BYTES:
        raise _malformed(f"a header of {size} bytes, more than {MAX_HEADER_BYTES}")
    if command == PROXY:
        if family not in ADDRESS_BYTES:
            raise _malformed(f"family and protocol {family:#04x}")
        if length < ADDRESS_BYTES[family]:
            raise _malformed(f"{length} bytes where family and protocol {family:#04x} take {ADDRESS_BYTES[family]}")
    if size > len(data):
        return size
    if command == LOCAL:  # the rest is to be discarded, family included
        return Header(size, None, None)
    _check_tlvs(data[:size], V2_FIXED + ADDRESS_BYTES[family])
    if family == TCP4:
        return Header(size, *_v2_addresses(data, _addresses4, IPv4Address))
    if family == TCP6:
        return Header(size, *_v2_addresses(data, _addresses6, IPv6Address))
    return Header(size, None, None)  # valid but of no use here: the specification's UNSPEC mode


def _v2_addresses(
    data: bytes, layout: Struct, read: type[IPv4Address] | type[IPv6Address]
) -> tuple[Endpoint, Endpoint]:
    source, destination, source_port, destination_port = layout.unpack_from(data, V2_FIXED)
    return (_host(read(source)), source_port), (_host(read(destination)), destination_port)


def _check_tlvs(header: bytes, at: int) -> None:
    """Section 2.2: what follows the addresses is TLVs to the end. All are skipped but the checksum (2.2.3)."""
    summed = False
    while at + _tlv.size <= len(header):
        kind, length = _tlv.unpack_from(header, at)
        start = at + _tlv.size
        at = start + length
        if kind == TLV_CRC32C and at <= len(header):
            if summed or length != 4:
                raise _malformed("two checksums" if summed else f"a checksum of {length} bytes")
            # The sum was made with zeroes in its own place. The rule binds receivers that support it, as this one does.
            if crc32c(header[:start] + bytes(4) + header[at:]).to_bytes(4, "big") != header[start:at]:
                raise _malformed("a wrong checksum")
            summed = True
    if at != len(header):
        raise _malformed("the TLVs don't fill the header")


def encode_v2(source: Endpoint, destination: Endpoint, *, authority: str = "", alpn: bytes = b"") -> bytes:
    """A version 2 header for a TCP connection that the client at `source` made to `destination`.

    Hosts are IP addresses; where only one is IPv6, the other is written as IPv4-mapped. `authority` (a normalised name)
    and `alpn` become TLVs unless empty. Raises ValueError if a host is no IP address or the whole would exceed
    MAX_HEADER_BYTES; one protocol name (at most 255 bytes) always fits.
    """
    client, local = _ip(source[0]), _ip(destination[0])
    if isinstance(client, IPv4Address) and isinstance(local, IPv4Address):
        family = TCP4
        addresses = _addresses4.pack(client.packed, local.packed, source[1], destination[1])
    else:
        family = TCP6
        addresses = _addresses6.pack(_packed6(client), _packed6(local), source[1], destination[1])
    tlvs = [(kind, value) for kind, value in ((TLV_ALPN, alpn), (TLV_AUTHORITY, authority.encode())) if value]
    length = len(addresses) + sum(_tlv.size + len(value) for _kind, value in tlvs)
    if V2_FIXED + length > MAX_HEADER_BYTES:
        raise ValueError(f"a PROXY header of {V2_FIXED + length} bytes, more than {MAX_HEADER_BYTES}")
    fixed = _fixed.pack(V2_SIGNATURE, PROXY, family, length)
    return b"".join([fixed, addresses, *(_tlv.pack(kind, len(value)) + value for kind, value in tlvs)])


# A version 2 header for a connection that nobody is behind: "LOCAL", without addresses.
LOCAL_V2: Final = _fixed.pack(V2_SIGNATURE, LOCAL, 0, 0)


# --- addresses and checksum -------------------------------------------------------------------------------------------


def _ip(host: str) -> IPv4Address | IPv6Address:
    """The address that `host` writes; an IPv4-mapped one as IPv4."""
    ip = ip_address(host)
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def _host(ip: IPv4Address | IPv6Address) -> str:
    """`ip` in canonical form; an IPv4-mapped one as IPv4, so that rules for its IPv4 form match it."""
    return str(ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else str(ip)


def _packed6(ip: IPv4Address | IPv6Address) -> bytes:
    return ip.packed if isinstance(ip, IPv6Address) else bytes(10) + b"\xff\xff" + ip.packed  # RFC 4291, 2.5.5.2


def _crc32c_table() -> tuple[int, ...]:
    """The remainder of each byte by the Castagnoli polynomial, bits reflected (RFC 9260, appendix A)."""
    table = list(range(256))
    for _bit in range(8):
        table = [rest >> 1 ^ (0x82F63B78 if rest & 1 else 0) for rest in table]
    return tuple(table)


_CRC32C: Final = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The CRC32C checksum of `data`. In pure Python, about 0.1 us a byte; a PROXY header is bounded and short."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest = rest >> 8 ^ _CRC32C[(rest ^ byte) & 0xFF]
    return rest ^ 0xFFFFFFFF


def _malformed(detail: str) -> Refused:
    return Refused(Reason.PROXY_MALFORMED, detail)
