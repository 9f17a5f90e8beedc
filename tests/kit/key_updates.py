"""A TLS 1.3 client that floods its server with KeyUpdate messages (RFC 8446, section 4.6.3), which only OpenSSL's own
client sends on demand: one for each read of its input that begins with "k". A socket that keeps messages apart makes
that one for each `send`.
"""

import socket
import subprocess
from typing import Any, Self


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

    def send(self) -> bool:
        """Send one more. False: the server has ended the connection, or has stopped reading."""
        try:
            self._input.send(b"k\n")
        except OSError:
            return False
        return self._process.poll() is None
