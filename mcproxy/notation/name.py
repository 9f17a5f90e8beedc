"""Host names: the one place where a name gets the form in which names are compared.

Configuration, routing, the log and the admin API all call `normalise`, so that "Bücher.Example.", "BÜCHER.example" and
"xn--bcher-kva.example" are one route. A normalised name is lower case ASCII without a trailing dot, made of LDH labels
(RFC 5890, 2.3.1: letters, digits, and hyphens that are neither first nor last) in which underscores pass too, because
real services have them.

The client's side of a handshake takes the short way: its name must be ASCII (RFC 6066, 3), and one regular expression
says yes. Only what that expression declines is looked at again, slowly, to say what is wrong with it.
"""

import re

import idna

from mcproxy.model import Reason
from mcproxy.words import quoted

MAX_NAME_BYTES = 253  # RFC 1035, 2.3.4: 255 octets on the wire, of which two are a first length and the root
MAX_LABEL_BYTES = 63  # RFC 1035, 2.3.4
LOOKED_AT = 4 * MAX_NAME_BYTES  # octets; of a longer name only that is wrong: the rest takes a millisecond to look at

# `re` is quick with a literal dot straight after the repetition, so the look-behind for a hyphen comes after the dot.
# No possessive quantifiers, which would spare the backtracking: Python 3.11.0 to 3.11.4 match them wrongly (gh-106052).
_LABEL = rf"[a-z0-9_][a-z0-9_-]{{0,{MAX_LABEL_BYTES - 1}}}"
_is_host_name = re.compile(rf"(?:{_LABEL}\.(?<!-\.))*(?![0-9]+\Z){_LABEL}(?<!-)").fullmatch
_foreign_character = re.compile(r"[^a-z0-9_.-]").search


class InvalidName(ValueError):
    """Not a host name. `reason` is SNI_IP_LITERAL or SNI_INVALID; `fault`, plain ASCII, says what is wrong.

    The message adds what to write, for who wrote the name: a client's name has no such reader.
    """

    def __init__(self, reason: Reason, fault: str, remedy: str = "") -> None:
        super().__init__(f"{fault}; {remedy}" if remedy else fault)
        self.reason = reason
        self.fault = fault


def normalise(name: str) -> str:
    """The form of `name` in which host names are compared; normalising it again changes nothing.

    Upper case becomes lower, one trailing dot goes, U-labels become A-labels (UTS #46, then RFC 5891). Raises
    InvalidName.
    """
    plain = (name.lower() if name.isascii() else _to_ascii(name)).removesuffix(".")
    if len(plain) <= MAX_NAME_BYTES and _is_host_name(plain):
        return plain
    raise _defect(name, plain)


def _to_ascii(name: str) -> str:
    """`name` mapped to lower case ASCII, label by label: what is ASCII already need not be IDNA (underscores)."""
    try:
        mapped = idna.uts46_remap(name, std3_rules=False)
        labels = [label if label.isascii() else idna.alabel(label).decode("ascii") for label in mapped.split(".")]
    except idna.IDNAError as error:
        why = str(error).encode("ascii", "backslashreplace").decode("ascii")
        raise InvalidName(Reason.SNI_INVALID, f"{_shown(name)} is not an internationalised name: {why:.200}") from error
    return ".".join(labels)


def _defect(name: str, plain: str) -> InvalidName:
    """The defect of `name`, which in ASCII is `plain`."""
    if len(plain) > LOOKED_AT:
        return InvalidName(Reason.SNI_INVALID, f"{_shown(name)} {_too_long(plain)}", _remedy(plain))
    labels = plain.split(".")
    if more := _more_than_a_name(plain):
        fault = more
    elif ":" in plain or "[" in plain or labels[-1].isdigit():
        # RFC 6066, 3: literal addresses are not permitted. No top-level domain is all digits, and what ends in a
        # number is an address to some reader or other (RFC 3696, 2; WHATWG URL, 'ends in a number').
        return InvalidName(Reason.SNI_IP_LITERAL, f"{_shown(name)} {_address(plain)}", _remedy(plain))
    elif not plain:
        fault = "is empty"
    elif "*" in plain:
        fault = 'contains "*"'
    elif foreign := _foreign_character(plain):
        fault = f"contains {_shown(foreign.group())}"
    elif len(plain) > MAX_NAME_BYTES:
        fault = _too_long(plain)
    elif not all(labels):
        fault = "has an empty label"
    elif longest := next((label for label in labels if len(label) > MAX_LABEL_BYTES), ""):
        fault = f"has a label of {len(longest)} octets, more than {MAX_LABEL_BYTES}"
    else:
        fault = "has a label that begins or ends with a hyphen"
    return InvalidName(Reason.SNI_INVALID, f"{_shown(name)} {fault}", _remedy(plain))


def _too_long(name: str) -> str:
    return f"is {len(name)} octets long, more than {MAX_NAME_BYTES}"


def _more_than_a_name(plain: str) -> str:
    if "://" in plain:
        return "is a URL"
    host, _, port = plain.rpartition(":")
    return "has a port" if port.isdigit() and _is_host_name(host) else ""


def _address(plain: str) -> str:
    if ":" in plain or "[" in plain or not plain.strip("0123456789."):
        return "is an IP address, not a host name"
    return "ends in a number, as only IP addresses do"


def _remedy(plain: str) -> str:
    """The text to write instead: the host name within it, if there is one."""
    if "*" in plain:
        return "there are no wildcards, so add a route for each name"
    rest = plain[: 2 * MAX_NAME_BYTES].strip().rpartition("://")[2].rpartition("@")[2]
    host = re.split(r"[/?#:]", rest, maxsplit=1)[0].strip("-. ")
    return f"write {_shown(host)}" if _is_host_name(host) else 'write a host name, such as "www.example.org"'


def _shown(name: str) -> str:
    """`name` for a message, in ASCII."""
    return quoted(name).encode("ascii", "backslashreplace").decode("ascii")
