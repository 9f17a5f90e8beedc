"""Heads of requests and answers in the neutral form of ends.py, and the bytes that each version of HTTP makes of them.

A head is frozen, and the readers of either version keep the heads that they have read (head_cache.py), so its bytes
are made once, and not for each exchange. What belongs to one exchange or one connection is not in them: how a body is
framed in HTTP/1.1, whether the connection goes on, and the fields that we add for each client.
"""

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from mcproxy.wire.fields import FINAL_STATUS, Request
from mcproxy.wire.hpack_block import Field, encode, literal
from mcproxy.wire.phrases import phrase

_OF_THE_MESSAGE = frozenset((b"cookie", b"content-length", b"te"))  # which `RequestHead.lines` writes itself, or drops
# RFC 8441, section 5, and no body is declared: what follows are the tunnel's bytes.
_NOT_IN_CONNECT = (b"sec-websocket-key", b"sec-websocket-accept", b"content-length")
# Methods for whose content there is no defined use (RFC 9110, sections 9.3.1, 9.3.2, 9.3.5, 9.3.7 and 9.3.8).
_WITHOUT_CONTENT = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"))


class Upgrade(Enum):
    """Whether a request asks its connection to change to another protocol (RFC 9110, section 7.8)."""

    NONE = "none"  # or to one that we are free to ignore
    WEBSOCKET = "websocket"
    OTHER = "other"  # which only a backend of HTTP/1.1 may know


@dataclass(frozen=True)
class Forwarded:
    """The fields that we add to each request of one client; a form is made when it is needed."""

    fields: tuple[Field, ...]

    @cached_property
    def lines(self) -> bytes:
        """Lines of HTTP/1.1."""
        return field_lines(self.fields)

    @cached_property
    def block(self) -> bytes:
        """Literals of HPACK."""
        return b"".join([literal(name, value) for name, value in self.fields])


def field_lines(fields: tuple[Field, ...] | list[Field]) -> bytes:
    """Return fields as lines of HTTP/1.1."""
    return b"".join([b"%b: %b\r\n" % each for each in fields])


@dataclass(slots=True)
class RequestHead:
    """A request's head, as it passes to any backend; frozen, though no decorator says so: one is made for each request.

    `fields` are without pseudo-fields and `host`, which `request` has, without hop-by-hop fields, and those that
    we add. content-length is one of them where it was declared.
    """

    request: Request  # for the log and the rules
    scheme: bytes
    fields: tuple[Field, ...]
    upgrade: Upgrade = Upgrade.NONE
    upgrade_to: bytes = b""  # the value of Upgrade, as an HTTP/1.1 client sent it; of an extended CONNECT, :protocol
    chunked: bool = False  # a body of undeclared length follows
    expects_continue: bool = False
    takes_interim: bool = True  # HTTP/1.0 knows no 1xx (RFC 9110, section 15.2)
    key: bytes = field(default=b"", compare=False)  # Sec-WebSocket-Key, which an HTTP/1.1 client sent
    # One that is the same but for the path, and without an upgrade: the bytes of this one come of its bytes.
    template: "RequestHead | None" = field(default=None, compare=False, repr=False)
    _lines: bytes = field(default=b"", init=False, compare=False, repr=False)
    _block: bytes = field(default=b"", init=False, compare=False, repr=False)
    _around: tuple[bytes, bytes] | None = field(default=None, init=False, compare=False, repr=False)

    def with_request(self, request: Request) -> "RequestHead":
        """Return the same head for a request that differs in its path only. Neither asks for an upgrade."""
        return RequestHead(
            request, self.scheme, self.fields, self.upgrade, self.upgrade_to, self.chunked, self.expects_continue,
            self.takes_interim, self.key, self.template or self,
        )  # fmt: skip

    @property
    def lines(self) -> bytes:
        """Request line and fields of HTTP/1.1, without ours, those of an upgrade, and the empty line at the end.

        TE ends here, because we take trailers from any backend. The crumbs of a cookie are one field (RFC 9113, section
        8.2.3), and the declared length is as `request` has it, so that nothing else can frame the message.
        """
        if not self._lines:
            self._lines = self._made_lines()
        return self._lines

    def _made_lines(self) -> bytes:
        request, template = self.request, self.template
        if template is not None:
            lines, at = template.lines, len(request.method) + 1
            return b"%b%b%b" % (lines[:at], request.path, lines[at + len(template.request.path) :])
        crumbs = [value for name, value in self.fields if name == b"cookie"]
        rest = tuple([field for field in self.fields if field[0] not in _OF_THE_MESSAGE])
        if crumbs:
            rest = (*rest, (b"cookie", b"; ".join(filter(None, crumbs))))
        if request.content_length >= 0:
            rest = (*rest, (b"content-length", b"%d" % request.content_length))
        method = b"GET" if request.protocol else request.method  # RFC 8441, section 5
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b" % (method, request.path, request.authority, field_lines(rest))

    @property
    def hides_its_body(self) -> bool:
        """Whether servers are known to overlook its body, and to take it for the next request ("CL.0").

        RFC 9110 warns of that for methods like GET; of Expect, many a server reads half of what it means.
        """
        return self.request.method in _WITHOUT_CONTENT or b"expect" in [name for name, _ in self.fields]

    @property
    def is_websocket(self) -> bool:
        """Whether the request asks for a WebSocket."""
        return self.upgrade is Upgrade.WEBSOCKET

    @property
    def block(self) -> bytes:
        """A header block of HPACK that leaves every dynamic table as it is.

        A request for a WebSocket is an extended CONNECT (RFC 8441, section 5), whatever it came as.
        """
        if not self._block:
            self._block = self._made_block()
        return self._block

    def _made_block(self) -> bytes:
        request, fields, template = self.request, self.fields, self.template
        if template is not None:
            before, behind = template.around_path
            return before + encode([(b":path", request.path)]) + behind
        method = [(b":method", request.method)]
        if self.is_websocket:
            method = [(b":method", b"CONNECT"), (b":protocol", b"websocket")]
            fields = tuple(field for field in fields if field[0] not in _NOT_IN_CONNECT)
        target = [(b":scheme", self.scheme), (b":authority", request.authority), (b":path", request.path)]
        return encode([*method, *target, *fields])

    @property
    def around_path(self) -> tuple[bytes, bytes]:
        """What `block` has before :path and behind it, for heads that differ in that only. A memo."""
        if self._around is None:
            request = self.request
            method, scheme, authority = request.method, self.scheme, request.authority
            before = encode([(b":method", method), (b":scheme", scheme), (b":authority", authority)])
            self._around = before, encode(list(self.fields))
        return self._around


@dataclass(frozen=True)
class AnswerHead:
    """An answer's head, final or interim, as it passes to any client.

    `fields` are without :status and hop-by-hop fields. content-length is one of them where it was declared.
    """

    status: int
    fields: tuple[Field, ...]
    content_length: int  # NO_LENGTH: not declared
    grpc_status: int | None = None  # None: it is not the whole answer of gRPC
    upgrade_to: bytes = b""  # of a 101: the value of Upgrade

    @cached_property
    def block(self) -> bytes:
        """A header block of HPACK that leaves every dynamic table as it is."""
        return encode([(b":status", b"%d" % self.status), *self.fields])

    @cached_property
    def lines(self) -> bytes:
        """Status line and fields of HTTP/1.1, without the empty line at the end."""
        fields = self.fields
        if self.status < FINAL_STATUS or self.status == 204:  # RFC 9110, section 8.6
            fields = tuple([field for field in fields if field[0] != b"content-length"])
        return b"HTTP/1.1 %d %b\r\n" % (self.status, phrase(self.status)) + field_lines(fields)
