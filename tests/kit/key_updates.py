"""A TLS 1.3 client that floods its server with KeyUpdate messages (RFC 8446, section 4.6.3), which only OpenSSL's own
client sends on demand: one for each read of its input that begins with "k". A socket that keeps messages apart makes
that one for each `send`. Where many are needed at once, or from a server, `key_updates` makes their bytes.
"""

import hmac
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class KeyUpdates:
    """A connection to 127.0.0.1; closes with the block that it was made for."""

    def __init__(self, port: int, name: str, alpn: str = "h2") -> None:
        self._input, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-alpn", alpn]
        with theirs:
            self._process: subprocess.Popen[Any] = subprocess.Popen(
                [*command, "-tls1_3"], stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self._input.settimeout(0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._input.close()
        self._process.kill()
        self._process.wait()

    def say(self, data: bytes) -> None:
        """Send this first, which no command of OpenSSL's client may begin."""
        self._input.send(data)

    def send(self) -> bool:
        """Send one more. False: the server has ended the connection, or has stopped reading."""
        try:
            self._input.send(b"k\n")
        except OSError:
            return False
        return self._process.poll() is None


def secret(keylog: Path, side: str = "CLIENT") -> bytes:
    """A side's traffic secret of the one TLS 1.3 connection in an `SSLContext.keylog_filename`."""
    line = next(line for line in keylog.read_text().splitlines() if line.startswith(f"{side}_TRAFFIC_SECRET_0 "))
    return bytes.fromhex(line.split()[2])


def key_updates(secret: bytes, count: int, sent: int = 0) -> bytes:
    """So many KeyUpdates, after `sent` other records under this secret of TLS_AES_256_GCM_SHA384.

    Each is under the keys that the one before it brought, as its first record (RFC 8446, sections 5.2 and 7.2).
    """
    update = b"\x18\0\0\x01\0\x16"  # the message, update_not_requested, and the type of what is inside the record
    records = []
    for _ in range(count):
        records.append(_record(secret, sent, update))
        secret, sent = _expanded(secret, b"traffic upd", 48), 0
    return b"".join(records)


def empty_records(secret: bytes, count: int, sent: int = 0) -> bytes:
    """So many records of application data without a byte of it, as `key_updates`."""
    return b"".join(_record(secret, number, b"\x17") for number in range(sent, sent + count))


def _record(secret: bytes, number: int, inside: bytes) -> bytes:
    """The record of this number under a secret; `inside` ends in the type (RFC 8446, sections 5.2 and 5.3)."""
    head = struct.pack(">BHH", 23, 0x0303, len(inside) + 16)
    nonce = int.from_bytes(_expanded(secret, b"iv", 12), "big") ^ number
    return head + AESGCM(_expanded(secret, b"key", 32)).encrypt(nonce.to_bytes(12, "big"), inside, head)


def _expanded(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446, section 7.1, in the one step that is enough for 48 bytes of SHA-384."""
    label = b"tls13 " + label
    info = struct.pack(">HB", size, len(label)) + label + b"\0\x01"
    return hmac.digest(secret, info, "sha384")[:size]
