"""Addresses as operators write them: "HOST:PORT", "[::1]:443", ":443", "unix:/path".

Raises ValueError with a sentence that says what to write instead. Names are not resolved here. What passes is one
printable word, or an absolute path of such characters and blanks: the log and a terminal show it as it is.
"""

import re
from ipaddress import ip_address

from mcproxy.model import UNIX_PREFIX, Backend, host_port
from mcproxy.wire.name import normalise

MAX_UNIX_PATH = 107  # sockaddr_un.sun_path is 108 bytes with its closing NUL (unix(7))
_SCOPE = re.compile(r"[A-Za-z0-9._-]+")  # RFC 4007, 11.2 leaves the zone id open; names of interfaces look like this


def is_ip(host: str) -> bool:
    """Whether this is a literal IPv4 or IPv6 address; the latter may have a scope, as in "fe80::1%eth0"."""
    _, percent, scope = host.partition("%")
    if percent and not _SCOPE.fullmatch(scope):
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def split_host_port(text: str) -> tuple[str, int]:
    """Take "HOST:PORT" apart; the host may be empty, and an IPv6 address stands in brackets. Port 0 is allowed."""
    if "://" in text:
        raise ValueError(f'{text!r}: no scheme belongs there; write "HOST:PORT" alone')
    host, colon, port_text = text.rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit():
        raise ValueError(f'{text!r} has no port; write "HOST:PORT"')
    port = int(port_text)
    if port > 65535:
        raise ValueError(f"port {port_text} is above 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or not is_ip(host):
            raise ValueError(f"[{host}] is not an IPv6 address")
    elif ":" in host:
        raise ValueError(f'{text!r}: write an IPv6 address in brackets, as in "[::1]:443"')
    return host, port


def parse_listen(text: str) -> str:
    """Check a listener's address and return it in canonical form: "" or an IP address, and a port."""
    host, port = split_host_port(text)
    if host and not is_ip(host):
        raise ValueError(f'{host!r} is not an IP address; write one, or ":{port}" for every address')
    host = host and str(ip_address(host))
    return host_port(host, port)


def parse_unix(text: str) -> str:
    """The path of "unix:/path"."""
    path = text.removeprefix(UNIX_PREFIX)
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(f'{text!r}: write an absolute path of printable characters, as in "unix:/run/app.sock"')
    if len(path.encode()) > MAX_UNIX_PATH:
        raise ValueError(f"the socket's path is longer than {MAX_UNIX_PATH} bytes")
    return path


def parse_backend(text: str) -> Backend:
    """Check a route's backend: "HOST:PORT", where HOST is an address or a name, or "unix:/path"."""
    if text.startswith(UNIX_PREFIX):
        return Backend(path=parse_unix(text))
    host, port = split_host_port(text)
    if not host:
        raise ValueError(f'{text!r} has no host; write "HOST:PORT" or "unix:/path"')
    if port == 0:
        raise ValueError("port 0 can't be connected to")
    return Backend(str(ip_address(host)) if is_ip(host) else normalise(host), port)
