"""Cases of HTTP/1.1: targets and hosts, fields, and the framing of bodies."""

from collections.abc import Iterator

from tests.kit.differ_case import HOST, Case, ask, h1
from tests.kit.differ_peers import NAME, OTHER

CHUNKED = "Transfer-Encoding: chunked"
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==",
)
HIDDEN = ask("/hidden").decode()


def targets() -> Iterator[Case]:
    """Request lines and hosts."""
    yield h1("a plain request", "the ground that all stand on", ask("/plain", "X-A: b"))
    yield h1("two requests on a connection", "keep-alive", ask("/first") + ask("/second"))
    yield h1("absolute form", "RFC 9112 3.2.2: a server must accept it", ask(f"https://{NAME}/absolute"))
    yield h1(
        "absolute form with the default port",
        "RFC 9110 4.2.3: normalise before comparing",
        ask(f"https://{NAME}:443/port"),
    )
    yield h1(
        "absolute form with another Host",
        "RFC 9112 3.2.2: the target wins, Host is ignored",
        ask(f"https://{NAME}/wins", host="Host: b.test\r\n"),
    )
    yield h1("absolute form in capitals", "scheme and host have no case", ask(f"HTTPS://{NAME.upper()}/capitals"))
    yield h1("absolute form of http", "the connection is TLS: another scheme", ask(f"http://{NAME}/scheme"))
    yield h1("absolute form without a path", "RFC 9112 3.2.1: the path is then /", ask(f"https://{NAME}"))
    yield h1("a target with raw UTF-8", "RFC 3986 has no such bytes, browsers of old send them", ask("/caf\xc3\xa9"))
    yield h1("a target with a fragment", "RFC 9112 3.2: no form has one", ask("/a#b"))
    yield h1("a target with a blank", "RFC 9112 3.2: invalid", ask("/a b"))
    yield h1("a target with a quote and braces", "not in RFC 3986, common all the same", ask('/"{}|^`'))
    yield h1("a target of dots", "passed byte for byte, or normalised", ask("/a/../b/./c//d"))
    yield h1("a Host with the default port", "RFC 9110 4.2.3", ask("/hostport", host=f"Host: {NAME}:443\r\n"))
    yield h1("a Host in capitals", "host names have no case", ask("/hostcase", host="Host: A.TEST\r\n"))
    yield h1("a Host with a final dot", "the same host for the DNS", ask("/hostdot", host="Host: a.test.\r\n"))
    yield h1("the Host of another route", "RFC 9110 7.4: 421", ask("/misdirected", host=f"Host: {OTHER}\r\n"))
    yield h1("no Host", "RFC 9112 3.2: 400", ask("/nohost", host=""))
    yield h1("two Hosts", "RFC 9112 3.2: 400", ask("/twohosts", f"Host: {NAME}"))
    yield h1("CONNECT", "a reverse proxy opens no tunnels", ask(f"{NAME}:443", method="CONNECT"), probe=False)
    yield h1("OPTIONS *", "RFC 9112 3.2.4", ask("*", method="OPTIONS"))
    yield h1("a method in small letters", "methods have case", ask("/method", method="get"))
    yield h1("HTTP/1.0 without Host", "old health checks send it", b"GET /old HTTP/1.0\r\n\r\n", probe=False)
    yield h1(
        "HTTP/1.2",
        "RFC 9110 2.5: a minor version that is higher is served",
        b"GET /v HTTP/1.2\r\n" + HOST.encode() + b"\r\n",
    )
    yield h1("HTTP/0.9", "RFC 9112 appendix C.1", b"GET /\r\n\r\n")


def fields() -> Iterator[Case]:
    """Field lines."""
    yield h1(
        "a value with blanks around", "RFC 9112 5.1: outer blanks are no part of it", ask("/ows", "X-A: \t b c \t")
    )
    yield h1(
        "control bytes in a cookie",
        "RFC 9110 5.5: CTLs are invalid; real cookies have them",
        ask("/ctl", "Cookie: a=\x01b"),
    )
    yield h1("NUL in a value", "RFC 9110 5.5: reject or replace", ask("/nul", "X-A: a\x00b"))
    yield h1("obs-text in a value", "RFC 9110 5.5: opaque data", ask("/obs", "X-A: \xe9"))
    yield h1("a blank before the colon", "RFC 9112 5.1: 400", ask("/blank-colon", "X-A : b"))
    yield h1("a folded line", "RFC 9112 5.2: reject or replace", ask("/fold", "X-A: b", " c"))
    yield h1("a name with an underscore", "a token; CGI confuses it with a hyphen", ask("/underscore", "X_A: b"))
    yield h1("a name with a blank", "no token", ask("/name", "X A: b"))
    yield h1("an empty name", "no token", ask("/noname", ": b"))
    yield h1("an empty value", "valid", ask("/empty", "X-A:"))
    yield h1(
        "a field of a hop, listed",
        "RFC 9110 7.6.1: Connection names what must not pass",
        ask("/hop", "Connection: X-Hop", "X-Hop: a", "X-Kept: b"),
    )
    yield h1(
        "Connection with 20,000 tokens",
        "a head must cost what it costs",
        ask("/tokens", "Connection: " + ",".join(["a"] * 20_000)),
    )
    yield h1("250 fields", "heads of many fields", ask("/many", *(f"X-{i}: {i}" for i in range(250))))
    yield h1(
        "bare LF",
        "RFC 9112 2.2: a recipient may take LF for the end of a line",
        b"GET /lf HTTP/1.1\n" + HOST.encode().replace(b"\r", b"") + b"\n",
    )
    yield h1("TE: trailers", "RFC 9110 10.1.4: belongs to the hop", ask("/te", "TE: trailers", "Connection: TE"))
    yield h1(
        "Expect: 100-continue",
        "RFC 9110 10.1.1",
        ask("/expect", "Expect: 100-continue", "Content-Length: 2", method="POST", body="hi"),
    )
    yield h1("another Expect", "RFC 9110 10.1.1: 417 or ignored", ask("/expect2", "Expect: tea"))
    yield h1(
        "an Upgrade to h2c",
        "forwarding it is how smuggling over h2c works",
        ask("/h2c", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    )
    yield h1(
        "x-forwarded-for of the client",
        "must not be believed",
        ask("/xff", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"),
    )
    for path, why in (
        ("/blank", "RFC 9113 8.2.1 permits refusal, real servers send it"),
        ("/control", "a control byte in a cookie"),
    ):
        yield h1(f"an answer like {path}", why, ask(path), shows=("content-security-policy", "set-cookie"))
    yield h1("an answer with alt-svc", "nobody listens for HTTP/3 here", ask("/alt-svc"), shows=("alt-svc",))


def bodies() -> Iterator[Case]:
    """Framing."""
    yield h1("a POST with a length", "the ground", ask("/post", "Content-Length: 5", method="POST", body="hello"))
    yield h1("a POST in chunks", "the ground", ask("/chunks", CHUNKED, method="POST", body="5\r\nhello\r\n0\r\n\r\n"))
    yield h1(
        "chunks with trailers",
        "RFC 9110 6.5.1: trailers must not pass unseen",
        ask(
            "/ctrailers",
            CHUNKED,
            method="POST",
            body="5\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: evil.test\r\nAuthorization: x\r\n\r\n",
        ),
    )
    yield h1(
        "a chunk extension",
        "RFC 9112 7.1.1: must be ignored",
        ask("/ext", CHUNKED, method="POST", body="5;a=b\r\nhello\r\n0\r\n\r\n"),
    )
    yield h1(
        "2,000 chunks of one byte",
        "many small pieces",
        ask("/crumbs", CHUNKED, method="POST", body="1\r\na\r\n" * 2_000 + "0\r\n\r\n"),
    )
    yield h1(
        "a POST, then one CRLF",
        "RFC 9112 2.2: ignore at least one empty line",
        ask("/crlf", "Content-Length: 2", method="POST", body="hi") + b"\r\n",
    )
    yield h1(
        "a POST, then two CRLFs",
        "clients of old do that; programs ignore several",
        ask("/crlfs", "Content-Length: 2", method="POST", body="hi") + b"\r\n\r\n",
    )
    yield h1("two CRLFs before the first request", "the same, at the start", b"\r\n\r\n" + ask("/before"))
    yield h1(
        "length and chunks",
        "RFC 9112 6.1: smuggling",
        ask("/clte", "Content-Length: 6", CHUNKED, method="POST", body="0\r\n\r\nG"),
        probe=False,
    )
    yield h1(
        "chunks and length",
        "RFC 9112 6.1: smuggling",
        ask("/tecl", CHUNKED, "Content-Length: 4", method="POST", body="5c\r\n") + HIDDEN.encode(),
        probe=False,
        timed=True,
    )
    yield h1(
        "two lengths",
        "RFC 9112 6.3: 400",
        ask("/clcl", "Content-Length: 0", "Content-Length: 44", method="POST", body=HIDDEN),
    )
    yield h1(
        "the same length twice",
        "RFC 9110 8.6: reject or replace",
        ask("/clsame", "Content-Length: 2", "Content-Length: 2", method="POST", body="hi"),
    )
    yield h1(
        "a length with a sign", "RFC 9110 8.6: digits", ask("/clsign", "Content-Length: +2", method="POST", body="hi")
    )
    yield h1(
        "a coding that isn't chunked",
        "RFC 9112 6.1: 501",
        ask("/gzip", "Transfer-Encoding: gzip, chunked", method="POST", body="0\r\n\r\n"),
    )
    yield h1(
        "chunked in HTTP/1.0",
        "RFC 9112 6.1: faulty framing",
        ask("/te10", CHUNKED, method="POST", body="0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"),
        probe=False,
    )
    yield h1(
        "a chunk's size with a sign",
        "smuggling",
        ask("/chunksign", CHUNKED, method="POST", body="+2\r\nab\r\n0\r\n\r\n"),
    )
    yield h1(
        "a chunk that ends in LF", "smuggling (TERM.EXT)", ask("/chunklf", CHUNKED, method="POST", body="2\nab\n0\n\n")
    )
    yield h1(
        "GET with a body",
        "RFC 9110 9.3.1: no defined meaning, framing holds",
        ask("/getbody", "Content-Length: 2", body="hi"),
    )
    yield h1("HEAD", "an answer without its body", ask("/head", method="HEAD"), heads=True)
    yield h1(
        "HEAD that is answered with a body",
        "granian answers so: drop the body, keep the head",
        ask("/head-data", method="HEAD"),
        heads=True,
    )
    yield h1("a WebSocket upgrade", "RFC 6455", ask("/ws", *UPGRADE))
    yield h1(
        "a WebSocket upgrade with Content-Length: 0",
        "Java 17's HttpClient sends it: framing never passes a translation",
        ask("/ws0", *UPGRADE, "Content-Length: 0"),
    )
    yield h1("interim answers", "RFC 9110 15.2", ask("/interim"))
    yield h1("200 interim answers", "a loop that a backend drives", ask("/many-interim"))
    yield h1("an answer with trailers", "RFC 9110 6.5", ask("/trailers"))
    yield h1("an answer beyond its length", "a backend's fault", ask("/beyond"))
    yield h1("an answer short of its length", "a backend's fault", ask("/short"))
    yield h1("a backend that resets", "a backend's fault", ask("/reset"))
    yield h1("a backend that closes", "a backend's fault", ask("/close"))
