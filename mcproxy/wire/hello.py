"""ClientHello: from the first bytes of a TLS connection to the name that it asks for.

`Reader.parse` is given what MSG_PEEK showed so far, always from the start of the connection. It answers in one of three
ways:

    Hello           the message is whole and sound; it has exactly one name, which is a host name
    int             so far nothing is wrong, but that many bytes in all are needed before anything more can be said
    HelloRefused    this connection can't be routed, and no further byte will change that

There is no fourth: a broken, missing or doubtful name never yields a Hello with an empty or half-read name.

What arrives is three layers, and the file reads them from the outside in. `Reader` walks over the *records* (RFC 8446,
5.1), of which `_joined` makes the *handshake message* (4.1.2); `_hello` walks over the message's vectors to its
*extensions* (4.2), cut by `_extensions`; three readers know the contents of those that are of use here.

The bytes stay where they are: a position walks through `data`, and beside it goes the end of the vector that is being
read. A slice of Python's that reaches too far is silently shorter, which here would be a wrong name, so every position
is compared with the end of its parent before anything is read there. Only a message that was split over records is
copied together first.
"""

from dataclasses import dataclass
from struct import Struct, unpack_from
from typing import Final

from mcproxy.model import Reason, Refused
from mcproxy.notation.name import InvalidName, normalise

# On the wire, record headers included. RFC 8446 would allow 16 MiB. A browser's hello with a post-quantum key share is
# below 2 KiB (tests/kit/hellos.py), so this leaves thirty times that for tickets and larger shares to come. It bounds
# the bytes that an unknown client can make the kernel hold and us read.
MAX_HELLO_BYTES: Final = 65536
MAX_FRAGMENT: Final = 16384  # RFC 8446, 5.1: a record's length must not exceed 2^14
MAX_SESSION_ID: Final = 32  # RFC 8446, 4.1.2

# What is kept of lists, which a connection holds while it lasts: a hello has room for 16,000 protocols, near a megabyte
# of small objects. Clients offer two or three, and at most five versions (tests/kit/hellos.py).
MAX_PROTOCOLS: Final = 32
MAX_VERSIONS: Final = 16

RECORD_HEADER: Final = 5  # type, version, length
MESSAGE_HEADER: Final = 4  # type, length
# Version, random, empty session id, one cipher suite, one compression method, no extensions: no hello is shorter.
SMALLEST_MESSAGE: Final = MESSAGE_HEADER + 2 + 32 + 1 + (2 + 2) + (1 + 1)

HANDSHAKE: Final = 22  # RFC 8446, 5.1: ContentType
TLS_MAJOR: Final = 3  # of every version from SSL 3.0 to TLS 1.3, whose records say 3.1 or 3.3
CLIENT_HELLO: Final = 1  # RFC 8446, 4: HandshakeType

SERVER_NAME: Final = 0  # RFC 6066, 3
ALPN: Final = 16  # RFC 7301, 3.1
SUPPORTED_VERSIONS: Final = 43  # RFC 8446, 4.2.1
ENCRYPTED_CLIENT_HELLO: Final = 0xFE0D  # RFC 9849, 5
HOST_NAME: Final = 0  # RFC 6066, 3: NameType

# What a CA offers in ALPN, alone, to see the answer to a challenge of ACME (RFC 8737, 4).
CHALLENGE: Final[tuple[bytes, ...]] = (b"acme-tls/1",)

# RFC 8701, 2: values that clients sprinkle over their lists to keep servers tolerant; they mean nothing.
GREASE_VERSIONS: Final = frozenset(0x0A0A + 0x1010 * n for n in range(16))
GREASE_PROTOCOLS: Final = frozenset(version.to_bytes(2, "big") for version in GREASE_VERSIONS)

_record_header: Final = Struct(">BBxH").unpack_from  # type, major version, length
_first_headers: Final = Struct(">BBxHI").unpack_from  # a record's, and the message's in it as one word
_extension_header: Final = Struct(">HH").unpack_from  # type, length
_uint16: Final = Struct(">H").unpack_from

_Span = tuple[int, int]  # where a vector's contents begin and end
_Message = tuple[bytes, int, int, int]  # a buffer, where in it the message begins and ends, its size on the wire


@dataclass(frozen=True, slots=True)
class Hello:
    """The parts of a ClientHello that matter here."""

    server_name: str  # normalised (notation/name.py)
    alpn: tuple[bytes, ...]  # the first MAX_PROTOCOLS offered, in the client's order, without GREASE
    versions: tuple[int, ...]  # the first MAX_VERSIONS, likewise and as on the wire: 0x0304 is TLS 1.3
    ech: bool  # an encrypted inner hello is there too; `server_name` is the outer one, which routes
    size: int  # bytes on the wire up to the end of the hello's last record
    random: bytes = b""  # 32 bytes that no other hello has


class HelloRefused(Refused):
    """No route can be chosen from these bytes.

    `hello` is what was read of a message whose name was the only thing wrong, with an empty `server_name`: for the
    log, never for routing.
    """

    def __init__(self, reason: Reason, detail: str, hello: Hello | None = None) -> None:
        super().__init__(reason, detail)
        self.hello = hello


class Reader:
    """Reads a hello whose bytes come bit by bit: all looks together cost little more than the last one.

    It remembers how far it has walked over the records, in a few numbers: half a hello that is waited on is not copied.
    """

    # Nearly every reader is asked once and never comes to set these.
    _start = 0  # of what was not yet looked at for the message's header, in the last record
    _end = 0  # of the last record whose header was there; may be beyond what is
    _got = 0  # bytes of the message in the records up to that one
    _header = b""  # what is known of the message's own, which may be split like everything else
    _total = 0  # bytes of the message; 0 while its header is not there

    def __repr__(self) -> str:
        return f"<Reader end={self._end} got={self._got} total={self._total}>"

    def parse(self, data: bytes) -> Hello | int:
        """Read the ClientHello at the start of `data`: the bytes of the call before, and what has come behind them.

        The int is a number of bytes, greater than len(data) and at most MAX_HELLO_BYTES, below which the hello can't
        be complete. Bytes behind the hello's last record (0-RTT data) are not looked at. Raises HelloRefused.
        """
        if message := _in_one_record(data):
            return _hello(*message)
        _refuse_other_protocols(data)
        self._walk(data)
        end, got, total = self._end, self._got, self._total
        if total and got > total:
            # RFC 5246, 7.4.1.2 and RFC 8446, 5.1: the client waits for an answer, or changes keys; neither lets
            # another message share the hello's last record. BoringSSL holds every version to that, too.
            raise _malformed(f"{got - total} bytes follow the hello in its record")
        needed = _bytes_needed(end, (total or SMALLEST_MESSAGE) - got)
        if needed > len(data):
            return needed if data else 1  # the very first byte tells TLS from most of what is not
        return _hello(_joined(data, end, self._header), 0, total, end)

    def _walk(self, data: bytes) -> None:
        """From where the last look ended over every record whose header is there now, up to the message's last one."""
        have, end, got = len(data), self._end, self._got
        total = self._total or self._announced(data)
        while end + RECORD_HEADER <= have and not (total and got >= total):
            kind, major, length = _record_header(data, end)
            # RFC 8446, 5.1: handshake messages must not be interleaved with other record types, nor may their records
            # be empty. The minor version is to be ignored: for compatibility's sake it lies.
            if kind != HANDSHAKE or major != TLS_MAJOR or not 0 < length <= MAX_FRAGMENT:
                raise _bad_record(kind, major, length)
            self._start = end + RECORD_HEADER
            self._end = end = self._start + length
            got += length
            total = total or self._announced(data)
        self._got, self._total = got, total

    def _announced(self, data: bytes) -> int:
        """The length of the whole message with what the last record has of its header; 0 while that is not enough."""
        at = self._start
        self._start = min(self._end, len(data), at + MESSAGE_HEADER - len(self._header))
        self._header += data[at : self._start]
        return _announced_length(self._header) if len(self._header) == MESSAGE_HEADER else 0


# --- records ----------------------------------------------------------------------------------------------------------


def _in_one_record(data: bytes) -> _Message | None:
    """The message if it is whole and in a single record, as nearly every one is at the first look.

    This makes in one expression the checks that `Reader` makes step by step; a hello that fails here goes that way,
    which finds the fault.
    """
    have = len(data)
    if have >= RECORD_HEADER + MESSAGE_HEADER:
        kind, major, length, message_header = _first_headers(data)
        if (
            message_header == CLIENT_HELLO << 24 | length - MESSAGE_HEADER
            and SMALLEST_MESSAGE <= length <= min(MAX_FRAGMENT, have - RECORD_HEADER)
            and (kind, major) == (HANDSHAKE, TLS_MAJOR)
        ):
            return data, RECORD_HEADER, RECORD_HEADER + length, RECORD_HEADER + length
    return None


def _joined(data: bytes, size: int, header: bytes) -> bytes:
    """The message that begins with `header`, out of the records in `size` bytes.

    The walk that found the size may have taken many looks, and a client that plays with urgent bytes can make two of
    them differ (tcp(7)). What is read is what the backend gets, so all of it is asked for once more.
    """
    fragments = []
    at = 0
    while at + RECORD_HEADER <= size:
        kind, major, length = _record_header(data, at)
        if kind != HANDSHAKE or major != TLS_MAJOR or not length:
            raise _bad_record(kind, major, length)
        start = at + RECORD_HEADER
        at = start + length
        fragments.append(data[start:at])
    message = b"".join(fragments)
    if at != size or message[:MESSAGE_HEADER] != header or len(message) != _announced_length(header):
        raise _malformed("the bytes changed while they were looked at")
    return message


def _refuse_other_protocols(data: bytes) -> None:
    """Refuse unless the first six bytes are a handshake record that begins with a ClientHello (RFC 8446, 5.1)."""
    if data[:1] not in (b"", b"\x16"):
        raise HelloRefused(Reason.HELLO_NOT_TLS, _spoken(data))
    if data[1:2] not in (b"", b"\x03"):
        raise HelloRefused(Reason.HELLO_NOT_TLS, f"the record's major version is {data[1]}")
    if data[5:6] not in (b"", b"\x01"):
        raise HelloRefused(Reason.HELLO_NOT_TLS, f"the handshake begins with message type {data[5]}, not a ClientHello")


# How other protocols begin that come to a port for TLS by mistake: their names show an operator what to fix.
_HTTP_METHODS: Final[tuple[bytes, ...]] = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
)
_GREETINGS: Final = (
    *((method + b" ", "the client speaks plain HTTP") for method in _HTTP_METHODS),
    (b"PRI * HTTP/2.0", "the client speaks plain HTTP/2"),
    (b"SSH-", "the client speaks SSH"),
    (b"EHLO ", "the client speaks SMTP"),
    (b"HELO ", "the client speaks SMTP"),
    (b"PROXY ", "the client sends a PROXY header, but the listener doesn't have proxy_protocol = true"),
    (b"\r\n\r\n\0\r\nQUIT\n", "the client sends a PROXY header, but the listener doesn't have proxy_protocol = true"),
    (b"\0\0\0\x08\x04\xd2\x16\x2f", "the client sends PostgreSQL's request for TLS, not a ClientHello"),
    (b"\x03\0", "the client speaks RDP"),  # [MS-RDPBCGR] begins with a TPKT header (RFC 1006, 6)
    (b"\x04\x01", "the client speaks SOCKS"),
    (b"\x05", "the client speaks SOCKS"),  # RFC 1928, 3
    (b"\x15\x03", "the client begins with a TLS alert, not with a ClientHello"),
    (b"\x17\x03", "the client begins with TLS data, not with a ClientHello"),
)


def _spoken(data: bytes) -> str:
    """The protocol of a client that doesn't begin with a handshake record."""
    if spoken := next((protocol for begin, protocol in _GREETINGS if data.startswith(begin)), ""):
        return spoken
    if data[0] & 0x80 and data[2:3] == b"\x01":  # RFC 5246, E.2: a version 2.0 ClientHello
        return "the client speaks SSL 2.0"
    return f"the first byte is {data[0]:#04x}, not a handshake record's"


def _bad_record(kind: int, major: int, length: int) -> HelloRefused:
    """Why a record with this header can't carry a part of the hello."""
    if kind != HANDSHAKE or major != TLS_MAJOR:
        return _malformed(f"a record of type {kind}, major version {major}, inside the hello")
    return _malformed(f"a record of {length} bytes")


def _announced_length(header: bytes) -> int:
    """The length of the whole message, its header included (RFC 8446, 4). Raises HelloRefused."""
    total = MESSAGE_HEADER + int.from_bytes(header[1:], "big")
    if total < SMALLEST_MESSAGE:
        raise _malformed(f"a hello of {total} bytes")
    return total


def _bytes_needed(end: int, missing: int) -> int:
    """The fewest bytes on the wire that `missing` more of the message, from `end` on, can take."""
    if missing > 0:
        records = -(-missing // MAX_FRAGMENT)
        end += missing + records * RECORD_HEADER
    if end > MAX_HELLO_BYTES:
        raise HelloRefused(Reason.HELLO_OVERSIZED, f"at least {end} bytes, more than {MAX_HELLO_BYTES}")
    return end


# --- message ----------------------------------------------------------------------------------------------------------


def _hello(message: bytes, start: int, end: int, size: int) -> Hello:
    """RFC 8446, 4.1.2: the ClientHello, whose header is at `start` of `message` and whose last byte is before `end`."""
    at = start + MESSAGE_HEADER
    (legacy_version,), random = _uint16(message, at), message[at + 2 : at + 34]  # SMALLEST_MESSAGE holds them
    found, repeated = _extensions(message, _end_of_fields(message, start, end), end)
    versions = _versions(message, *found[SUPPORTED_VERSIONS]) if SUPPORTED_VERSIONS in found else (legacy_version,)
    alpn = _protocols(message, *found[ALPN]) if ALPN in found else ()
    ech = ENCRYPTED_CLIENT_HELLO in found
    try:
        if repeated:
            raise HelloRefused(Reason.SNI_DUPLICATE, "two server_name extensions")
        if SERVER_NAME not in found:
            raise HelloRefused(Reason.SNI_MISSING, "no server_name extension")
        name = _server_name(message, *found[SERVER_NAME])
    except HelloRefused as refused:
        refused.hello = Hello("", alpn, versions, ech, size, random)
        raise
    return Hello(name, alpn, versions, ech, size, random)


def _end_of_fields(message: bytes, start: int, end: int) -> int:
    """RFC 8446, 4.1.2: where the fields end that every ClientHello has; only their lengths are of interest."""
    at = start + MESSAGE_HEADER + 2 + 32  # legacy_version, random
    if message[at] > MAX_SESSION_ID:
        raise _malformed(f"a session id of {message[at]} bytes")
    at = _end_of_uint8_vector(message, at, end, "session id")
    suites = at + 2
    at = _end_of_uint16_vector(message, at, end, "list of cipher suites")
    if at == suites or (at - suites) % 2:
        raise _malformed(f"cipher suites of {at - suites} bytes")
    methods = at + 1
    at = _end_of_uint8_vector(message, at, end, "list of compression methods")
    if at == methods:
        raise _malformed("no compression method")
    return at


def _end_of_uint8_vector(message: bytes, at: int, end: int, vector: str) -> int:
    """Where the vector at `at` ends whose length is one byte, which must be before its parent does, at `end`."""
    if at < end and (stop := at + 1 + message[at]) <= end:
        return stop
    raise _malformed(f"the {vector} exceeds its enclosing field")


def _end_of_uint16_vector(message: bytes, at: int, end: int, vector: str) -> int:
    """Where the vector at `at` ends whose length is two bytes, which must be before its parent does, at `end`."""
    if at + 2 <= end and (stop := at + 2 + (message[at] << 8 | message[at + 1])) <= end:
        return stop
    raise _malformed(f"the {vector} exceeds its enclosing field")


def _extensions(message: bytes, at: int, end: int) -> tuple[dict[int, _Span], bool]:
    """RFC 8446, 4.2: the extensions by their type, and whether server_name was there more than once."""
    found: dict[int, _Span] = {}
    repeated = False
    if at == end:
        return found, repeated  # before TLS 1.3 the whole block may be left out (RFC 5246, 7.4.1.2)
    if _end_of_uint16_vector(message, at, end, "block of extensions") != end:
        raise _malformed("bytes follow the extensions")  # RFC 5246, 7.4.1.2: the block is the rest of the message
    at += 2
    while at + 4 <= end:
        kind, length = _extension_header(message, at)
        if kind in found:
            # RFC 8446, 4.2: not more than one extension of a type. Two names have a reason of their own.
            if kind != SERVER_NAME:
                raise _malformed(f"two extensions of type {kind}")
            repeated = True
        start = at + 4
        at = start + length
        found[kind] = start, at
    if at != end:  # the last one leaves a rest that is no extension, or claims more than there is
        raise _malformed("the extensions don't fill their block" if at < end else f"extension {kind} exceeds its block")
    return found, repeated


# --- extensions -------------------------------------------------------------------------------------------------------


def _server_name(message: bytes, at: int, end: int) -> str:
    """RFC 6066, 3: the one host name in the server_name extension.

    The list was meant for more kinds of names, but none was ever defined, and OpenSSL, BoringSSL and others take a
    list of exactly one. So does this: a backend that reads a second name could see another one than we did.
    """
    if _end_of_uint16_vector(message, at, end, "list of server names") != end or at + 2 == end:
        raise _malformed("the list of server names doesn't fill its extension")
    kind = message[at + 2]
    start = at + 5
    stop = _end_of_uint16_vector(message, at + 3, end, "server name")
    if stop != end:
        _end_of_uint16_vector(message, stop + 1, end, "second server name")
        raise HelloRefused(Reason.SNI_DUPLICATE, "two names in the server_name extension")
    if kind != HOST_NAME:
        raise HelloRefused(Reason.SNI_INVALID, f"a name of type {kind}, which is not host_name")
    try:
        return normalise(str(message[start:stop], "ascii"))
    except UnicodeDecodeError as error:
        raise HelloRefused(Reason.SNI_INVALID, f"byte {message[start + error.start]:#04x} in the name") from None
    except InvalidName as error:
        raise HelloRefused(error.reason, error.fault) from None


def _protocols(message: bytes, at: int, end: int) -> tuple[bytes, ...]:
    """RFC 7301, 3.1: a list of one or more names, of which none is empty."""
    if _end_of_uint16_vector(message, at, end, "list of protocols") != end or at + 2 == end:
        raise _malformed("the list of protocols doesn't fill its extension")
    at += 2
    names: list[bytes] = []
    while at < end:
        start = at + 1
        at = start + message[at]
        if at == start or at > end:
            raise _malformed("a protocol name is empty or exceeds its list")
        if len(names) < MAX_PROTOCOLS and (name := message[start:at]) not in GREASE_PROTOCOLS:
            names.append(name)
    return tuple(names)


def _versions(message: bytes, at: int, end: int) -> tuple[int, ...]:
    """RFC 8446, 4.2.1: a list of one or more versions."""
    if _end_of_uint8_vector(message, at, end, "list of versions") != end:
        raise _malformed("the list of versions doesn't fill its extension")
    count, odd = divmod(end - at - 1, 2)
    if odd or not count:
        raise _malformed(f"versions of {end - at - 1} bytes")
    offered = unpack_from(f">{count}H", message, at + 1)
    return tuple([version for version in offered if version not in GREASE_VERSIONS][:MAX_VERSIONS])


def _malformed(detail: str) -> HelloRefused:
    return HelloRefused(Reason.HELLO_MALFORMED, detail)
