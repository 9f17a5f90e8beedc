"""mcproxy: a TLS SNI router.

The life of one connection, and the file that owns each step:

    accept            net/listener.py      a raw socket and its peer address, many for each wake-up
    PROXY header      net/admission.py     only where the listener wants one, only from trusted_proxies
    firewall, limits  policy/firewall.py   IP, CIDR, country; then policy/limits.py: how many, how fast
    peek              net/peek.py          the ClientHello stays in the kernel; wire/hello.py reads the copy
    route             policy/routing.py    the name, exactly, in the table that the session began with
    reach             net/reach.py         TCP or UNIX socket (dial.py), PROXY header out if the route asks for it
    relay             net/relay.py         recv and send for talk, splice for bulk, until both sides have ended
      or terminate    l7/terminate.py      an l7 route: TLS ends here, l7/sockets/drive.py proxies HTTP/2 or HTTP/1.1
    count and log     stats.py, journal.py one line a connection, also for refused ones (lines.py, log.py)

A failure before the relay raises `Refused`, which carries a `Reason`; the client gets a RST and nothing else.
`net/session.py` runs these steps in one function; `app.py` builds the parts.
"""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader

__version__ = "0.1.0"


def _source_only(folder: str) -> FileFinder:
    """Find modules of this package by their source, though they are compiled, too (native.py)."""
    if not folder.startswith(__path__[0]):
        raise ImportError
    return FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))


if os.environ.get("MCPROXY_PURE") == "1":
    sys.path_hooks.insert(0, _source_only)
