"""The URL of a PostgreSQL server, of which no message shows the password.

libpq reads the URL itself (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING), so it may
have all that libpq knows: several hosts, `sslmode`, `passfile`, `service`. Here only what is to be hidden is found.
"""

import re
from dataclasses import dataclass, field

SCHEMES = ("postgresql://", "postgres://")
EXAMPLE = "postgresql://mcproxy@db.example.org/mcproxy"

# From the first colon after the scheme to the last @: more than the password where the URL is malformed, never less.
_PASSWORD = re.compile(r"^(\w+://[^:@/?\[]*):.*@", re.DOTALL)
# The values of all parameters but these are hidden: one whose name is misspelt may be a password's.
_OPEN = (
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssencmode", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
    "krbsrvname", "load_balance_hosts", "options", "passfile", "port", "require_auth", "service", "sslcert",
    "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "sslsni", "ssl_max_protocol_version",
    "ssl_min_protocol_version", "target_session_attrs", "tcp_user_timeout", "user",
)  # fmt: skip
_PARAMETER = re.compile(rf"([?&](?!(?:{'|'.join(_OPEN)})=)[^=&]*=)[^&]*")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A URL as it was written; as a text, and in a repr, it has *** in place of passwords."""

    secret: str = field(repr=False)
    shown: str

    def __str__(self) -> str:
        return self.shown


def parse_server_url(text: str) -> ServerUrl:
    """Raises ValueError, whose message doesn't quote the text."""
    if not text.startswith(SCHEMES):
        raise ValueError(f'must begin with "postgresql://", as in "{EXAMPLE}"')
    if not text.isprintable() or " " in text:
        raise ValueError("a URL has no spaces or control characters; write them as %20 and so on")
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError('a "%" is followed by two hexadecimal digits in a URL; write the character % as %25')
    authority, _, rest = text.partition("://")[2].partition("/")
    user, _, hosts = authority.partition("?")[0].rpartition("@")
    if "@" in user + rest.partition("?")[0] or not all(map(_HOST.fullmatch, hosts.split(","))):
        # libpq would take a part of the password for the host, and its message show it.
        raise ValueError('is not USER:PASSWORD@HOST:PORT/NAME; in a password write "@" as %40, "/" as %2F, "?" as %3F')
    return ServerUrl(text, masked(text))


def masked(text: str) -> str:
    """The text with *** in place of passwords."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))
