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
_PARAMETER = re.compile(r"([?&](?:\w*password|passcode)=)[^&]*", re.IGNORECASE)


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
    return ServerUrl(text, masked(text))


def masked(text: str) -> str:
    """The text with *** in place of passwords."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))
