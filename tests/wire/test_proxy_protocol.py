"""PROXY headers of both versions: read strictly, never a byte too far, and written as receivers expect them."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.model import Reason, Refused
from mcproxy.wire.proxy_protocol import MAX_HEADER_BYTES, Header, crc32c, encode_v2, parse

SIGNATURE = bytes.fromhex("0d0a0d0a 00 0d0a 51554954 0a")
ADDRESSES_4 = bytes.fromhex("c0000201 c6336407 d431 01bb")  # 192.0.2.1:54321 to 198.51.100.7:443
CLIENT, LOCAL = ("192.0.2.1", 54321), ("198.51.100.7", 443)
CLIENT_6, LOCAL_6 = ("2001:db8::1", 54321), ("2001:db8:0:1::7", 443)
ADDRESSES_6 = bytes.fromhex("20010db8 00000000 00000000 00000001 20010db8 00000001 00000000 00000007 d431 01bb")
MAPPED = bytes.fromhex("00000000 00000000 0000ffff c0000201 00000000 00000000 0000ffff c6336407 d431 01bb")


def v2(content: bytes = ADDRESSES_4, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + content


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def summed(before: bytes = b"", after: bytes = b"") -> bytes:
    """A header with a checksum between these TLVs."""
    zeroed = v2(ADDRESSES_4 + before + tlv(3, bytes(4)) + after)
    at = len(zeroed) - len(after) - 4
    return zeroed[:at] + crc32c(zeroed).to_bytes(4, "big") + zeroed[at + 4 :]


SOUND = {
    "TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.7 54321 443\r\n", CLIENT, LOCAL),
    "TCP6": (b"PROXY TCP6 2001:db8::1 2001:db8:0:1::7 54321 443\r\n", CLIENT_6, LOCAL_6),
    "TCP6 written out": (
        b"PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0001 2001:0db8:0000:0001:0000:0000:0000:0007 54321 443\r\n",
        CLIENT_6,
        LOCAL_6,
    ),
    "the longest TCP6": (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        (":".join(["ffff"] * 8), 65535),
        (":".join(["ffff"] * 8), 65535),
    ),
    "TCP6, mapped": (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6407 54321 443\r\n", CLIENT, LOCAL),
    "port 0": (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 0\r\n", ("0.0.0.0", 0), ("255.255.255.255", 0)),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None, None),
    "UNKNOWN with more": (b"PROXY UNKNOWN ffff:: whatever \xff\x00 99999\r\n", None, None),
    "UNKNOWN, the longest": (b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n", None, None),
    "v2 TCP4": (v2(), CLIENT, LOCAL),
    "v2 TCP6": (v2(ADDRESSES_6, family=0x21), CLIENT_6, LOCAL_6),
    "v2 TCP6, mapped": (v2(MAPPED, family=0x21), CLIENT, LOCAL),
    "v2 with TLVs": (v2(ADDRESSES_4 + tlv(2, b"a.test") + tlv(4, b"") + tlv(0xEA, b"x" * 300)), CLIENT, LOCAL),
    "v2, the longest": (v2(ADDRESSES_4 + tlv(4, bytes(MAX_HEADER_BYTES - 16 - 12 - 3))), CLIENT, LOCAL),
    "v2 with a checksum": (summed(), CLIENT, LOCAL),
    "v2 with a checksum in the middle": (summed(tlv(1, b"h2"), tlv(2, b"a.test")), CLIENT, LOCAL),
    "v2 unspecified": (v2(b"", family=0x00), None, None),
    "v2 unspecified with TLVs": (v2(tlv(4, b"..."), family=0x00), None, None),
    "v2 UNIX stream": (v2(bytes(216), family=0x31), None, None),
    "v2 UNIX datagram": (v2(bytes(216) + tlv(4, b""), family=0x32), None, None),
    "v2 UDP": (v2(family=0x12), None, None),
    "v2 UDP, IPv6": (v2(ADDRESSES_6, family=0x22), None, None),
    "v2 LOCAL": (v2(b"", command=0x20, family=0x00), None, None),
    "v2 LOCAL with addresses": (v2(command=0x20), None, None),
    "v2 LOCAL with anything": (v2(b"not a TLV", command=0x20, family=0xFF), None, None),
}

BROKEN = {
    "a hello": b"\x16\x03\x01\x00\x3e\x01",
    "HTTP": b"GET / HTTP/1.1\r\n",
    "a first byte": b"X",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "lower case": b"proxy TCP4",
    "nearly": b"PROXZ",
    "another method": b"PROXYTCP4",
    "a signature, nearly": SIGNATURE[:11] + b"\r",
    "no end of line": b"PROXY UNKNOWN" + b" " * (107 - 13),
    "an end of line too late": b"PROXY UNKNOWN " + b"x" * (108 - 16) + b"\r\n",
    "a line feed alone": b"PROXY UNKNOWN\n",
    "a line feed alone, addresses": b"PROXY TCP4 192.0.2.1 198.51.100.7 54321 443\n",
    "a carriage return before the end": b"PROXY UNKNOWN \r x\r\n",
    "a line feed before the end": b"PROXY UNKNOWN \n x\r\n",
    "UNKNOWN without a space": b"PROXY UNKNOWNS\r\n",
    "no family": b"PROXY  192.0.2.1 198.51.100.7 54321 443\r\n",
    "another family": b"PROXY TCP5 192.0.2.1 198.51.100.7 54321 443\r\n",
    "UDP4": b"PROXY UDP4 192.0.2.1 198.51.100.7 54321 443\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.1 198.51.100.7 54321 443\r\n",
    "a tab": b"PROXY TCP4\t192.0.2.1 198.51.100.7 54321 443\r\n",
    "a space at the end": b"PROXY TCP4 192.0.2.1 198.51.100.7 54321 443 \r\n",
    "a port missing": b"PROXY TCP4 192.0.2.1 198.51.100.7 54321\r\n",
    "a port too large": b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
    "the other port too large": b"PROXY TCP4 192.0.2.1 198.51.100.7 443 99999\r\n",
    "a port with a zero": b"PROXY TCP4 192.0.2.1 198.51.100.7 054 443\r\n",
    "a port with a sign": b"PROXY TCP4 192.0.2.1 198.51.100.7 +54 443\r\n",
    "a port in other digits": "PROXY TCP4 192.0.2.1 198.51.100.7 \u0665 443\r\n".encode(),
    "no port": b"PROXY TCP4 192.0.2.1 198.51.100.7  443\r\n",
    "an address with a zero": b"PROXY TCP4 192.0.02.1 198.51.100.7 54321 443\r\n",
    "an address too large": b"PROXY TCP4 192.0.2.256 198.51.100.7 54321 443\r\n",
    "an address too short": b"PROXY TCP4 192.0.2 198.51.100.7 54321 443\r\n",
    "IPv6 in TCP4": b"PROXY TCP4 2001:db8::1 2001:db8::2 54321 443\r\n",
    "IPv4 in TCP6": b"PROXY TCP6 192.0.2.1 198.51.100.7 54321 443\r\n",
    "the second IPv4 in TCP6": b"PROXY TCP6 2001:db8::1 198.51.100.7 54321 443\r\n",
    "two double colons": b"PROXY TCP6 2001::db8::1 2001:db8::2 54321 443\r\n",
    "a scope": b"PROXY TCP6 fe80::1%eth0 2001:db8::2 54321 443\r\n",
    "v2 version 1": v2(command=0x11),
    "v2 version 3": v2(command=0x31),
    "v2 command 2": v2(command=0x22),
    "v2 family 4": v2(family=0x41),
    "v2 family without protocol": v2(family=0x10),
    "v2 protocol without family": v2(family=0x01),
    "v2 protocol 3": v2(family=0x13),
    "v2 too short for IPv4": v2(ADDRESSES_4[:-1]),
    "v2 too short for IPv6": v2(ADDRESSES_6[:-1], family=0x21),
    "v2 too short for IPv6, by far": v2(ADDRESSES_4, family=0x21),
    "v2 too short for UNIX": v2(bytes(215), family=0x31),
    "v2 too long": v2(length=MAX_HEADER_BYTES - 16 + 1)[:16],
    "v2 LOCAL too long": v2(command=0x20, length=65535)[:16],
    "v2 half a TLV": v2(ADDRESSES_4 + b"\2\0"),
    "v2 a TLV too long": v2(ADDRESSES_4 + b"\2\0\7a.test"),
    "v2 a byte behind the TLVs": v2(ADDRESSES_4 + tlv(2, b"a.test") + b"\0"),
    "v2 a checksum too long": v2(ADDRESSES_4 + b"\3\0\4abc"),
    "v2 a checksum of 3 bytes": v2(ADDRESSES_4 + tlv(3, b"abc")),
    "v2 a wrong checksum": summed()[:-1] + bytes([summed()[-1] ^ 1]),
    "v2 a right checksum for other addresses": summed().replace(ADDRESSES_4, ADDRESSES_4[::-1]),
    "v2 two checksums": summed(after=tlv(3, bytes(4))),
}


@pytest.mark.parametrize(("data", "source", "destination"), SOUND.values(), ids=SOUND)
def test_read(data: bytes, source: tuple[str, int] | None, destination: tuple[str, int] | None) -> None:
    expected = Header(len(data), source, destination)
    assert parse(data) == expected
    for hello in (b"\x16", b"\x16\x03\x01\x00\x3e\x01", b"\r\n\r\n\n", data):
        assert parse(data + hello) == expected


@pytest.mark.parametrize("data", [data for data, _source, _destination in SOUND.values()], ids=SOUND)
def test_every_prefix_asks_for_more_and_never_for_the_hello(data: bytes) -> None:
    for have in range(len(data)):
        needed = parse(data[:have])
        assert isinstance(needed, int)
        assert have < needed <= len(data)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse(data)
    assert caught.value.reason is Reason.PROXY_MALFORMED
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("HTTP", "no PROXY header"),
        ("TLS", "no PROXY header, but TLS at once"),
        ("no end of line", "no end of line in 107 bytes"),
        ("a line feed alone", r'not a version 1 line: "PROXY UNKNOWN\n"'),
        ("a port too large", "port 65536"),
        ("v2 version 1", "version and command 0x11"),
        ("v2 family 4", "family and protocol 0x41"),
        ("v2 too short for UNIX", "215 bytes where family and protocol 0x31 take 216"),
        ("v2 too long", "a header of 4097 bytes, more than 4096"),
        ("v2 a TLV too long", "the TLVs don't fill the header"),
        ("v2 a checksum of 3 bytes", "a checksum of 3 bytes"),
        ("v2 a wrong checksum", "a wrong checksum"),
        ("v2 two checksums", "two checksums"),
    ],
)
def test_the_detail_says_what_is_wrong(name: str, detail: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(BROKEN[name])
    assert caught.value.detail == detail


def test_a_header_that_arrives_as_asked_takes_few_looks() -> None:
    for data, limit in ((v2(ADDRESSES_4 + tlv(2, b"a.test")), 4), (SOUND["TCP4"][0], 20)):
        have = looks = 0
        while isinstance(answer := parse(data[:have]), int):
            have = answer
            looks += 1
        assert looks <= limit


@pytest.mark.parametrize("name", ["TCP4", "TCP6", "v2 TCP6", "v2 UNIX stream", "v2 with a checksum in the middle"])
def test_any_value_of_any_byte_is_a_header_a_number_or_a_refusal(name: str) -> None:
    data = SOUND[name][0]
    for at in range(len(data)):
        for value in range(256):
            mutated = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                answer = parse(mutated)
            except Refused:
                continue
            if isinstance(answer, int):
                assert len(data) < answer <= MAX_HEADER_BYTES
            else:
                assert answer.size <= len(data)
                assert all(str(ip_address(end[0])) == end[0] for end in (answer.source, answer.destination) if end)


def test_a_changed_byte_never_passes_the_checksum() -> None:
    data = summed(tlv(2, b"a.test"))
    for at in range(16, len(data)):
        mutated = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        try:
            answer = parse(mutated)
        except Refused:
            continue
        # Only where the TLV is no longer a checksum's, so that nothing claims to be summed.
        assert at == data.index(tlv(3, data[-4:])), answer


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", SIGNATURE + b"\x21"]))
def test_any_bytes_are_a_header_a_number_or_a_refusal(tail: bytes, beginning: bytes) -> None:
    data = beginning + tail
    try:
        answer = parse(data)
    except Refused:
        return
    size = answer if isinstance(answer, int) else answer.size
    assert 0 < size <= MAX_HEADER_BYTES
    assert isinstance(answer, int) == (size > len(data))


# --- checksum ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"123456789", 0xE3069283),  # the customary check value
        (bytes(32), 0x8A9136AA),  # this and the next ones: RFC 3720, B.4, whose bytes are in wire order
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_crc32c(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


# --- written ----------------------------------------------------------------------------------------------------------


def test_written_ipv4() -> None:
    assert encode_v2(CLIENT, LOCAL) == bytes.fromhex(
        "0d0a0d0a 00 0d0a 51554954 0a"  # signature
        "21 11 000c"  # version 2, PROXY; TCP over IPv4; 12 bytes
        "c0000201 c6336407 d431 01bb"  # 192.0.2.1 to 198.51.100.7, ports 54321 and 443
    )


def test_written_ipv6_with_tlvs() -> None:
    assert encode_v2(CLIENT_6, LOCAL_6, authority="a.test", alpn=b"h2") == bytes.fromhex(
        "0d0a0d0a 00 0d0a 51554954 0a"
        "21 21 0032"  # version 2, PROXY; TCP over IPv6; 50 bytes
        "20010db8 00000000 00000000 00000001"
        "20010db8 00000001 00000000 00000007"
        "d431 01bb"
        "01 0002 6832"  # ALPN: h2
        "02 0006 612e74657374"  # AUTHORITY: a.test
    )


def test_written_mixed() -> None:
    assert encode_v2(CLIENT, LOCAL_6)[13:32] == bytes.fromhex("21 0024 00000000 00000000 0000ffff c0000201")
    assert parse(encode_v2(CLIENT, LOCAL_6)) == Header(52, CLIENT, LOCAL_6)
    assert parse(encode_v2(CLIENT_6, LOCAL)) == Header(52, CLIENT_6, LOCAL)


def test_written_mapped_as_ipv4() -> None:
    assert encode_v2(("::ffff:192.0.2.1", 54321), ("::ffff:c633:6407", 443)) == encode_v2(CLIENT, LOCAL)


def test_written_without_the_scope_of_a_link() -> None:
    assert parse(encode_v2(("fe80::1%eth0", 1), ("fe80::2%2", 2))) == Header(52, ("fe80::1", 1), ("fe80::2", 2))


def test_what_can_not_be_written() -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        encode_v2(("a.test", 1), LOCAL)
    longest = MAX_HEADER_BYTES - 16 - 12 - 3
    assert len(encode_v2(CLIENT, LOCAL, alpn=b"x" * longest)) == MAX_HEADER_BYTES
    for length in (longest + 1, 70000):
        with pytest.raises(ValueError, match="more than 4096"):
            encode_v2(CLIENT, LOCAL, alpn=b"x" * length)


HOSTS = st.ip_addresses()
PORTS = st.integers(0, 0xFFFF)


@given(HOSTS, PORTS, HOSTS, PORTS, st.text(max_size=63), st.binary(max_size=255))
def test_what_is_written_can_be_read(
    source: IPv4Address | IPv6Address,
    source_port: int,
    destination: IPv4Address | IPv6Address,
    destination_port: int,
    authority: str,
    alpn: bytes,
) -> None:
    written = encode_v2(
        (str(source), source_port), (str(destination), destination_port), authority=authority, alpn=alpn
    )
    read = parse(written + b"\x16\x03\x01")
    assert isinstance(read, Header)
    assert read.size == len(written)
    assert read.source == (str(getattr(source, "ipv4_mapped", None) or source), source_port)
    assert read.destination == (str(getattr(destination, "ipv4_mapped", None) or destination), destination_port)
