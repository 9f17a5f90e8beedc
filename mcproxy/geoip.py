"""GeoIP: the country of an address, from a MaxMind DB (https://maxmind.github.io/MaxMind-DB/).

The file is read once, into memory, and never looked at again: a tool that rewrites it in place can't disturb a lookup.
maxminddb's C reader is ten times as fast as its Python one but opens paths only, which it maps. So the copy goes into
an anonymous file of the kernel (memfd_create(2)), sealed against every change, and the C reader opens that by its path
below /proc; the mapping lasts, the descriptor is closed at once. If any of this is missing, the Python reader takes the
copy as it is. Where there are several workers, their parent makes such a file, a `Copy`, and they share its memory.

Opening checks the format, that records decode (real lookups, spread over all addresses), and that they have countries.
The Python reader does this, whichever reader serves later: a damaged file can't lead it out of bounds, while the C
reader (maxminddb 3.2) takes a map key for text without checking its type. A file that fails raises `GeoIPError`, and a
reload keeps the old database. Damage that shows only later, at one address, makes its country unknown, and is counted
in `failed`: an address that the database doesn't list passes country rules too, and refusing all clients from the
damaged part would turn a bad file into an outage.

maxminddb is imported with the first database: most servers have none, and it would be a megabyte of their memory.
"""

import fcntl
import io
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mcproxy import disk
from mcproxy.policy.networks import unpack
from mcproxy.words import quoted

if TYPE_CHECKING:
    from maxminddb import Reader

# 1 GiB: ample for a database of cities or more, and an end to reading when the path is that of something else. The
# whole file is held in memory, twice while it is opened.
MAX_BYTES = 1 << 30
READ_SECONDS = 30.0  # for all of it, from a slow disk
# A record is decoded whole, names in eight languages included, which costs microseconds; clients come again. 4096
# answers take about 0.8 MB.
MAX_CACHED = 4096
# Addresses looked up in each family when a database is opened, as often by walking from network to network as by leaps
# over the whole range. At 75 us for a record with all its names (measured) that is below 80 ms altogether.
PROBES = 256

_METADATA_MARKER = b"\xab\xcd\xefMaxMind.com"  # MaxMind DB File Format Specification 2.0, 'Database Metadata'
_GZIP_MARKER = b"\x1f\x8b"  # RFC 1952 section 2.3.1
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# The errors of the two readers on a damaged database: their own from checks, which is a RuntimeError, as too deep a
# recursion is; the others where checks have gaps.
_DAMAGE = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError, MemoryError, AttributeError)


class GeoIPError(ValueError):
    """The file is not a usable country database. The message says what is wrong and what to do."""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copy:
    """A checked database in a sealed file of the kernel, which other processes of ours can share."""

    path: Path  # that it was read from
    descriptor: int  # -1: a sandbox or the kernel refuses such files, so each process reads the path

    @classmethod
    def make(cls, path: str | Path) -> "Copy":
        """Read and check a database. Waits for the disk. Raises GeoIPError."""
        descriptor = _sealed(_checked(path))
        return cls(Path(path), descriptor if descriptor is not None else -1)

    @property
    def descriptors(self) -> list[int]:
        """The descriptor, if there is one."""
        return [self.descriptor] if self.descriptor >= 0 else []

    def close(self) -> None:
        """Close the descriptor; those who have opened it keep it."""
        for each in self.descriptors:
            os.close(each)


class GeoIP:
    """One open database; it never changes, and closes itself with the last reference to it."""

    __slots__ = ("_cached", "_ipv4_only", "_reader", "built_at", "failed", "kind", "path")

    def __init__(self, path: Path, reader: "Reader", most_cached: int = MAX_CACHED) -> None:
        metadata = reader.metadata()
        self.path = path
        self.built_at = int(metadata.build_epoch)  # seconds since the epoch
        self.kind = str(metadata.database_type)  # such as "GeoLite2-Country"
        self.failed = 0  # lookups that found damage
        self._reader = reader
        self._ipv4_only = metadata.ip_version == 4
        self._cached: Callable[[bytes], str | None] = lru_cache(most_cached)(partial(_lookup, reader))

    @classmethod
    def open(cls, path: str | Path, in_c: bool = True) -> "GeoIP":
        """Read and check a database, `in_c`: for the C reader, if there is one. Waits for the disk.

        Raises GeoIPError.
        """
        data = _checked(path)
        try:
            return cls(Path(path), _reader_of(data, in_c))
        except _DAMAGE as error:
            raise GeoIPError(f"{path} is damaged; download it again ({error})") from error

    @classmethod
    def of(cls, copy: Copy, in_c: bool = True) -> "GeoIP":
        """A copy, which was checked when it was made and may be closed afterwards. Doesn't touch the disk.

        Raises GeoIPError, for one without a descriptor.
        """
        if copy.descriptor < 0:
            return cls.open(copy.path, in_c)
        place = f"/proc/self/fd/{copy.descriptor}"
        if in_c and _has_c_reader():
            return cls(copy.path, _c_reader_of(place))
        return cls(copy.path, _python_reader_of(Path(place).read_bytes()))

    def country(self, packed: bytes) -> str | None:
        """The ISO 3166-1 alpha-2 code of a packed address, or None if it isn't known. Never raises."""
        if self._ipv4_only and len(packed) != 4:
            return None
        try:
            return self._cached(packed)
        except _DAMAGE as error:
            self.failed += 1
            if self.failed == 1:
                log.warning("%s is damaged: some addresses have no country; download it again (%s)", self.path, error)
            return None

    def close(self) -> None:
        """Free the memory now. From here on no country is known."""
        self._cached = _unknown
        self._reader.close()

    def __repr__(self) -> str:
        state = "closed" if self._cached is _unknown else f"failed={self.failed}"
        return f"<GeoIP {self.path} {self.kind} built_at={self.built_at} {state}>"


def _unknown(_packed: bytes) -> str | None:
    return None


def _lookup(reader: "Reader", packed: bytes) -> str | None:
    return _code(reader.get(unpack(packed)))


def _code(record: object) -> str | None:
    """The country where the address is used or, failing that (satellites, anycast), where its owner is registered."""
    if isinstance(record, dict):
        for key in ("country", "registered_country"):
            place = record.get(key)
            code = place.get("iso_code") if isinstance(place, dict) else None
            if isinstance(code, str):
                return code
    return None


def _read(path: Path) -> bytes:
    """The whole file. Raises GeoIPError."""
    try:
        return disk.read(str(path), MAX_BYTES, READ_SECONDS)
    except FileNotFoundError:
        raise GeoIPError(f"{path} does not exist; download a country database or correct the path") from None
    except PermissionError:
        raise GeoIPError(f"{path} can't be read; give the user that runs mcproxy permission to read it") from None
    except disk.NotAFile:
        raise GeoIPError(f"{path} is not a regular file; name the .mmdb file itself") from None
    except disk.TooLarge:
        raise GeoIPError(f"{path} is larger than any country database; correct the path") from None
    except disk.Changing:
        raise GeoIPError(f"{path} is being written; try again when that has ended, or replace it by renaming") from None
    except disk.Hangs as error:
        raise GeoIPError(f"{path} can't be read: {error.strerror}; keep it on a local disk") from None
    except OSError as error:
        raise GeoIPError(f"{path} can't be read ({error.strerror})") from error


def _checked(path: str | Path) -> bytes:
    """The contents of a usable database. Raises GeoIPError."""
    data = _read(Path(path))
    if _METADATA_MARKER not in data:
        raise GeoIPError(f"{path} {_what_else(data)}")
    try:
        kind, countries = _proven(data)
    except _DAMAGE as error:
        raise GeoIPError(f"{path} is damaged; download it again ({error})") from error
    if not countries:
        raise GeoIPError(
            f"{path} has no country data (its type is {quoted(kind)}); use a database of countries or cities"
        )
    return data


def _what_else(data: bytes) -> str:
    if not data:
        return "is empty; download it again"
    if data.startswith(_GZIP_MARKER):
        return "is compressed; unpack it and name the .mmdb file within"
    return "is not a MaxMind DB, or the end of it is missing; download it again"


def _reader_of(data: bytes, in_c: bool) -> "Reader":
    """The fastest available reader, on a copy that nobody else can reach. Raises one of `_DAMAGE`."""
    descriptor = _sealed(data) if in_c and _has_c_reader() else None
    if descriptor is None:
        return _python_reader_of(data)
    try:
        return _c_reader_of(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _has_c_reader() -> bool:
    return find_spec("maxminddb.extension") is not None  # it may be built without


def _c_reader_of(place: str) -> "Reader":
    from maxminddb import MODE_MMAP_EXT, open_database  # noqa: PLC0415 - see the head

    return open_database(place, MODE_MMAP_EXT)


def _python_reader_of(data: bytes) -> "Reader":
    from maxminddb import MODE_FD, open_database  # noqa: PLC0415 - see the head

    return open_database(io.BytesIO(data), MODE_FD)


def _sealed(data: bytes) -> int | None:
    """The descriptor of a sealed anonymous file with this content; None if a sandbox or the kernel refuses."""
    try:
        descriptor = os.memfd_create("geoip", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        Path(f"/proc/self/fd/{descriptor}").stat()  # fails where /proc is not mounted
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _proven(data: bytes) -> tuple[str, int]:
    """The type of the database and how many of the probes have a country. Raises one of `_DAMAGE`."""
    from maxminddb import InvalidDatabaseError  # noqa: PLC0415 - see the head
    from maxminddb.decoder import Decoder  # noqa: PLC0415

    start = data.rindex(_METADATA_MARKER) + len(_METADATA_MARKER)
    _, end = Decoder(data, start).decode(start)
    if end > len(data):  # it slices, and so takes what is left of a value for the value
        raise InvalidDatabaseError("its end is missing")
    reader = _python_reader_of(data)
    countries = 0
    for record in _probe(reader, ipv4_only=reader.metadata().ip_version == 4):
        if not _has_text_keys(record):
            raise InvalidDatabaseError("a key is not a string")
        countries += _code(record) is not None
    return str(reader.metadata().database_type), countries


def _probe(reader: "Reader", *, ipv4_only: bool) -> Iterator[object]:
    """The records of addresses near and far; a bounded number of lookups, however the tree is damaged."""
    ranges = [(4, 0, 1 << 32)]
    if not ipv4_only:
        ranges.append((16, 0x2 << 124, 0x4 << 124))  # 2000::/3, all of the global unicast space in use (RFC 4291)
    for size, first, end in ranges:
        for number in range(first, end, (end - first) // PROBES):
            yield reader.get(unpack(number.to_bytes(size, "big")))
        at = first
        for _ in range(PROBES):
            record, prefix = reader.get_with_prefix_len(unpack(at.to_bytes(size, "big")))
            yield record
            at = (at | ((1 << max(0, size * 8 - prefix)) - 1)) + 1  # behind the network that answered
            if at >= end:
                break


def _has_text_keys(record: object) -> bool:
    if isinstance(record, list):
        return all(map(_has_text_keys, record))
    if isinstance(record, dict):
        return all(isinstance(key, str) and _has_text_keys(value) for key, value in record.items())
    return True
