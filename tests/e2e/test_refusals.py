"""A refused client gets a RST and not one byte, whatever it has sent; its line gives the reason, and it is counted.

The hub stands still until a client has sent all that it wants to, so "has sent a whole hello" is true when the proxy
first looks, and "has sent nothing" is too.
"""

import random
import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from gevent.hub import get_hub

from mcproxy.model import Reason
from mcproxy.net.shared import Phase, Shared
from mcproxy.policy.limits import Limits
from tests.conftest import MakeProxy, listener
from tests.kit.geoip_files import located, write_database
from tests.kit.hellos import A_TEST, REFUSED, TINY, hello, split
from tests.kit.hub import is_turned_away
from tests.kit.peers import DEADLINE, client_hello, connect, free_port, is_reset, reset, until
from tests.kit.program import ROOT
from tests.kit.proxy import Proxy

HELLO = client_hello("a.test")
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n"
V2_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
LOOPBACK = ["127.0.0.0/8", "::1/128"]


def turned_away(running: Proxy, reason: Reason, sends: bytes = b"", **how: Any) -> dict[str, str]:
    """A client that has sent this is refused; the fields of its line."""
    addr = next(iter(running.app.worker.addresses))
    tally = running.app.worker.shared.stats.listener(addr)
    lines, counted, total = len(running.lines), tally.refused[reason], tally.total
    assert is_turned_away(running.app.data.door, running.port, sends, **how)
    until(lambda: len(running.lines) > lines, "its line")
    assert len(running.lines) == lines + 1
    fields = running.connection(reason=reason)
    assert {key: fields[key] for key in ("listener", "verdict", "end", "received", "sent")} == {
        "listener": addr, "verdict": "refused", "end": "refused", "received": "0", "sent": "0",
    }  # fmt: skip
    assert (tally.refused[reason], tally.total) == (counted + 1, total + 1)
    return fields


# --- on sight ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def geoip_db(tmp_path: Path) -> str:
    return str(write_database(tmp_path / "geo.mmdb", {"127.0.0.0/8": located("XX")}))


def few_places(shared: Shared) -> None:
    shared.limits = Limits(0, 1, 0, 0, max_tracked=1)


def few_descriptors(shared: Shared) -> None:
    shared.max_descriptor = 0


def nothing_special(_shared: Shared) -> None:
    """No seam is used."""


PER_IP = {"firewall": {"max_connections_per_ip": 1}}
ONE_FOR_EACH_HOUR = {"firewall": {"connection_rate_per_ip": 1 / 3600, "connection_burst_per_ip": 1}}
UNTRUSTED = {"proxy_protocol": True, "trusted_proxies": ["192.0.2.0/24"]}
# The reason; what is configured; what of the listener; a seam; and from where another client has come just before.
ON_SIGHT: list[tuple[Reason, dict[str, Any], dict[str, Any], Callable[[Shared], None], str]] = [
    (Reason.BLOCKED_IP, {"firewall": {"blocked_ips": ["127.0.0.1"]}}, {}, nothing_special, ""),
    (Reason.BLOCKED_CIDR, {"firewall": {"blocked_cidrs": ["127.0.0.0/8"]}}, {}, nothing_special, ""),
    (Reason.BLOCKED_COUNTRY, {"firewall": {"blocked_countries": ["XX"]}}, {}, nothing_special, ""),
    (Reason.LIMIT_TOTAL, {"proxy": {"max_connections": 1}}, {}, nothing_special, "127.0.0.2"),
    (Reason.LIMIT_LISTENER, {}, {"max_connections": 1}, nothing_special, "127.0.0.2"),
    (Reason.LIMIT_PER_IP, PER_IP, {}, nothing_special, "127.0.0.1"),
    (Reason.RATE_PER_IP, ONE_FOR_EACH_HOUR, {}, nothing_special, "127.0.0.1"),
    (Reason.LIMIT_TABLE_FULL, {}, {}, few_places, "127.0.0.2"),
    (Reason.DESCRIPTORS, {}, {}, few_descriptors, ""),
    (Reason.PROXY_UNTRUSTED, {}, UNTRUSTED, nothing_special, ""),
]


@pytest.mark.parametrize("sends", [b"", HELLO, HELLO[:100], V1 + HELLO], ids=["nothing", "hello", "half", "header"])
@pytest.mark.parametrize(
    ("reason", "document", "options", "seam", "other"), ON_SIGHT, ids=[str(c[0]) for c in ON_SIGHT]
)
def test_who_is_refused_on_sight(
    sends: bytes, reason: Reason, document: dict[str, Any], options: dict[str, Any],
    seam: Callable[[Shared], None], other: str, proxy: MakeProxy, geoip_db: str,
) -> None:  # fmt: skip
    firewall = {**document.get("firewall", {}), "geoip_db": geoip_db}
    listeners = [listener({"a.test": "127.0.0.1:9"}, **options)]
    running = proxy({"listeners": listeners, **document, "firewall": firewall})
    seam(running.app.worker.shared)
    with ExitStack() as stack:
        if other:
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), DEADLINE, (other, 0)))
            until(lambda: [each.phase for each in running.sessions()] == [Phase.PEEKING], "the other client")
        fields = turned_away(running, reason, sends)
        assert fields["client"].startswith("127.0.0.1:")
        assert (fields["sni"], fields["route"], fields["backend"]) == ("-", "-", "-")


# --- for what is sent -------------------------------------------------------------------------------------------------

SENT = {
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", Reason.HELLO_NOT_TLS),
    "an SSH banner": (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", Reason.HELLO_NOT_TLS),
    "noise": (random.Random(2).randbytes(3000), Reason.HELLO_NOT_TLS),
    "a PROXY header that nobody asked for": (V1 + HELLO, Reason.HELLO_NOT_TLS),
    "a hello with a vector that is too long": (hello(A_TEST, b"\0\x17\0\1"), Reason.HELLO_MALFORMED),
    "a hello with junk behind it": (REFUSED["a byte behind it in its record"][0], Reason.HELLO_MALFORMED),
    "a hello that announces too much": (REFUSED["an announced 64 KiB"][0], Reason.HELLO_OVERSIZED),
    "70 KiB of a hello": (split(bytes.fromhex("01 011000") + bytes(69_000), range(0, 70_000, 16_000)),
                          Reason.HELLO_OVERSIZED),
    "no name": (client_hello(None), Reason.SNI_MISSING),
    "two names": (REFUSED["two names"][0], Reason.SNI_DUPLICATE),
    "two extensions with a name": (REFUSED["two name extensions"][0], Reason.SNI_DUPLICATE),
    "an address for a name": (REFUSED["an IPv4 address"][0], Reason.SNI_IP_LITERAL),
    "a name with a line feed": (REFUSED["a line feed"][0], Reason.SNI_INVALID),
    "an unknown name": (client_hello("b.test"), Reason.ROUTE_UNKNOWN),
    "a subdomain of a known name": (client_hello("www.a.test"), Reason.ROUTE_UNKNOWN),
    "the end of a known name": (client_hello("test"), Reason.ROUTE_UNKNOWN),
    "a hello of many records": (split(client_hello("b.test")[5:], range(0, 500, 7)), Reason.ROUTE_UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("ends", [False, True], ids=["stays", "ends"])
@pytest.mark.parametrize(("sends", "reason"), SENT.values(), ids=SENT)
def test_who_is_refused_for_what_he_sent(sends: bytes, reason: Reason, ends: bool, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"})]})
    fields = turned_away(running, reason, sends, ends=ends)
    assert (fields["route"], fields["backend"]) == ("-", "-")
    assert fields["sni"] == ("-" if reason is not Reason.ROUTE_UNKNOWN else fields["sni"])


def test_the_whole_corpus_of_bad_hellos(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"})]})
    for sends, reason in REFUSED.values():
        turned_away(running, reason, sends)


@pytest.mark.parametrize(
    "sends", [b"\x16", HELLO[:5], HELLO[:-1], split(TINY[5:], [20])[:30]], ids=["1", "header", "most", "two"]
)
def test_who_ends_before_the_hello_does(sends: bytes, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"})]})
    fields = turned_away(running, Reason.HELLO_TRUNCATED, sends, ends=True)
    assert f"after {len(sends)} bytes" in fields["detail"]


def test_who_resets_before_the_hello_ends(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"})]})
    client = connect(running.port)
    client.sendall(HELLO[:100])
    until(running.sessions, "the session")
    reset(client)
    assert running.connection(reason=Reason.HELLO_TRUNCATED)["end"] == "refused"


MALFORMED = {
    "a hello and no header": HELLO,
    "an HTTP request": b"GET / HTTP/1.1\r\n\r\n",
    "a malformed line": b"PROXY TCP4 nobody nowhere 1 2\r\n" + HELLO,
    "a line without an end": b"PROXY TCP4 " + b"1" * 200,
    "an unknown version": b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0" + HELLO,
    "addresses that are too short": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\4abcd" + HELLO,
    "more than any proxy sends": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + bytes(70_000),
}


@pytest.mark.parametrize("sends", MALFORMED.values(), ids=MALFORMED)
def test_who_sends_a_bad_proxy_header(sends: bytes, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"}, proxy_protocol=True, trusted_proxies=LOOPBACK)]})
    fields = turned_away(running, Reason.PROXY_MALFORMED, sends)
    assert fields["client"].startswith("127.0.0.1:")


@pytest.mark.parametrize("sends", [V1[:10], V1[:-1], V2_LOCAL[:14]], ids=["start", "most", "version 2"])
def test_who_ends_before_the_proxy_header_does(sends: bytes, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"}, proxy_protocol=True, trusted_proxies=LOOPBACK)]})
    turned_away(running, Reason.PROXY_MALFORMED, sends, ends=True)


def test_a_header_comes_once(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"}, proxy_protocol=True, trusted_proxies=LOOPBACK)]})
    assert turned_away(running, Reason.HELLO_NOT_TLS, V1 + V1 + HELLO)["client"] == "192.0.2.7:4711"


# --- for being late ---------------------------------------------------------------------------------------------------

LATE = {
    "nothing": (False, b""),
    "one byte": (False, b"\x16"),
    "most of a hello": (False, HELLO[:-1]),
    "no header": (True, b""),
    "half a header": (True, V1[:20]),
    "half a version 2 header": (True, V2_LOCAL[:14]),
    "a header and nothing": (True, V1),
    "a header and half a hello": (True, V2_LOCAL + HELLO[:200]),
}


@pytest.mark.parametrize(("header", "sends"), LATE.values(), ids=LATE)
def test_who_is_late(header: bool, sends: bytes, proxy: MakeProxy) -> None:
    options = {"proxy_protocol": True, "trusted_proxies": LOOPBACK} if header else {}
    document = {"listeners": [listener({"a.test": "127.0.0.1:9"}, **options)], "proxy": {"handshake_timeout": "200ms"}}
    fields = turned_away(proxy(document), Reason.HANDSHAKE_TIMEOUT, sends)
    assert fields["detail"] == '"no whole ClientHello in 0.2 s"'


def test_a_byte_now_and_then_does_not_put_it_off(proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"a.test": "127.0.0.1:9"})], "proxy": {"handshake_timeout": "300ms"}})
    with connect(running.port) as client:
        bytes_left = iter(HELLO)
        while not select.select([client], [], [], 0.05)[0]:
            client.send(bytes([next(bytes_left)]))
        assert is_reset(client)
    assert len(list(bytes_left)) > len(HELLO) / 2
    running.connection(reason=Reason.HANDSHAKE_TIMEOUT)


# --- for want of a backend --------------------------------------------------------------------------------------------


class NoNames:
    """A resolver that knows no name: what a name server says of one that does not exist."""

    def getaddrinfo(self, *_query: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def close(self) -> None:
        """The hub does this at its end."""


@pytest.fixture
def bad_backends(nothing_left: None, tmp_path: Path) -> Iterator[dict[Reason, str]]:
    """A backend for each way of not being there."""
    full, datagrams = str(tmp_path / "full.sock"), str(tmp_path / "datagrams.sock")
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as first,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other_kind,
    ):
        server.bind(full)
        server.listen(0)
        first.connect(full)  # its backlog is full now
        other_kind.bind(datagrams)
        yield {
            Reason.BACKEND_REFUSED: f"127.0.0.1:{free_port()}",
            Reason.BACKEND_UNRESOLVED: "no-such-name.test:443",
            Reason.BACKEND_UNREACHABLE: f"unix:{datagrams}",
            Reason.BACKEND_TIMEOUT: f"unix:{full}",
        }


@pytest.mark.parametrize("ends", [False, True], ids=["stays", "ends"])
@pytest.mark.parametrize("more", [b"", b"early data"], ids=["hello", "more"])
@pytest.mark.parametrize(
    "reason",
    [Reason.BACKEND_REFUSED, Reason.BACKEND_UNRESOLVED, Reason.BACKEND_UNREACHABLE, Reason.BACKEND_TIMEOUT],
)
def test_whose_backend_is_not_there(
    reason: Reason, more: bytes, ends: bool, bad_backends: dict[Reason, str], proxy: MakeProxy
) -> None:
    backend = bad_backends[reason]
    running = proxy({"listeners": [listener({"a.test": backend})], "proxy": {"connect_timeout": "200ms"}})
    if reason is Reason.BACKEND_UNRESOLVED:
        running.call(lambda: setattr(get_hub(), "resolver", NoNames()))
    fields = turned_away(running, reason, HELLO + more, ends=ends)
    assert (fields["sni"], fields["route"], fields["backend"]) == ("a.test", "a.test", backend)
    route = running.app.worker.shared.stats.route(("127.0.0.1:0", "a.test"))
    assert (route.total, route.open, route.refused[reason]) == (1, 0, 1)


def test_a_missing_unix_socket_is_a_refusal_of_the_backend(proxy: MakeProxy, tmp_path: Path) -> None:
    running = proxy({"listeners": [listener({"a.test": f"unix:{tmp_path}/none.sock"})]})
    turned_away(running, Reason.BACKEND_REFUSED, HELLO)


@pytest.mark.parametrize("sends", [b"", HELLO], ids=["nothing", "hello"])
def test_ipv6_is_no_different(sends: bytes, proxy: MakeProxy) -> None:
    document = {"listeners": [{"addr": "[::1]:0"}], "firewall": {"blocked_ips": ["::1"]}}
    assert turned_away(proxy(document), Reason.BLOCKED_IP, sends, host="::1")["client"].startswith("[::1]:")


def test_the_runbook_says_what_to_do_about_each_reason() -> None:
    page = (ROOT / "RUNBOOK.md").read_text()
    table = page[page.index("| reason | what to do |") :].partition("\n\n")[0]
    rows = [pattern for row in table.splitlines()[2:] for pattern in re.findall(r"`([a-z_*]+)`", row.split("|")[1])]
    no_refusals = {Reason.OK, Reason.PROBE, Reason.SHUTDOWN, Reason.KILLED}  # which were cut, and not refused
    assert len(rows) > 10
    assert not [each for each in set(Reason) - no_refusals if not any(fnmatch(each, row) for row in rows)]
    assert not [row for row in rows if not any(fnmatch(each, row) for each in Reason)], "rows of no reason"
