"""Addresses as operators write them: "HOST:PORT", "[::1]:443", ":443", "unix:/path".

Raises ValueError with a sentence that says what to write instead. Names are not resolved here. What passes is one
printable word, or an absolute path of such characters and blanks: the log and a terminal show it as it is.
"""

import re
from ipaddress import ip_address

from mcproxy.model import UNIX_PREFIX, Backend, host_port
from mcproxy.notation.name import normalise
from mcproxy.words import MAX_SHOWN, quoted

MAX_UNIX_PATH = 107  # sockaddr_un.sun_path is 108 bytes with its closing NUL (unix(7))
# Bytes of the admin socket's path: its name before it is in place takes ten of them (admin/entrance.py).
MAX_API_PATH = MAX_UNIX_PATH - 10
MAX_PORT = 65535
MAX_PORT_DIGITS = 20  # leading zeroes included; more is no port, and more than int() should be asked for
# Ports that people know by a name, and schemes that stand for one.
_PORTS = {"https": 443, "wss": 443, "tls": 443, "ssl": 443, "http": 80, "h2c": 80, "ws": 80, "smtps": 465, "imaps": 993}
_SCOPE = re.compile(r"[A-Za-z0-9._-]+")  # RFC 4007, 11.2 leaves the zone id open; names of interfaces look like this


def is_ip(host: str) -> bool:
    """True if this is a literal IPv4 or IPv6 address; the latter may have a scope, as in "fe80::1%eth0"."""
    _, percent, scope = host.partition("%")
    if percent and not _SCOPE.fullmatch(scope):
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def split_host_port(text: str) -> tuple[str, int]:
    """Take "HOST:PORT" apart; the host may be empty, and an IPv6 address must be in brackets. Port 0 is allowed."""
    if text != text.strip():
        raise ValueError(f"{quoted(text)} begins or ends with a blank; write {quoted(text.strip())}")
    if "://" in text:
        raise ValueError(f"{quoted(text)} is a URL; write {quoted(_without_scheme(text))}")
    host, colon, port_text = text.rpartition(":")
    if not colon or not (port_text.isascii() and port_text.isdigit()):
        raise ValueError(_no_port(text, host, port_text))
    if len(port_text) > MAX_PORT_DIGITS or int(port_text) > MAX_PORT:
        raise ValueError(f"port {port_text[:MAX_SHOWN]} is above {MAX_PORT}; write one from 1 to {MAX_PORT}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or not is_ip(host):
            raise ValueError(f'{quoted(f"[{host}]")} is not an IPv6 address; brackets are for those, as in "[::1]:443"')
    elif ":" in host:
        raise ValueError(_no_brackets(text, host, port_text))
    return host, int(port_text)


def _without_scheme(url: str) -> str:
    """The address in a URL, with the port that its scheme stands for where it has none."""
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if re.search(r":\d+$", host):
        return host
    return f"{host or 'HOST'}:{_PORTS.get(scheme.lower(), 'PORT')}"


def _no_port(text: str, host: str, port: str) -> str:
    """Why the port of an address can't be read, and what to write."""
    if text.isascii() and text.isdigit():
        return f"{quoted(text)} has no colon; write {quoted(f':{text}')}"
    if text.startswith("/"):
        return f"{quoted(text)} is a path; write {quoted(UNIX_PREFIX + text)}"
    if is_ip(text) and ":" in text:
        return f"{quoted(text)} has no port; write {quoted(f'[{text}]:PORT')}"
    if not text:
        return '"" is empty; write "HOST:PORT"'
    if ":" not in text:
        return f"{quoted(text)} has no port; write {quoted(f'{text}:PORT')}"
    if port.lower() in _PORTS:
        return f"port {quoted(port)} is a name; write its number, {quoted(f'{host}:{_PORTS[port.lower()]}')}"
    if port.isascii() and port.isalpha():
        return f"port {quoted(port)} is a name; write its number, as in {quoted(f'{host}:443')}"
    if port:
        return f"port {quoted(port)} is not a number from 1 to {MAX_PORT}; write {quoted(f'{host}:PORT')}"
    return f"{quoted(text)} has no port; write {quoted(f'{text}PORT')}"


def _no_brackets(text: str, host: str, port: str) -> str:
    if is_ip(host):
        return f"{quoted(text)}: an IPv6 address must be in brackets; write {quoted(f'[{host}]:{port}')}"
    if is_ip(text):
        return f"{quoted(text)} is an IPv6 address without a port; write {quoted(f'[{text}]:PORT')}"
    return f'{quoted(text)} has more than one colon; write "HOST:PORT", and an IPv6 address in brackets'


def parse_listen(text: str) -> str:
    """Check a listener's address and return it in canonical form: "" or an IP address, and a port."""
    if text.startswith(UNIX_PREFIX):
        raise ValueError(f'{quoted(text)}: a listener has an IP address and a port; write ":443", or "192.0.2.1:443"')
    host, port = split_host_port(text)
    if host and not is_ip(host):
        raise ValueError(
            f"{quoted(host)} is not an IP address; write one, or {quoted(f':{port}')} for every address of this machine"
        )
    host = host and str(ip_address(host))
    return host_port(host, port)


def parse_unix(text: str) -> str:
    """The path of "unix:/path"."""
    path = text.removeprefix(UNIX_PREFIX)
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(
            f'{quoted(text)} has no absolute path of printable characters; write one, as in "unix:/run/app.sock"'
        )
    if len(path.encode()) > MAX_UNIX_PATH:
        raise ValueError(
            f"the socket's path has {len(path.encode())} bytes, more than {MAX_UNIX_PATH}; give it a shorter one"
        )
    return path


def parse_backend(text: str) -> Backend:
    """Check a route's backend: "HOST:PORT", where HOST is an address or a name, or "unix:/path"."""
    if text.startswith(UNIX_PREFIX):
        return Backend(path=parse_unix(text))
    host, port = split_host_port(text)
    if not host:
        raise ValueError(f'{quoted(text)} has no host; write {quoted(f"127.0.0.1:{port}")} or "unix:/path"')
    if port == 0:
        raise ValueError("port 0 can't be connected to; write the port that the backend listens on")
    return Backend(str(ip_address(host)) if is_ip(host) else _resolvable(host), port)


def _resolvable(name: str) -> str:
    """A host name in canonical form, but with its final dot: that keeps the resolver from its search domains."""
    return normalise(name) + "." * name.endswith(".")


def parse_api(text: str) -> str:
    """Check the address of an admin API and return it in canonical form. Raises ValueError."""
    if text.startswith(UNIX_PREFIX):
        path = parse_unix(text)
        if len(path.encode()) > MAX_API_PATH:
            raise ValueError(
                f"the path of the admin API's socket is longer than {MAX_API_PATH} bytes; give a shorter one: {path}"
            )
        return UNIX_PREFIX + path
    host, port = split_host_port(text)
    if not host:
        raise ValueError(
            'name the host, as in "127.0.0.1:9090": the admin API should not listen everywhere by accident'
        )
    return host_port(host, port)
