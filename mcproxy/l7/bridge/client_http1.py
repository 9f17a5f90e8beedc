"""What answers an HTTP/1.1 client, written by h11.

h11 knows requests by a head of ours alone, because wire/http1.py is the only reader (see there). That head has what
decides how an answer is framed: the method, the version, and whether the connection goes on.
"""

import h11

from mcproxy.l7.bridge.translate import answer_head
from mcproxy.wire.fields import BODILESS
from mcproxy.wire.hpack_block import Field
from mcproxy.wire.http1 import Head
from mcproxy.wire.phrases import phrase


class ClientEnd:
    """What is written in answer to one message at a time. Raises h11.LocalProtocolError for bad answers."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER)
        self._out: list[bytes] = []
        self.last = False  # there is no further request
        self._is_head = False  # the request asks for a head only
        self._chunked = False  # the answer's body, so that trailers can follow

    def __repr__(self) -> str:
        return f"<ClientEnd {self._h11.states}>"

    def take(self) -> bytes:
        """What waits for the client."""
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def begin(self, head: Head) -> None:
        """Tell h11 of a request what decides how its answer is written: by a head of our own, without a body."""
        self._is_head = head.method == b"HEAD"
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

    # Writing

    def interim(self, fields: list[Field]) -> None:
        """A 1xx head of the backend's."""
        status, kept = answer_head(fields)
        self._send(h11.InformationalResponse(status_code=status, headers=kept, reason=phrase(status)))

    def invite(self) -> None:
        """100 (Continue), of our own."""
        self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))

    def switch(self, fields: list[Field], accept: bytes) -> None:
        """101: what follows is the tunnel's, and passes by `raw`."""
        ours = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-accept", accept)]
        kept = [
            field for field in answer_head(fields)[1] if field[0] not in (b"content-length", b"sec-websocket-accept")
        ]
        self._send(h11.InformationalResponse(status_code=101, headers=ours + kept, reason=b"Switching Protocols"))

    def raw(self, data: bytes) -> None:
        """Bytes of the tunnel."""
        self._out.append(data)

    def head(self, fields: list[Field], empty: bool, last: bool) -> int:
        """The head of an answer; `empty`: it has no body; `last`: no further request. Returns the status."""
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
        self._send(h11.Response(status_code=status, headers=kept, reason=phrase(status)))
        return status

    def data(self, data: bytes) -> None:
        """A piece of an answer's body."""
        self._out += self._h11.send_with_data_passthrough(h11.Data(data=data)) or ()

    def end(self, fields: list[Field]) -> None:
        """The end of an answer; trailers go where they can."""
        self._send(h11.EndOfMessage(headers=fields if self._chunked else []))

    def own(self, status: int, last: bool) -> int:
        """A whole answer of our own. Returns the size of its body."""
        body = b"%d %b\n" % (status, phrase(status))
        fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        if last or self.last:
            fields.append((b"connection", b"close"))
        self._send(h11.Response(status_code=status, headers=fields, reason=phrase(status)))
        if not self._is_head:
            self.data(body)
        self._send(h11.EndOfMessage())
        return 0 if self._is_head else len(body)

    def next_message(self) -> bool:
        """Get ready for another request. False: there can't be one."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._is_head = False
        return True

    def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._out.append(data)
