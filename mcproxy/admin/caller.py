"""The caller of a method: the identity that the connection proves, and the caller's claims.

The certificate or the user id on the UNIX socket is proved; the audit has it as `who`. The caller only claims on whose
behalf it acts and why: such texts are cleaned and bounded here, and kept apart in the audit.
"""

import pwd
from collections.abc import Mapping
from typing import Any

import grpc

from mcproxy.admin.contract import CLAIM
from mcproxy.admin.errors import InvalidField
from mcproxy.admin.peer import peer_of
from mcproxy.change import Said
from mcproxy.model import MAX_CLAIM, MAX_COMMENT


def who(context: grpc.ServicerContext) -> str:
    """The proved identity: the name in the certificate, or the user on the UNIX socket."""
    certified: Mapping[str, Any] = context.auth_context()
    for field in ("x509_common_name", "x509_subject_alternative_name"):
        if names := certified.get(field):
            return "cert:" + _printable(_text(names[0]))
    uid = peer_of(context.peer()).uid
    return "tls" if uid is None else f"user:{_user_name(uid)}:{uid}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""  # a user of the host, seen from a container


def said(context: grpc.ServicerContext, comment: str) -> Said:
    """The caller's claims about itself and the change. Raises InvalidField."""
    claim = next((value for key, value in context.invocation_metadata() or () if key == CLAIM), "")
    return Said(_bounded(CLAIM, claim, MAX_CLAIM), _bounded("comment", comment, MAX_COMMENT))


def _bounded(field: str, text: bytes | str, longest: int) -> str:
    line = _printable(" ".join(_text(text).split()))
    if len(line) > longest:
        raise InvalidField(field, f"has {len(line)} characters; the audit keeps at most {longest}")
    return line


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def ip(context: grpc.ServicerContext) -> str:
    """The address that a call comes from; "" where it comes through the UNIX socket."""
    return peer_of(context.peer()).ip
