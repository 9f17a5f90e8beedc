"""ClientHellos for tests: annotated bytes, builders that can also build them wrong, and what OpenSSL really sends."""

import ssl
from collections.abc import Iterable, Sequence

from mcproxy.model import Reason

# The least that a client can send and be routed: TLS 1.2, one cipher suite, one extension.
TINY = bytes.fromhex(
    "16 0301 003e"  # record: handshake, version 3.1 for compatibility, 62 bytes
    "01 00003a"  # message: ClientHello, 58 bytes
    "0303"  # legacy_version: TLS 1.2
    + "52"
    * 32  # random
    + "00"  # session id: none
    "0002 1301"  # cipher suites: TLS_AES_128_GCM_SHA256
    "01 00"  # compression methods: null
    "000f"  # extensions: 15 bytes
    "0000 000b"  # server_name, 11 bytes
    "0009 00 0006"  # list of 9 bytes: a host_name of 6 bytes
    "612e74657374"  # a.test
)

# TLS 1.0 as an old embedded client sends it: no block of extensions at all.
WITHOUT_EXTENSIONS = bytes.fromhex(
    "16 0301 002d"  # record: 45 bytes
    "01 000029"  # message: ClientHello, 41 bytes
    "0301"  # legacy_version: TLS 1.0
    + "52"
    * 32  # random
    + "00"  # session id: none
    "0002 002f"  # cipher suites: TLS_RSA_WITH_AES_128_CBC_SHA
    "01 00"  # compression methods: null
)


def vector8(content: bytes) -> bytes:
    return len(content).to_bytes(1, "big") + content


def vector16(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def extension(kind: int, content: bytes = b"") -> bytes:
    return kind.to_bytes(2, "big") + vector16(content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector16(b"".join(kind.to_bytes(1, "big") + vector16(name) for name in names)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector16(b"".join(map(vector8, protocols))))


def supported_versions(*versions: int) -> bytes:
    return extension(43, vector8(b"".join(version.to_bytes(2, "big") for version in versions)))


def message(
    *extensions: bytes,
    version: int = 0x0303,
    session_id: bytes = b"",
    suites: bytes = b"\x13\x01",
    methods: bytes = b"\0",
) -> bytes:
    """A ClientHello with its message header and without a record."""
    body = version.to_bytes(2, "big") + b"R" * 32 + vector8(session_id) + vector16(suites) + vector8(methods)
    return handshake(body + vector16(b"".join(extensions)))


def handshake(body: bytes) -> bytes:
    """`body` as a ClientHello message, whatever it is."""
    return b"\x01" + len(body).to_bytes(3, "big") + body


def record(fragment: bytes, kind: int = 22) -> bytes:
    return kind.to_bytes(1, "big") + b"\x03\x01" + vector16(fragment)


def split(whole: bytes, cuts: Iterable[int]) -> bytes:
    """The message `whole` in records that end at these places of it, and at its end."""
    edges = sorted({cut for cut in cuts if 0 < cut < len(whole)})
    return b"".join(record(whole[a:b]) for a, b in zip([0, *edges], [*edges, len(whole)], strict=True))


def hello(*extensions: bytes) -> bytes:
    """A ClientHello in one record."""
    return record(message(*extensions))


# As Chrome 131 and later send it, in kind, order and sizes: GREASE everywhere, a post-quantum key share, GREASE ECH.
CHROME = record(
    message(
        extension(0x2A2A),
        extension(23),  # extended_master_secret
        extension(0xFF01, b"\0"),  # renegotiation_info
        extension(
            51, vector16(b"\x3a\x3a\0\1\0" + b"\x11\xec" + vector16(b"k" * 1216) + b"\0\x1d" + vector16(b"k" * 32))
        ),
        extension(10, vector16(b"\x3a\x3a\x11\xec\0\x1d\0\x17\0\x18")),  # supported_groups
        server_name(b"WWW.Example.org"),
        extension(11, b"\1\0"),  # ec_point_formats
        extension(18),  # signed_certificate_timestamp
        extension(13, vector16(b"\4\3\x08\4\4\1\5\3\x08\5\5\1\x08\6\6\1")),  # signature_algorithms
        extension(5, b"\1\0\0\0\0"),  # status_request
        extension(35),  # session_ticket
        supported_versions(0x4A4A, 0x0304, 0x0303),
        extension(27, b"\2\0\2"),  # compress_certificate
        alpn(b"h2", b"http/1.1"),
        extension(0x44CD, b"\0\3\2h2"),  # application_settings
        extension(45, b"\1\1"),  # psk_key_exchange_modes
        extension(0xFE0D, b"e" * 218),  # encrypted_client_hello
        extension(0x7A7A, b"\0"),
        session_id=b"S" * 32,
        suites=b"\x1a\x1a" + b"\x13\x01\x13\x02\x13\x03" + b"\xc0\x2b" * 12,
    )
)


A_TEST = server_name(b"a.test")
LIST_OF_ONE = vector16(b"\0" + vector16(b"a.test"))
# What must be refused, and how.
REFUSED = {
    "an alert": (b"\x15\x03\x01\x00\x02\x02\x28", Reason.HELLO_NOT_TLS),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", Reason.HELLO_NOT_TLS),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.HELLO_NOT_TLS),
    "an SSL 2.0 hello": (b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", Reason.HELLO_NOT_TLS),
    "the first byte": (b"\x17", Reason.HELLO_NOT_TLS),
    "the major version": (b"\x16\x02", Reason.HELLO_NOT_TLS),
    "another message": (b"\x16\x03\x01\x00\x40\x02", Reason.HELLO_NOT_TLS),
    "an empty record": (b"\x16\x03\x01\x00\x00", Reason.HELLO_MALFORMED),
    "a record too large": (b"\x16\x03\x01\x40\x01\x01\x00\x40\x00", Reason.HELLO_MALFORMED),
    "a hello too small": (b"\x16\x03\x01\x00\x2c\x01\x00\x00\x28", Reason.HELLO_MALFORMED),
    "an announced 64 KiB": (b"\x16\x03\x01\x40\x00\x01\x00\xff\xf0", Reason.HELLO_OVERSIZED),
    "an announced 16 MiB": (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff", Reason.HELLO_OVERSIZED),
    "an empty record inside": (record(TINY[5:20]) + record(b"") + record(TINY[20:]), Reason.HELLO_MALFORMED),
    "an alert inside": (record(TINY[5:20]) + record(b"\1\0", kind=21) + record(TINY[20:]), Reason.HELLO_MALFORMED),
    "a record of SSL 2 inside": (record(TINY[5:20]) + b"\x16\x02\x00\x00\x01", Reason.HELLO_MALFORMED),
    "a byte behind it in its record": (record(TINY[5:] + b"\0"), Reason.HELLO_MALFORMED),
    "a second hello in its record": (record(TINY[5:] * 2), Reason.HELLO_MALFORMED),
    "the same, split": (record(TINY[5:20]) + record(TINY[20:] + b"\0"), Reason.HELLO_MALFORMED),
    "a session id of 33 bytes": (record(message(A_TEST, session_id=b"s" * 33)), Reason.HELLO_MALFORMED),
    "no cipher suites": (record(message(A_TEST, suites=b"")), Reason.HELLO_MALFORMED),
    "half a cipher suite": (record(message(A_TEST, suites=b"\x13\x01\x13")), Reason.HELLO_MALFORMED),
    "no compression method": (record(message(A_TEST, methods=b"")), Reason.HELLO_MALFORMED),
    "half a length of extensions": (record(handshake(WITHOUT_EXTENSIONS[9:] + b"\0")), Reason.HELLO_MALFORMED),
    "extensions shorter than said": (
        record(handshake(WITHOUT_EXTENSIONS[9:] + b"\0\x10" + A_TEST)),
        Reason.HELLO_MALFORMED,
    ),
    "bytes behind the extensions": (
        record(handshake(WITHOUT_EXTENSIONS[9:] + vector16(A_TEST) + b"\0")),
        Reason.HELLO_MALFORMED,
    ),
    "three bytes of an extension": (hello(A_TEST, b"\0\x17\0"), Reason.HELLO_MALFORMED),
    "an extension too long": (hello(A_TEST, b"\0\x17\0\1"), Reason.HELLO_MALFORMED),
    "an extension twice": (hello(A_TEST, extension(23), extension(23)), Reason.HELLO_MALFORMED),
    "ALPN twice": (hello(A_TEST, alpn(b"h2"), alpn(b"h2")), Reason.HELLO_MALFORMED),
    "versions twice": (hello(A_TEST, supported_versions(0x0304), supported_versions(0x0304)), Reason.HELLO_MALFORMED),
    "ALPN without a list": (hello(A_TEST, extension(16)), Reason.HELLO_MALFORMED),
    "an empty ALPN list": (hello(A_TEST, alpn()), Reason.HELLO_MALFORMED),
    "an empty protocol": (hello(A_TEST, alpn(b"h2", b"")), Reason.HELLO_MALFORMED),
    "a protocol too long": (hello(A_TEST, extension(16, b"\0\3\3h2")), Reason.HELLO_MALFORMED),
    "bytes behind ALPN": (hello(A_TEST, extension(16, b"\0\3\2h2\0")), Reason.HELLO_MALFORMED),
    "no versions": (hello(A_TEST, supported_versions()), Reason.HELLO_MALFORMED),
    "versions without a list": (hello(A_TEST, extension(43)), Reason.HELLO_MALFORMED),
    "half a version": (hello(A_TEST, extension(43, b"\3\3\4\3")), Reason.HELLO_MALFORMED),
    "bytes behind the versions": (hello(A_TEST, extension(43, b"\2\3\4\0")), Reason.HELLO_MALFORMED),
    "a name without a list": (hello(extension(0)), Reason.HELLO_MALFORMED),
    "an empty list of names": (hello(server_name()), Reason.HELLO_MALFORMED),
    "bytes behind the list of names": (hello(extension(0, LIST_OF_ONE + b"\0")), Reason.HELLO_MALFORMED),
    "a list of names too long": (hello(extension(0, b"\0\x0a" + LIST_OF_ONE[2:])), Reason.HELLO_MALFORMED),
    "a name too long": (hello(extension(0, vector16(b"\0\0\7a.test"))), Reason.HELLO_MALFORMED),
    "a name too short": (hello(extension(0, vector16(b"\0\0\5a.test"))), Reason.HELLO_MALFORMED),
    "only a type of a name": (hello(extension(0, vector16(b"\0"))), Reason.HELLO_MALFORMED),
    "no block of extensions": (WITHOUT_EXTENSIONS, Reason.SNI_MISSING),
    "the same in two records": (split(WITHOUT_EXTENSIONS[5:], [20]), Reason.SNI_MISSING),
    "no extensions": (hello(), Reason.SNI_MISSING),
    "no name": (hello(alpn(b"h2")), Reason.SNI_MISSING),
    "two names": (hello(server_name(b"a.test", b"b.test")), Reason.SNI_DUPLICATE),
    "the same name twice": (hello(server_name(b"a.test", b"a.test")), Reason.SNI_DUPLICATE),
    "a name and one of another type": (
        hello(extension(0, vector16(LIST_OF_ONE[2:] + b"\1\0\1x"))),
        Reason.SNI_DUPLICATE,
    ),
    "two name extensions": (hello(A_TEST, alpn(b"h2"), A_TEST), Reason.SNI_DUPLICATE),
    "an IPv4 address": (hello(server_name(b"192.0.2.1")), Reason.SNI_IP_LITERAL),
    "an IPv6 address": (hello(server_name(b"2001:db8::1")), Reason.SNI_IP_LITERAL),
    "a name of another type": (hello(server_name(b"a.test", kind=1)), Reason.SNI_INVALID),
    "an empty name": (hello(server_name(b"")), Reason.SNI_INVALID),
    "a dot": (hello(server_name(b".")), Reason.SNI_INVALID),
    "a NUL": (hello(server_name(b"a.test\0.evil.example")), Reason.SNI_INVALID),
    "a line feed": (hello(server_name(b"a.test\nforged")), Reason.SNI_INVALID),
    "UTF-8": (hello(server_name("bücher.example".encode())), Reason.SNI_INVALID),
    "a fullwidth letter": (hello(server_name("\uff41.test".encode())), Reason.SNI_INVALID),
    "a Kelvin sign": (hello(server_name("\u212a.test".encode())), Reason.SNI_INVALID),
    "a very long name": (hello(server_name(b"a" * 60000)), Reason.HELLO_MALFORMED),  # its record is too large
    "a long name": (hello(server_name(b"a" * 16000)), Reason.SNI_INVALID),
}


def from_openssl(name: str | None, version: ssl.TLSVersion, protocols: Sequence[str] = ()) -> bytes:
    """What Python's ssl, which is OpenSSL, sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("the handshake can't have ended")


def openssl_is_told(data: bytes) -> str | None:
    """The name that an OpenSSL server reads out of these bytes; None where it reads none or refuses them before."""
    names: list[str | None] = []

    def told(_connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int:
        names.append(name)
        return ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR  # that was all we wanted to know

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = told
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    try:
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLError:
        return names[0] if names else None
    raise AssertionError("the handshake can't have succeeded")
