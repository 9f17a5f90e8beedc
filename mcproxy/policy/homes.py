"""Which of several workers an address belongs to: its home.

The limits of an address are exact because all its connections come to one worker. The kernel picks it for a group of
SO_REUSEPORT sockets, by the classic BPF program that `program` makes; `home` is the same arithmetic for a worker that
learns an address from a PROXY header. An IPv4 address counts whole, an IPv6 address by its /64, as in `limits.py`.

Multiplication by an odd constant whose bits are well mixed (2 to the 32 divided by the golden ratio) spreads addresses
that differ in their last bits only; the upper half of the product depends on all bits below it.
"""

import struct
from typing import Final

_SPREAD: Final = 0x9E3779B1
_SPREAD_UPPER: Final = 0x85EBCA6B  # of the upper half of an IPv6 network, so that the halves don't cancel out
_MASK: Final = 0xFFFFFFFF

# linux/bpf_common.h and linux/filter.h
_LOAD_WORD, _LOAD_BYTE = 0x20, 0x30
_MULTIPLY, _XOR_X, _SHIFT_RIGHT, _MODULO = 0x24, 0xAC, 0x74, 0x94
_JUMP_IF_EQUAL, _A_TO_X, _RETURN_A = 0x15, 0x07, 0x16
_NETWORK_HEADER: Final = 0xFFF00000  # SKF_NET_OFF
_VERSION, _IPV4_SOURCE, _IPV6_SOURCE = 0, 12, 8  # offsets in the header, RFC 791 section 3.1 and RFC 8200 section 3

_INSTRUCTION: Final = struct.Struct("HBBI")


def home(packed: bytes, workers: int) -> int:
    """The worker, from 0, of a packed address."""
    if len(packed) == 4:
        (mixed,) = struct.unpack("!I", packed)
    else:
        upper, lower = struct.unpack_from("!II", packed)
        mixed = (upper * _SPREAD_UPPER & _MASK) ^ lower
    return int((mixed * _SPREAD & _MASK) >> 16) % workers


def program(workers: int) -> bytes:
    """The instructions of a program that returns the home of a packet's sender (struct sock_filter, native order)."""
    ipv4 = [(_LOAD_WORD, 0, 0, _NETWORK_HEADER + _IPV4_SOURCE)]
    ipv6 = [
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + _IPV6_SOURCE),
        (_MULTIPLY, 0, 0, _SPREAD_UPPER),
        (_A_TO_X, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + _IPV6_SOURCE + 4),
        (_XOR_X, 0, 0, 0),
    ]
    end = [(_MULTIPLY, 0, 0, _SPREAD), (_SHIFT_RIGHT, 0, 0, 16), (_MODULO, 0, 0, workers), (_RETURN_A, 0, 0, 0)]
    is_ipv6 = [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER + _VERSION),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_IF_EQUAL, 0, len(ipv6) + len(end), 6),
    ]
    return b"".join(_INSTRUCTION.pack(*each) for each in [*is_ipv6, *ipv6, *end, *ipv4, *end])
