import os
import pwd
from collections.abc import Sequence
from typing import Any

import pytest

from mcproxy.admin import caller
from mcproxy.admin.contract import CLAIM
from mcproxy.admin.errors import InvalidField
from mcproxy.change import Said

ME = f"user:{pwd.getpwuid(os.getuid()).pw_name}:{os.getuid()}"
TCP = "unix-abstract:mcproxy-00ff-ip7f000001-7"  # gRPC's name of a peer
NOBODY_HAS = 4_000_000_000  # a user id


class Context:
    """As much of gRPC's context as says who calls."""

    def __init__(self, peer: str, said: Sequence[tuple[str, bytes]] = (), **certified: list[bytes]) -> None:
        self._peer = peer
        self._said = said
        self._certified = certified

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._certified

    def invocation_metadata(self) -> Sequence[tuple[str, bytes]]:
        return self._said


@pytest.mark.parametrize(
    ("context", "name"),
    [
        (Context(TCP, x509_common_name=[b"alice"]), "cert:alice"),
        (Context(TCP, x509_common_name=[b"eve\n\x1b[2J"]), "cert:eve??[2J"),
        (
            Context(TCP, x509_subject_alternative_name=[b"ops.example.org"]),
            "cert:ops.example.org",
        ),
        (Context(TCP, transport_security_type=[b"ssl"]), "tls"),
        (Context(f"unix-abstract:mcproxy-00ff-{os.getuid()}-7"), ME),
        (Context(f"unix-abstract:mcproxy-00ff-{NOBODY_HAS}-7"), f"user::{NOBODY_HAS}"),
    ],
)
def test_who_calls(context: Any, name: str) -> None:
    assert caller.who(context) == name


@pytest.mark.parametrize(
    ("metadata", "comment", "said"),
    [
        ((), "", Said()),
        ([(CLAIM, b"alice")], "  because \n of X ", Said("alice", "because of X")),
        ([("user-agent", b"grpc"), (CLAIM, "b\u00fcrgl\x1b".encode())], "", Said("b\u00fcrgl?")),
        ([(CLAIM, b"\xff\xfe")], "\u00e4" * 500, Said("\ufffd\ufffd", "\u00e4" * 500)),
    ],
)
def test_what_is_said_is_one_clean_line(metadata: Any, comment: str, said: Said) -> None:
    context: Any = Context(TCP, metadata)
    assert caller.said(context, comment) == said


@pytest.mark.parametrize(("claim", "comment", "field"), [(b"a" * 65, "", CLAIM), (b"", "a" * 501, "comment")])
def test_what_is_said_at_length_is_refused(claim: bytes, comment: str, field: str) -> None:
    context: Any = Context(TCP, [(CLAIM, claim)])
    with pytest.raises(InvalidField, match=rf"^{field}: has \d+ characters"):
        caller.said(context, comment)


@pytest.mark.parametrize(
    ("peer", "ip"),
    [
        ("unix-abstract:mcproxy-00ff-ipc0000207-7", "192.0.2.7"),
        ("unix-abstract:mcproxy-00ff-ip20010db8000000000000000000000001-7", "2001:db8::1"),
        ("unix-abstract:mcproxy-00ff-0-7", ""),
        ("unix:", ""),
    ],
)
def test_where_a_call_comes_from(peer: str, ip: str) -> None:
    context: Any = Context(peer)
    assert caller.ip(context) == ip
