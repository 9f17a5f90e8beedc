"""Addresses and networks: text at the edges, packed bytes on the data path.

An address is 4 bytes (IPv4) or 16 (IPv6), in network order. Bytes of one length compare as the numbers that they
spell, so they can be sorted, bisected and used as keys as they are. An IPv4-mapped IPv6 address (RFC 4291 section
2.5.5.2) is the IPv4 address: a client looks the same whether the listener's socket is of the one family or of both.
The two families never meet: ::/0 is all of IPv6 and nothing of IPv4.

Two CIDR networks are disjoint, or one lies within the other. So the networks that lie within no other are disjoint
ranges, and one binary search over their first addresses answers whether an address is in any network at all. A set
keeps both: every network, sorted, and the outermost ones; only these are searched. Adding one replaces those that it
covers; removing an outermost one brings back those next below it, which follow it in the sorted order.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from mcproxy.native import mypyc_attr
from mcproxy.words import quoted

_V4_BYTES: Final = 4
_V6_BYTES: Final = 16
_MAPPED: Final = bytes(10) + b"\xff\xff"  # what an IPv4-mapped address begins with
_MAPPED_BITS: Final = 96
_HIGHEST: Final = b"\xff"  # above any prefix length: an address + this sorts after every network that begins there

# The host part of an address, by size in bytes and prefix length in bits.
_HOST_MASKS: Final = {
    size: tuple((1 << bits) - 1 for bits in range(size * 8, -1, -1)) for size in (_V4_BYTES, _V6_BYTES)
}


def pack(text: str) -> bytes:
    """The address in network order: 4 bytes, or 16; a scope ("%eth0") is left out. Raises ValueError."""
    packed = _parse(text)
    return packed[12:] if packed.startswith(_MAPPED) else packed


def unpack(packed: bytes) -> str:
    """The canonical text (RFC 5952) of a packed address. Raises ValueError if it isn't 4 or 16 bytes."""
    return inet_ntop(AF_INET if len(packed) == _V4_BYTES else AF_INET6, packed)


def canonical_ip(text: str) -> str:
    """The one way to write this address. Raises ValueError."""
    return unpack(pack(text))


def canonical_network(text: str) -> str:
    """The one way to write this network; a single address is a network too. Raises ValueError with the remedy."""
    return _text(_key(text))


def _parse(text: str) -> bytes:
    try:
        if ":" in text:
            return inet_pton(AF_INET6, text.partition("%")[0])
        return inet_pton(AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"{quoted(text)} is not an IP address; {_address_remedy(text)}") from None


def _address_remedy(text: str) -> str:
    """What to write instead of a text that is not a plain address."""
    if "/" in text:
        return "it is a network: write one address of it, or use a rule of the kind cidr"
    bare = text.strip()
    for candidate in (bare, bare.strip("[]"), bare.rpartition(":")[0].strip("[]")):  # blanks, brackets, a port
        try:
            return f"write {quoted(unpack(inet_pton(AF_INET6 if ':' in candidate else AF_INET, candidate)))}"
        except (OSError, ValueError):
            continue
    return 'write it as "192.0.2.1" or "2001:db8::1", in full and without a port'


# A network as a key: its first address, its prefix length as one byte, its last address. Sorted, outer ones come before
# the ones within them, and what is needed of a key is a slice of it.


def _key(text: str) -> bytes:
    address, slash, length = text.partition("/")
    try:
        first = _parse(address)
    except ValueError:
        raise ValueError(f'{quoted(text)} is not a network; write it as "192.0.2.0/24" or "2001:db8::/32"') from None
    prefix = _prefix(text, length, len(first) * 8) if slash else len(first) * 8
    if prefix >= _MAPPED_BITS and first.startswith(_MAPPED):
        first, prefix = first[12:], prefix - _MAPPED_BITS
    size = len(first)
    host = _HOST_MASKS[size][prefix]
    number = int.from_bytes(first, "big")
    if number & host:
        meant = unpack((number & ~host).to_bytes(size, "big"))
        raise ValueError(f"{quoted(text)} has host bits set; did you mean {quoted(f'{meant}/{prefix}')}?")
    return b"%b%c%b" % (first, prefix, (number | host).to_bytes(size, "big"))


def _prefix(text: str, length: str, bits: int) -> int:
    if length.isascii() and length.isdigit() and len(length) <= len(str(bits)) and int(length) <= bits:
        return int(length)
    if bits == _V4_BYTES * 8 and (prefix := _mask_length(length)) is not None:
        meant = f"{text.partition('/')[0]}/{prefix}"
        raise ValueError(f"{quoted(text)} has a mask; did you mean {quoted(meant)}?")
    raise ValueError(f"{quoted(text)} is not a network; its prefix length must be a number from 0 to {bits}")


def _mask_length(text: str) -> int | None:
    """The prefix length of a mask such as "255.255.255.0"; None if the text is not a mask."""
    try:
        mask = int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, ValueError):
        return None
    length = mask.bit_count()
    return length if mask == (1 << 32) - (1 << 32 - length) else None


def _size(key: bytes) -> int:
    return len(key) // 2


def _last(key: bytes) -> bytes:
    return key[_size(key) + 1 :]


def _text(key: bytes) -> str:
    size = _size(key)
    return f"{unpack(key[:size])}/{key[size]}"


def _outermost(keys: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Of sorted keys of one family those that lie within no other, and the last address of each."""
    size = _size(keys[0]) if keys else 0
    outer = []
    end = b""  # before any address
    for key in keys:
        if key[:size] > end:
            end = key[size + 1 :]
            outer.append(key)
    return tuple(outer), tuple([key[size + 1 :] for key in outer])


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True)
class _Family:
    """The networks of one family. Tuples of bytes: the garbage collector ignores them, however many."""

    keys: tuple[bytes, ...] = ()  # every network, sorted
    outer: tuple[bytes, ...] = ()  # those within no other, sorted
    lasts: tuple[bytes, ...] = ()  # the last address of each of `outer`

    @classmethod
    def of(cls, keys: Iterable[bytes]) -> "_Family":
        ordered = tuple(sorted(set(keys)))
        return cls(ordered, *_outermost(ordered))

    def adding(self, key: bytes) -> "_Family":
        at = bisect_left(self.keys, key)
        if self.keys[at : at + 1] == (key,):
            return self
        keys = (*self.keys[:at], key, *self.keys[at:])
        last = _last(key)
        low = bisect_left(self.outer, key)
        if low and last <= self.lasts[low - 1]:
            return replace(self, keys=keys)  # it lies within another
        high = bisect_right(self.lasts, last)  # outer[low:high] lie within it
        return _Family(
            keys,
            (*self.outer[:low], key, *self.outer[high:]),
            (*self.lasts[:low], last, *self.lasts[high:]),
        )

    def removing(self, key: bytes) -> "_Family":
        at = bisect_left(self.keys, key)
        if self.keys[at : at + 1] != (key,):
            raise KeyError(_text(key))
        keys = self.keys[:at] + self.keys[at + 1 :]
        low = bisect_left(self.outer, key)
        if self.outer[low : low + 1] != (key,):
            return replace(self, keys=keys)
        within = bisect_right(keys, self.lasts[low] + _HIGHEST)
        outer, lasts = _outermost(keys[at:within])
        return _Family(
            keys,
            self.outer[:low] + outer + self.outer[low + 1 :],
            self.lasts[:low] + lasts + self.lasts[low + 1 :],
        )


@mypyc_attr(native_class=False)  # for pickling
@dataclass(frozen=True, slots=True, repr=False)
class Networks:
    """A set of networks; finding an address costs the logarithm of its size."""

    v4: _Family = _Family()
    v6: _Family = _Family()

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Networks":
        """The set of these networks. Raises ValueError, with the remedy, at the first that isn't one."""
        keys = [_key(text) for text in texts]
        return cls(
            _Family.of(key for key in keys if _size(key) == _V4_BYTES),
            _Family.of(key for key in keys if _size(key) == _V6_BYTES),
        )

    def find(self, packed: bytes) -> str | None:
        """The canonical text of the outermost network that contains this address, or None."""
        family = self.v4 if len(packed) == _V4_BYTES else self.v6
        at = bisect_right(family.outer, packed + _HIGHEST) - 1
        if at < 0 or family.lasts[at] < packed:
            return None
        return _text(family.outer[at])

    def lengths(self) -> tuple[Sequence[int], Sequence[int]]:
        """The prefix lengths of those that lie within no other: of IPv4, and of IPv6."""
        return [key[_V4_BYTES] for key in self.v4.outer], [key[_V6_BYTES] for key in self.v6.outer]

    def adding(self, text: str) -> "Networks":
        """A set with this network as well; it shares what it can with this one. Raises ValueError."""
        key = _key(text)
        if _size(key) == _V4_BYTES:
            return Networks(self.v4.adding(key), self.v6)
        return Networks(self.v4, self.v6.adding(key))

    def removing(self, text: str) -> "Networks":
        """A set without this network; those within it count again. Raises KeyError, and ValueError if it is invalid."""
        key = _key(text)
        if _size(key) == _V4_BYTES:
            return Networks(self.v4.removing(key), self.v6)
        return Networks(self.v4, self.v6.removing(key))

    def __len__(self) -> int:
        return len(self.v4.keys) + len(self.v6.keys)

    def __iter__(self) -> Iterator[str]:
        """Every network in canonical text: IPv4 first, each family in order of address, outer before inner."""
        for family in (self.v4, self.v6):
            yield from map(_text, family.keys)

    def __repr__(self) -> str:
        return f"<Networks ipv4={len(self.v4.keys)} ipv6={len(self.v6.keys)}>"
