"""The client's end of an exchange in HTTP/1.1: h11 writes the answers.

h11 never sees the client's requests, because wire/http1.py is the only reader (see there). It gets a head of ours with
what decides how an answer is framed: the method, the version, and whether the connection goes on.
"""

from collections.abc import Callable
from typing import Any

import h11

from mcproxy.l7.bridge.ends import BackendFault
from mcproxy.l7.bridge.translate import accept_key, answer_head
from mcproxy.wire.fields import BODILESS
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import Head
from mcproxy.wire.phrases import phrase


class Http1Answers:
    """Writes the answer to one request at a time: a `ClientEnd` (ends.py), made ready by `begin` and `next_message`."""

    __slots__ = ("_chunked", "_h11", "_in_tunnel", "_is_head", "_key", "_out", "broken", "last")

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER)
        self._out: list[bytes] = []
        self._is_head = False  # the request asks for a head only
        self._key = b""  # the request's Sec-WebSocket-Key
        self._chunked = False  # the answer's body, so that trailers can follow
        self._in_tunnel = False
        self.last = False  # the connection takes no further request
        self.broken = False  # an answer broke off: the connection must end with a RST

    def __repr__(self) -> str:
        return f"<Http1Answers {self._h11.states}{' broken' if self.broken else ''}>"

    def take(self) -> bytes:
        """Bytes for the client, each once."""
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def begin(self, head: Head) -> None:
        """Get ready to answer a request: give h11 a head of our own, without a body, that is answered alike."""
        self._is_head = head.method == b"HEAD"
        self._key = next((value for name, value in head.fields if name == b"sec-websocket-key"), b"")
        self._h11.receive_data(
            b"%b / HTTP/1.%d\r\nHost: -\r\n%b%b\r\n"
            % (
                b"HEAD" if self._is_head else b"GET",
                head.minor,
                b"Connection: close\r\n" if b"close" in head.tokens(b"connection") else b"",
                b"Upgrade: websocket\r\n" if head.tokens(b"upgrade") else b"",
            )
        )
        self._h11.next_event()  # the request
        self._h11.next_event()  # its end

    # Writing: ClientEnd

    def interim(self, fields: list[Field]) -> None:
        """Write a 1xx head that the backend sent."""
        status, kept = answer_head(fields)
        self._send(h11.InformationalResponse, status_code=status, headers=kept, reason=phrase(status))

    def invite(self) -> None:
        """Write our own 100 (Continue)."""
        self._send(h11.InformationalResponse, status_code=100, headers=[], reason=b"Continue")

    def tunnel(self, fields: list[Field]) -> int:
        """Write 101 (Switching Protocols). Returns the status."""
        accept = accept_key(self._key)
        ours = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-accept", accept)]
        kept = [
            field for field in answer_head(fields)[1] if field[0] not in (b"content-length", b"sec-websocket-accept")
        ]
        self._send(h11.InformationalResponse, status_code=101, headers=ours + kept, reason=b"Switching Protocols")
        self._in_tunnel = True
        return 101

    def head(self, fields: list[Field], empty: bool, last: bool) -> int:
        """Write a final head; `empty`: it has no body; `last`: no further request. Returns the status."""
        status, kept = answer_head(fields)
        has_length = any(name == b"content-length" for name, _ in kept)
        if empty and not has_length and status not in BODILESS and not self._is_head:
            kept.append((b"content-length", b"0"))
            has_length = True
        self._chunked = (
            not (has_length or self._is_head or status in BODILESS) and self._h11.their_http_version == b"1.1"
        )
        if last or self.last:
            kept.append((b"connection", b"close"))
        self._send(h11.Response, status_code=status, headers=kept, reason=phrase(status))
        return status

    def body(self, data: bytes) -> None:
        """Write a piece of the body, or of the tunnel."""
        if self._in_tunnel:
            self._out.append(data)
            return
        try:
            self._out += self._h11.send_with_data_passthrough(h11.Data(data=data)) or ()
        except h11.LocalProtocolError as error:
            raise BackendFault(str(error)) from error

    def end(self, trailers: list[Field]) -> None:
        """Write the end; trailers are written only in a chunked body."""
        self._send(h11.EndOfMessage, headers=trailers if self._chunked else [])

    def own(self, status: int, last: bool) -> int:
        """Write a whole answer of our own. Returns the size of its body in bytes."""
        body = b"%d %b\n" % (status, phrase(status))
        fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        if last or self.last:
            fields.append((b"connection", b"close"))
        self._send(h11.Response, status_code=status, headers=fields, reason=phrase(status))
        if not self._is_head:
            self.body(body)
        self._send(h11.EndOfMessage)
        return 0 if self._is_head else len(body)

    def reset(self) -> None:
        """The answer broke off. Only a RST says that in HTTP/1.1: the connection reads `broken`, and ends so."""
        self.broken = True

    def next_message(self) -> bool:
        """Get ready for another request. False: there can't be one."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._is_head = False
        return True

    def _send(self, event: Callable[..., h11.Event], **fields: Any) -> None:
        """Make an event, which checks the fields, and write it."""
        try:
            data = self._h11.send(event(**fields))
        except h11.LocalProtocolError as error:
            raise BackendFault(str(error)) from error
        if data:
            self._out.append(data)
