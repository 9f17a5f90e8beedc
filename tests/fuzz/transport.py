"""What comes before HTTP: ClientHellos beside OpenSSL and a plain reader, PROXY headers beside another plain reader."""

import ssl
from collections.abc import Hashable
from contextlib import suppress
from ipaddress import ip_address

from mcproxy.model import Endpoint, Refused
from mcproxy.notation.name import InvalidName, normalise
from mcproxy.wire import proxy_protocol
from mcproxy.wire.hello import MAX_HELLO_BYTES, MAX_PROTOCOLS, MAX_VERSIONS, Hello, HelloRefused, Reader
from tests.fuzz.engine import Target
from tests.kit import hello_reference
from tests.kit.hellos import CHROME, REFUSED, TINY, split

_told: list[str | None] = []


def _tell(_connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int:
    _told.append(name)
    return ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR  # that was all we wanted to know


_OPENSSL = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_OPENSSL.minimum_version = ssl.TLSVersion.TLSv1_2
_OPENSSL.sni_callback = _tell


def openssl_names(data: bytes) -> list[str | None]:
    """The name that an OpenSSL server is asked for; [None]: for none; []: it refuses or waits before it looks."""
    _told.clear()
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    with suppress(ssl.SSLError, ValueError):  # ValueError: a name that Python can't decode
        _OPENSSL.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return list(_told)


def _read(reader: Reader, data: bytes) -> Hello | int | str:
    try:
        return reader.parse(data)
    except HelloRefused as refused:
        return f"{refused.reason} {str(refused.detail)[:24]}"


def hello(data: bytes) -> Hashable:
    """The name is OpenSSL's or OpenSSL refuses; a plain reader agrees in full; no cut of the bytes changes anything."""
    found = _read(Reader(), data)
    _in_pieces(data, found)
    if isinstance(found, int):
        assert len(data) < found <= MAX_HELLO_BYTES, f"asks for {found} bytes and has {len(data)}"
        return "more"
    expected = _plainly(data)
    if isinstance(found, str):
        assert expected is None or len(data) > MAX_HELLO_BYTES, f"refused for {found}, a plain reader reads {expected}"
        return found
    assert expected is not None, f"read as {found}, which a plain reader refuses"
    assert found.server_name == expected.server_name
    assert (found.ech, found.size) == (expected.ech, expected.size)
    assert found.alpn == expected.alpn[:MAX_PROTOCOLS]
    assert found.versions == expected.versions[:MAX_VERSIONS]
    for name in openssl_names(data[: found.size]):
        assert name is not None, f"OpenSSL finds no name where we read {found.server_name}"
        with suppress(InvalidName):  # raised for names that OpenSSL alone would take
            assert normalise(name) == found.server_name
    return len(found.alpn), len(found.versions), found.ech, found.server_name.count(".")


def _plainly(data: bytes) -> Hello | None:
    """What the reference reads; it doesn't know our bound for the whole."""
    try:
        return hello_reference.read(data)
    except (hello_reference.Wrong, hello_reference.TooShort):
        return None


def _in_pieces(data: bytes, whole: Hello | int | str) -> None:
    reader, answer = Reader(), None
    step = max(1, len(data) // 3)
    for end in range(step, len(data) + step, step):
        answer = _read(reader, data[:end])
        if isinstance(answer, str) or (isinstance(answer, Hello) and isinstance(whole, Hello)):
            break
        assert isinstance(answer, int) == (end < len(data) or isinstance(whole, int)), f"{answer} of {end} bytes"
    both_refuse = isinstance(answer, str) and isinstance(whole, str)
    assert both_refuse or answer in (None, whole), f"in pieces {answer}, at once {whole}"


def proxy(data: bytes) -> Hashable:
    """A header is what a plain reader makes of it; it never needs or takes a byte that is behind it."""
    try:
        found = proxy_protocol.parse(data)
    except Refused as refused:
        return str(refused.reason), str(refused)[:24]
    if isinstance(found, int):
        assert found > len(data), f"asks for {found} bytes and has {len(data)}"
        return "more", found > proxy_protocol.MIN_V1_BYTES
    assert 0 < found.size <= len(data)
    assert proxy_protocol.parse(data[: found.size]) == found, "reads other bytes than its own"
    assert proxy_protocol.parse(data[: found.size] + b"\x16\x03\x01") == found, "reads what follows"
    for end in (found.size // 2, found.size - 1):
        needs = proxy_protocol.parse(data[:end])
        assert isinstance(needs, int), f"is whole at {end} of {found.size} bytes"
        assert needs <= found.size, f"asks for {needs} bytes of {found.size}"
    assert (found.source, found.destination) == _plain_addresses(data[: found.size])
    if found.source and found.destination:
        again = proxy_protocol.parse(proxy_protocol.encode_v2(found.source, found.destination, authority="a.test"))
        assert isinstance(again, proxy_protocol.Header)
        assert (again.source, again.destination) == (found.source, found.destination), "written, it is another"
    return data[:1], data[12:14] if data[:1] == b"\r" else data[:10], found.source is None


def _plain_addresses(header: bytes) -> tuple[Endpoint | None, Endpoint | None]:
    if header.startswith(b"PROXY "):
        words = header[6:-2].decode("latin-1").split(" ")
        if words[0] == "UNKNOWN":
            return None, None
        _, source, destination, source_port, destination_port = words
        return _address(source, int(source_port)), _address(destination, int(destination_port))
    size = {0x11: 4, 0x21: 16}.get(header[13])
    if header[12] == 0x20 or size is None:
        return None, None
    at = 16 + 2 * size
    ports = int.from_bytes(header[at : at + 2], "big"), int.from_bytes(header[at + 2 : at + 4], "big")
    return _address(header[16 : 16 + size], ports[0]), _address(header[16 + size : at], ports[1])


def _address(host: str | bytes, port: int) -> Endpoint:
    ip = ip_address(host)
    return str(getattr(ip, "ipv4_mapped", None) or ip), port


_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 7, 0xD4, 0x31, 1, 0xBB])
HELLO = Target(
    "hello",
    "ClientHellos beside OpenSSL and a plain reader",
    hello,
    [
        TINY,
        CHROME,
        split(TINY[5:], [20, 40]),
        split(CHROME[5:], [1, 600]),
        *(data for data, _ in REFUSED.values() if len(data) < 5_000),
    ],
    [
        b"\0\0", b"\0\x10", b"\0\x2b", b"\xfe\x0d", b"a.test", b"\x16\x03\x01", b"\x01\0",
        b"\0\0\0\x09\0\x07\0\0\4b.ab", b"\x03\x04", b"\x0a\x0a", b".",
    ],
)  # fmt: skip
PROXY = Target(
    "proxy",
    "PROXY headers of both versions beside a plain reader",
    proxy,
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.7 54321 443\r\nhello",
        b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 65535\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:: whatever\r\n",
        _V2 + b"\x21\x11\0\x0c" + _FOUR + b"hello",
        _V2 + b"\x20\0\0\0",
        _V2 + b"\x21\x21\0\x24" + bytes(range(36)),
        _V2 + b"\x21\x11\0\x13" + _FOUR + b"\x02\0\4a.ab",
        _V2 + b"\x21\x31\0\xd8" + bytes(216),
        proxy_protocol.encode_v2(("192.0.2.1", 1), ("192.0.2.2", 443), authority="a.test", alpn=b"h2"),
    ],
    [
        b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"\r\n", b"::", b"0", b"255", b"65535", b"::ffff:", _V2,
        b"\x21\x11", b"\x20", b"\x03\0\4", b"\x04\0\0", b"1.2.3.4",
    ],
)  # fmt: skip
