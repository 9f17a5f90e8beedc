"""HTTP/1.1 on the backend's side, beside h11: its answers as we read them, and what it gets of a client's requests."""

from collections.abc import Hashable

import h11

from mcproxy.l7.bridge.heads import Upgrade
from mcproxy.l7.bridge.http1_connection import Http1Connection
from mcproxy.l7.bridge.request_heads import RequestHeads
from mcproxy.l7.core import Turn
from mcproxy.wire.fields import passed_request_trailers
from mcproxy.wire.http1_answers import Answers, parse_answer
from mcproxy.wire.http1_framing import BadMessage
from tests.fuzz.engine import Target
from tests.fuzz.http import HEAD
from tests.kit.noted_exchange import FORWARDED, sent

Fields = list[tuple[bytes, bytes]]
Answer = tuple[list[int], Fields, bytes, bool]  # statuses, fields of the final head, body, whether whole


def ours(data: bytes, step: int) -> Answer | str:
    """The first answer in our reading, of a connection that ends behind `data`; the reason of a refusal."""
    answers, at, statuses, fields = Answers(), 0, list[int](), Fields()
    body: list[bytes] = []
    final = whole = False
    try:
        for end in range(step, len(data) + step, step):
            while at < len(data) and not whole:
                seen = data[at:end]
                if final:
                    size, _ = answers.next_body(seen, 0, 1_000, body)
                    whole = not answers.in_body
                elif size := answers.head_size(seen) if seen else 0:
                    answer = parse_answer(seen[:size])
                    statuses.append(answer.status)
                    final, fields = not answer.is_interim, list(answer.fields)
                    whole = final and not answers.begin_body(answer)
                at += size
                if not size:
                    break
    except BadMessage as bad:
        return bad.why
    whole = whole or (final and answers.ends_with_connection)
    return statuses, fields + (answers.trailers if whole else []), b"".join(body), whole


def h11_says(data: bytes) -> Answer | str:
    """The same, as h11 reads it."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 18)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "one.test")]))
    client.send(h11.EndOfMessage())
    statuses, fields, body = list[int](), Fields(), b""
    try:
        client.receive_data(data)
        client.receive_data(b"")
        while True:
            event = client.next_event()
            if isinstance(event, h11.InformationalResponse | h11.Response):
                statuses.append(event.status_code)
                fields = list(event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return statuses, fields + list(event.headers), body, True
            else:
                return statuses, fields, body, False
    except h11.RemoteProtocolError as error:
        return str(error)


def reply(data: bytes) -> Hashable:
    """What we take for a whole answer, h11 reads the same way; no cut of the bytes changes it."""
    found = ours(data, max(1, len(data)))
    for step in (1, 7) if len(data) < 300 else (61,):
        pieces = ours(data, step)
        same = pieces == found or (isinstance(pieces, str) and isinstance(found, str))
        assert same, f"at once {found!a:.300}, {step} bytes at a time {pieces!a:.300}"
    if isinstance(found, str):
        return found
    statuses, fields, body, whole = found
    if not whole or 101 in statuses:  # h11 takes no 101 that it has not asked for; the connection refuses it, too
        return statuses[-1:] == [101], len(fields), whole
    expected = h11_says(data)
    assert isinstance(expected, tuple), f"h11 says {expected}; we read {found!a:.300}"
    lowered = [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in fields]  # h11 does that
    assert (statuses, lowered, body, whole) == expected
    return len(statuses), len(fields), bool(body), whole


def arrival(data: bytes) -> Hashable:
    """Of what a client sends, one request reaches the backend, which h11 reads as we did; or none."""
    heads = RequestHeads("one.test")
    body: list[bytes] = []
    try:
        found = heads.take(data, Turn(100_000))
        if found is None or found[0].neutral is None:
            return "no request"
        heads.requests.next_body(data[found[1] :], 10_000, body)
    except BadMessage as bad:
        return bad.why
    head, request = found[0].neutral, found[0].neutral.request
    if heads.requests.in_message or head.upgrade is not Upgrade.NONE or not request.path.isascii():
        return "not complete, an upgrade, or a target that h11 does not take"
    connection = Http1Connection(0.0, reused=False)
    connection.begin(head, FORWARDED, not found[0].head.has_body)
    for piece in body:
        connection.body(piece)
    connection.end(passed_request_trailers(heads.requests.trailers))  # as request_half.py does
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 18)
    server.receive_data(sent(connection))
    got = b""
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Request):
            assert (event.method, event.target) == (request.method, request.path)
            assert (b"host", request.authority) in event.headers
        else:
            assert isinstance(event, h11.Data), f"{event!a:.300}"
            got += bytes(event.data)
    assert got == b"".join(body)
    assert server.trailing_data[0] == b"", "more than one request"
    return len(head.fields), bool(got), head.chunked


_OK = b"HTTP/1.1 200 OK\r\n"
REPLY = Target(
    "reply",
    "HTTP/1.1 of backends beside h11",
    reply,
    [
        _OK + b"Content-Length: 5\r\nX-A:  b \r\n\r\nhello",
        _OK + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nHTTP",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + _OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204\r\nConnection: close, x\r\n\r\n",
    ],
    [*HEAD.words, b"HTTP/1.1 ", b"200", b"204", b"100", b"101", _OK, b" OK"],
)
ARRIVAL = Target("arrival", "requests for HTTP/1.1 backends, as h11 reads them", arrival, HEAD.examples, HEAD.words)
