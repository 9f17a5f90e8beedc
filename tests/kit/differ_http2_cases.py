"""Cases of HTTP/2: heads, bodies, and frames in the wrong place."""

from collections.abc import Iterator

from mcproxy.wire.http2 import Frame
from tests.kit.differ_case import DONE, END, Case, data, h2, head, raw_head
from tests.kit.differ_peers import NAME, OTHER
from tests.kit.http2_peer import frame


def http2_heads() -> Iterator[Case]:
    """Heads of HTTP/2."""
    yield h2("a plain request", "the ground", head(("x-a", "b"), path="/plain"))
    yield h2("a name in capitals", "RFC 9113 8.2.1: malformed", head(("X-A", "b"), path="/upper2"))
    yield h2(
        "a blank at the end of a value",
        "RFC 9113 8.2.1: malformed; real clients send it",
        head(("user-agent", "app "), path="/end"),
    )
    yield h2("a blank at the start of a value", "RFC 9113 8.2.1: malformed", head(("x-a", " b"), path="/start"))
    yield h2("connection: keep-alive", "RFC 9113 8.2.2: malformed", head(("connection", "keep-alive"), path="/conn"))
    yield h2("te: gzip", "RFC 9113 8.2.2: only trailers", head(("te", "gzip"), path="/te"))
    yield h2("te: trailers", "RFC 9113 8.2.2", head(("te", "trailers"), path="/te2"))
    yield h2(
        "transfer-encoding",
        "RFC 9113 8.2.2: malformed",
        head(("transfer-encoding", "chunked"), path="/chunked2", end=False),
        data(b"0\r\n\r\n"),
    )
    yield h2(
        "control bytes in a cookie",
        "RFC 9113 8.2.1 forbids only NUL, CR and LF",
        head(("cookie", "a=\x01b"), path="/ctl2"),
    )
    yield h2("NUL in a value", "RFC 9113 8.2.1: malformed", head(("x-a", "a\0b"), path="/nul2"))
    yield h2(
        "CR LF in a value", "RFC 9113 8.2.1: malformed; request splitting", head(("x-a", "a\r\nx-b: c"), path="/crlf2")
    )
    yield h2("a colon in a name", "RFC 9113 8.2.1: malformed", head(("x:a", "b"), path="/colon2"))
    yield h2("an empty name", "malformed", head(("", "b"), path="/noname2"))
    yield h2("raw UTF-8 in the path", "one rule for both protocols", head(path="/caf\xc3\xa9".encode("latin-1")))
    yield h2("a blank in the path", "RFC 9113 8.3.1: request splitting", head(path="/a b"))
    yield h2("an empty path", "RFC 9113 8.3.1: malformed", head(path=""))
    yield h2("a path without a slash", "RFC 9113 8.3.1", head(path="nowhere"))
    yield h2("OPTIONS *", "RFC 9113 8.3.1", head(method="OPTIONS", path="*"))
    yield h2(
        "host alone",
        "RFC 9113 8.3.1: an intermediary must construct :authority",
        head(("host", NAME), authority="", path="/hostonly"),
    )
    yield h2("host and :authority that differ", "RFC 9113 8.3.1: malformed", head(("host", OTHER), path="/differ"))
    yield h2(
        "host with the default port, :authority without",
        "RFC 9113 8.3.1: the same after normalising",
        head(("host", f"{NAME}:443"), path="/same"),
    )
    yield h2(":authority in capitals", "host names have no case", head(authority="A.TEST", path="/acase"))
    yield h2("neither host nor :authority", "nobody knows for whom it is", head(authority="", path="/nobody"))
    yield h2(":authority of another route", "RFC 9110 7.4: 421", head(authority=OTHER, path="/misdirected2"))
    yield h2(":authority with userinfo", "RFC 9113 8.3.1: must not", head(authority=f"u@{NAME}", path="/user"))
    yield h2(":scheme http", "the connection is TLS", head(scheme="http", path="/scheme2"))
    yield h2(":scheme ftp", "RFC 9113 8.3.1: not restricted to http and https", head(scheme="ftp", path="/ftp"))
    yield h2(
        "no :scheme", "RFC 9113 8.3.1: malformed", raw_head((":method", "GET"), (":path", "/"), (":authority", NAME))
    )
    yield h2("no :method", "malformed", raw_head((":scheme", "https"), (":path", "/"), (":authority", NAME)))
    yield h2(
        ":path twice",
        "malformed",
        raw_head((":method", "GET"), (":scheme", "https"), (":path", "/"), (":path", "/b"), (":authority", NAME)),
    )
    yield h2("an unknown pseudo-field", "malformed", head((":x", "y"), path="/pseudo"))
    yield h2(
        "a pseudo-field behind a field",
        "malformed",
        raw_head((":method", "GET"), (":scheme", "https"), ("x-a", "b"), (":path", "/"), (":authority", NAME)),
    )
    yield h2("a method with a blank", "request splitting", head(method="GET /x HTTP/1.1", path="/m"))
    yield h2(
        "CONNECT",
        "a reverse proxy opens no tunnels; HTTP/1.1 is answered 501",
        raw_head((":method", "CONNECT"), (":authority", f"{NAME}:443"), end=False),
        timed=True,
    )
    yield h2(
        "extended CONNECT for websocket",
        "RFC 8441",
        raw_head(
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/ws2"),
            (":authority", NAME),
            end=False,
        ),
        data(b"", end=True),
    )
    yield h2(
        "cookies in crumbs",
        "RFC 9113 8.2.3: joined or kept",
        head(("cookie", "a=b"), ("cookie", "c=d"), path="/cookies"),
    )
    yield h2("250 fields", "heads of many fields", head(*((f"x-{i}", str(i)) for i in range(250)), path="/many2"))
    yield h2(
        "x-forwarded-for of the client",
        "must not be believed",
        head(("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), path="/xff2"),
    )


def http2_bodies() -> Iterator[Case]:
    """Bodies, endings and frames."""
    yield h2(
        "a POST", "the ground", head(("content-length", "5"), method="POST", path="/post2", end=False), data(b"hello")
    )
    yield h2("a POST without a length", "the ground", head(method="POST", path="/post3", end=False), data(b"hello"))
    yield h2(
        "a body beyond its length",
        "RFC 9113 8.1.1: malformed",
        head(("content-length", "2"), method="POST", path="/beyond2", end=False),
        data(b"hello"),
    )
    yield h2(
        "a body short of its length",
        "RFC 9113 8.1.1: malformed",
        head(("content-length", "9"), method="POST", path="/short2", end=False),
        data(b"hello"),
    )
    yield h2(
        "a length that is no number",
        "malformed",
        head(("content-length", "x"), method="POST", path="/nolength", end=False),
    )
    yield h2(
        "DATA of one byte, 2,000 times",
        "many small pieces",
        head(method="POST", path="/crumbs2", end=False),
        *(data(b"a", end=False) for _ in range(2_000)),
        data(b""),
    )
    hop = (("host", "evil.test"), ("content-length", "1"), ("authorization", "x"), ("cookie", "a=b"), ("x-sum", "1"))
    yield h2(
        "trailers",
        "RFC 9110 6.5.1: what must not come late",
        head(method="POST", path="/trailers2", end=False),
        data(b"hi", end=False),
        raw_head(*hop),
    )
    yield h2(
        "trailers with a pseudo-field",
        "RFC 9113 8.1: malformed",
        head(method="POST", path="/ptrailers", end=False),
        data(b"hi", end=False),
        raw_head((":path", "/x")),
    )
    yield h2(
        "trailers without END_STREAM",
        "RFC 9113 8.1: malformed",
        head(method="POST", path="/ntrailers", end=False),
        data(b"hi", end=False),
        raw_head(("x-a", "b"), end=False),
    )
    yield h2(
        "HEAD that is answered with DATA", "granian answers so: Caddy serves it", head(method="HEAD", path="/head-data")
    )
    yield h2("an answer with `connection`", "a backend's fault: 502 with its reason", head(path="/connection-field"))
    yield h2("an answer with a name in capitals", "a backend's fault", head(path="/upper"))
    yield h2(
        "an answer with a blank at the end of a value",
        "real servers send it",
        head(path="/blank"),
        shows=("content-security-policy",),
    )
    yield h2("an answer with a control byte", "real servers send it", head(path="/control"), shows=("set-cookie",))
    yield h2("an answer with alt-svc", "nobody listens for HTTP/3 here", head(path="/alt-svc"), shows=("alt-svc",))
    yield h2("an answer beyond its length", "a backend's fault", head(path="/beyond"))
    yield h2("an answer short of its length", "a backend's fault", head(path="/short"))
    yield h2("an answer with odd trailers", "a backend's fault", head(path="/odd-trailers"))
    yield h2("200 interim answers", "a loop that a backend drives", head(path="/many-interim"))
    yield h2("a backend that refuses the stream", "RFC 9113 8.7: may be tried again", head(path="/refuse"), timed=True)
    yield h2("a backend that resets the stream", "a backend's fault", head(path="/reset"))
    yield h2("a backend that closes", "a backend's fault", head(path="/close"))
    watches = [
        each
        for i in range(600)
        for each in (head(path="/watch", stream=2 * i + 3), frame(Frame.RST_STREAM, 0, 2 * i + 3, b"\0\0\0\x08"))
    ]
    yield h2(
        "600 watches, each cancelled after its first message",
        "gRPC clients do that: count what costs",
        head(path="/watch"),
        *watches,
        head(path="/last", stream=1_303),
        paced=True,
        streams=(1_303,),
    )
    yield h2("DATA on an idle stream", "RFC 9113 5.1: connection error", data(b"x", stream=5))
    yield h2("HEADERS on an even stream", "RFC 9113 5.1.1: connection error", head(stream=2), streams=(2,))
    yield h2(
        "WINDOW_UPDATE of 0",
        "RFC 9113 6.9: stream error",
        head(path="/hang", method="POST", end=False),
        frame(Frame.WINDOW_UPDATE, 0, 1, bytes(4)),
    )
    yield h2(
        "a window that overflows",
        "RFC 9113 6.9.1",
        head(path="/hang", method="POST", end=False),
        frame(Frame.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
    )
    yield h2("a PING of 7 bytes", "RFC 9113 6.7: connection error", frame(Frame.PING, 0, 0, bytes(7)))
    yield h2("SETTINGS on a stream", "RFC 9113 6.5: connection error", frame(Frame.SETTINGS, 0, 1))
    yield h2("a frame of an unknown type", "RFC 9113 5.5: ignored", frame(0xFA, 0, 0, b"grease"), head(path="/grease"))
    yield h2(
        "CONTINUATION without HEADERS", "RFC 9113 6.10: connection error", frame(Frame.CONTINUATION, DONE, 1, b"\x82")
    )
    yield h2(
        "a PING within a header block",
        "RFC 9113 6.2: connection error",
        frame(Frame.HEADERS, END, 1, b"\x82"),
        frame(Frame.PING, 0, 0, bytes(8)),
    )
    yield h2(
        "a header block that is nonsense",
        "RFC 9113 4.3: connection error",
        frame(Frame.HEADERS, DONE | END, 1, b"\xff\xff\xff\xff\xff\xff"),
    )
    yield h2(
        "padding longer than the frame",
        "RFC 9113 6.1: connection error",
        head(method="POST", end=False),
        frame(Frame.DATA, 8, 1, b"\x05ab"),
    )
    yield h2(
        "a stream that depends on itself",
        "RFC 7540 5.3.1; RFC 9113 ignores priorities",
        frame(Frame.HEADERS, DONE | END | 0x20, 1, b"\0\0\0\1\x10" + head(path="/self")[9:]),
    )
    yield h2(
        "PUSH_PROMISE of a client",
        "RFC 9113 8.4: connection error",
        frame(Frame.PUSH_PROMISE, DONE, 1, b"\0\0\0\2\x82"),
    )
