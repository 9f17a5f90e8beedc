"""The proxy changes nothing but what it says it does: the same requests to a backend directly and through an l7 route.

What the backend saw must be equal but for the proxy's own fields, and so must what the client got. For HTTP/1.1 clients
that means what a client of HTTP/2 would get, but for what belongs to a connection and not to a message.
"""

import itertools
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from mcproxy.wire.http2 import ErrorCode
from tests.conftest import MakeBackend
from tests.kit.http2_peer import HOST
from tests.kit.l7_proxy import Server
from tests.kit.mirror import (
    TCP_RESET,
    Case,
    Client,
    Fields,
    Heard,
    Http1Client,
    Message,
    Mirror,
    Settings,
    differences,
    has_length,
)
from tests.kit.mirror_cases import BOTH, CLAIMS, HTTP2, OURS, ask, claims, endings, is_small, late, length, say
from tests.kit.peers import Authority, connect, tls

DIRECT, PROXIED = 0, 1
BODILESS = {(b":status", b"204"), (b":status", b"304")}
NARROW: Settings = {SettingCodes.HEADER_TABLE_SIZE: 0, SettingCodes.INITIAL_WINDOW_SIZE: 5_000}
WIDE: Settings = {SettingCodes.HEADER_TABLE_SIZE: 65_536, SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20}
Exchange = tuple[Heard, Heard]  # what the client got, and what the backend saw
Wrong = dict[str, list[str]]  # what differs, by case


class Rig:
    """A backend that is reached directly, another through the proxy, and what makes clients of them."""

    def __init__(self, stack: ExitStack, backend: MakeBackend, authority: Authority) -> None:
        self._stack = stack
        self._backend = backend
        self._authority = authority

    def start(self, of_backend: Settings | None = None, cut: int = 0, backend_tls: bool = False) -> None:
        self.mirrors = Mirror(of_backend, cut), Mirror(of_backend, cut)
        context = self._authority.server_context(HOST)
        context.set_alpn_protocols(["h2"])
        behind = tls(context, self.mirrors[1]) if backend_tls else self.mirrors[1]
        made = [self._backend(handler) for handler in (self.mirrors[0], behind)]
        self._direct, port = (int(each.address.rpartition(":")[2]) for each in made)
        self.server = Server(self._authority, port, backend_tls=backend_tls)
        self._stack.callback(self.server.close)

    def _secured(self, protocol: str) -> ssl.SSLSocket:
        context = self._authority.client_context()
        context.set_alpn_protocols([protocol])
        return context.wrap_socket(connect(self.server.port), server_hostname=HOST, suppress_ragged_eofs=False)

    def clients(self, of_client: Settings | None = None, cut: int = 0) -> tuple[Client, Client]:
        made = Client(connect(self._direct), of_client, cut), Client(self._secured("h2"), of_client, cut)
        for each in made:
            self._stack.callback(each.close)
        return made

    def http1(self, cut: int = 0) -> Http1Client:
        made = Http1Client(self._secured("http/1.1"), cut)
        self._stack.callback(made.close)
        return made

    def exchange(self, way: int, client: Client | Http1Client, *cases: Case) -> list[Exchange]:
        mirror = self.mirrors[way]
        for case in cases:
            mirror.expect(case)
        exchanges = list(zip(client.run(*cases), map(mirror.saw, cases), strict=True))
        if way == DIRECT:
            for case, (got, seen) in zip(cases, exchanges, strict=True):
                assert case.said.came_whole(seen), f"{case.name}: the test itself loses something"
                assert case.answer.came_whole(got), f"{case.name}: the test itself loses something"
        return exchanges


@pytest.fixture
def rig(backend: MakeBackend, authority: Authority) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(stack, backend, authority)


def passed(fields: Fields) -> Fields:
    return tuple(each for each in fields if each[0] not in CLAIMS)


def with_authority(head: Fields) -> Fields:
    """A request's head with its authority where HTTP/2 has it, and nowhere else (RFC 9113, section 8.3.1)."""
    named = {name: value for name, value in head if name in (b":authority", b"host")}
    pseudo = tuple(each for each in head if each[0][:1] == b":")
    if b"host" in named and b":authority" not in named:
        pseudo += ((b":authority", named[b"host"]),)
    return pseudo + tuple(each for each in head if each[0][:1] != b":" and each[0] != b"host")


def over_http2(exchange: Exchange) -> Exchange:
    """What there is to be through the proxy, of what there was without it."""
    got, seen = exchange
    return got, replace(seen, head=passed(with_authority(seen.head)) + OURS, trailers=passed(seen.trailers))


def differing_of(expected: Exchange, was: Exchange) -> list[str]:
    return list(itertools.chain(*map(differences, expected, was)))


def wrong(rig: Rig, clients: tuple[Client, Client], *cases: Case) -> Wrong:
    """Of cases that are under way at once."""
    direct, proxied = (rig.exchange(way, clients[way], *cases) for way in (DIRECT, PROXIED))
    found: Wrong = {}
    for case, expected, was in zip(cases, map(over_http2, direct), proxied, strict=True):
        if differing := differing_of(expected, was):
            found[case.name] = differing
    return found


@pytest.mark.parametrize("backend_tls", [False, True], ids=["h2c", "backend_tls"])
def test_one_after_the_other(rig: Rig, backend_tls: bool) -> None:
    rig.start(backend_tls=backend_tls)
    clients = rig.clients()
    found: Wrong = {}
    for case in (*HTTP2, *late()):
        found |= wrong(rig, clients, case)
    assert not found


@pytest.mark.parametrize(
    ("of_client", "of_backend"), [(NARROW, WIDE), (WIDE, NARROW)], ids=["narrow client", "narrow backend"]
)
def test_odd_settings_and_frames_in_pieces(rig: Rig, of_client: Settings, of_backend: Settings) -> None:
    rig.start(of_backend, cut=997)
    clients = rig.clients(of_client, cut=997)
    found: Wrong = {}
    for case in filter(is_small, HTTP2):
        found |= wrong(rig, clients, case)
    assert not found


def test_when_blocks_cannot_pass_as_they_were_encoded(rig: Rig) -> None:
    """Because a field of a request was dropped, and because the client makes its table smaller in the middle."""
    rig.start()
    clients = rig.clients()
    found: Wrong = {}
    for number, case in enumerate((*claims(), *filter(is_small, HTTP2))):
        found |= wrong(rig, clients, case)
        if number % 10 == 1:
            for client in clients:
                client.retune({SettingCodes.HEADER_TABLE_SIZE: 100 + number % 20})
    assert not found


@pytest.mark.parametrize("backend_tls", [False, True], ids=["h2c", "backend_tls"])
def test_20_at_once(rig: Rig, backend_tls: bool) -> None:
    rig.start(backend_tls=backend_tls)
    clients = rig.clients()
    found: Wrong = {}
    for start in range(0, len(HTTP2), 20):
        found |= wrong(rig, clients, *HTTP2[start : start + 20])
    assert not found


# HTTP/1.1 --------------------------------------------------------------------------------------------------------


def without(fields: Fields, *names: bytes) -> Fields:
    return tuple(each for each in fields if each[0] not in names)


def may_have_body(exchange: Exchange) -> bool:
    got, seen = exchange
    return (b":method", b"HEAD") not in seen.head and BODILESS.isdisjoint(got.head)


def over_http1(exchange: Exchange) -> Exchange:
    """What there is to be for an HTTP/1.1 client, of what there was for one of HTTP/2: trailers need chunks."""
    got, seen = over_http2(exchange)
    chunked = may_have_body(exchange) and not has_length(got.head)
    seen = replace(seen, head=without(seen.head, b"te"), trailers=() if has_length(seen.head) else seen.trailers)
    return replace(got, trailers=got.trailers if chunked else ()), seen


def of_message(exchange: Exchange, expected: Exchange) -> Exchange:
    """What is not about the HTTP/1.1 connection: it learns the length of an answer without a body, too."""
    got, seen = exchange
    head = without(got.head, b"connection", b"transfer-encoding")
    if may_have_body(expected) and not has_length(expected[0].head):
        head = without(head, b"content-length")
    return replace(got, head=head), replace(seen, head=without(seen.head, b"te"))


def wrong_over_http1(rig: Rig, direct: Client, client: Http1Client, *cases: Case) -> Wrong:
    """Of cases that are one after the other."""
    found: Wrong = {}
    for case in cases:
        (expected,) = map(over_http1, rig.exchange(DIRECT, direct, case))
        (exchange,) = rig.exchange(PROXIED, client, case)
        if differing := differing_of(expected, of_message(exchange, expected)):
            found[case.name] = differing
    return found


@pytest.mark.parametrize("backend_tls", [False, True], ids=["h2c", "backend_tls"])
def test_http1(rig: Rig, backend_tls: bool) -> None:
    rig.start(backend_tls=backend_tls)
    assert not wrong_over_http1(rig, rig.clients()[0], rig.http1(), *BOTH, *claims())


def test_http1_in_pieces_to_a_backend_of_narrow_windows(rig: Rig) -> None:
    rig.start(NARROW, cut=997)
    assert not wrong_over_http1(rig, rig.clients()[0], rig.http1(cut=997), *filter(is_small, BOTH))


def ended_over_http1(exchange: Exchange) -> Exchange:
    """The same of streams that were reset: 502 before the head; behind it, nothing that looks like a whole answer."""
    got, seen = over_http1(exchange)
    if got.reset is None or got.ended:
        return replace(got, reset=None), seen
    if got.head:
        return replace(got, reset=TCP_RESET), seen
    head = ((b":status", b"502"), (b"content-type", b"text/plain"))
    return Heard(got.interim, head, bytearray(b"502 Bad Gateway\n"), ended=True), seen


def test_http1_endings(rig: Rig) -> None:
    rig.start()
    direct, _ = rig.clients()
    found: Wrong = {}
    for case in (*endings(), *late()):
        (expected,) = map(ended_over_http1, rig.exchange(DIRECT, direct, case))
        ((got, seen),) = rig.exchange(PROXIED, rig.http1(), case)
        if seen.reset == ErrorCode.CANCEL or (seen.reset == TCP_RESET and not is_small(case)):
            assert case.cancel
            seen = replace(seen, reset=case.cancel[1])  # there are no codes in HTTP/1.1
        if differing := differing_of(expected, of_message((got, seen), expected)):
            found[case.name] = differing
    assert not found


# Made up ---------------------------------------------------------------------------------------------------------

OWN = st.text("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20).map("x-{}".format)
USUAL = st.sampled_from(["accept", "cookie", "set-cookie", "etag", "vary", "via", "authorization", "location", "date"])
CLAIMED = st.sampled_from(sorted(name.decode() for name in CLAIMS))
VALUE = st.text("".join(map(chr, (9, *range(0x20, 0x7F), *range(0x80, 0x100)))), max_size=80)
PATH = st.text("".join(chr(code) for code in range(0x21, 0x7F) if code != ord("#")), max_size=80)
METHOD = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"get", b"X-Y"])
STATUS = st.sampled_from(
    [200, 201, 202, 203, 204, 206, 226, 299, 300, 301, 304, 399, 400, 404, 418, 499, 500, 503, 599]
)
SIZE = st.sampled_from([0, 1, 16_383, 16_384, 16_385, 70_000]) | st.integers(0, 3_000)
PIECES = st.lists(SIZE, max_size=4).map(tuple)


def fields_of(names: st.SearchStrategy[str]) -> st.SearchStrategy[Fields]:
    value = VALUE.map(lambda text: text.strip("\t ").encode("latin-1"))
    return st.lists(st.tuples(names.map(str.encode), value), max_size=6).map(tuple)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Message, Message]:
    """Any valid request, and any valid answer to it."""
    method, status, body = draw(METHOD), draw(STATUS), draw(PIECES)
    size = (length(sum(body)),) * draw(st.booleans())
    anything = fields_of(OWN | USUAL | CLAIMED)
    path = b"/" + draw(PATH).encode()
    request = ask(method, path, (*draw(anything), *size), body=body, trailers=draw(fields_of(OWN | CLAIMED)))
    bare = method == b"HEAD" or status in (204, 304)
    body = draw(st.sampled_from([(), (0,)]) if bare else PIECES)
    size = (length(sum(body)),) * (draw(st.booleans()) and status not in (204, 304))
    hints = fields_of(OWN | USUAL).map(lambda fields: ((b":status", b"103"), *fields))
    interim = draw(st.lists(hints, max_size=2).map(tuple))
    answer = say(status, (*size, *draw(anything)), body=body, trailers=draw(fields_of(OWN | CLAIMED)), interim=interim)
    return request, answer


def test_made_up_messages(rig: Rig) -> None:
    rig.start()
    number = itertools.count()

    @settings(max_examples=60)
    @given(st.lists(exchanges(), min_size=1, max_size=3), st.sampled_from([{}, NARROW, WIDE]), st.booleans())
    def check(made: list[tuple[Message, Message]], of_client: Settings, in_pieces: bool) -> None:
        """On connections of their own: what one example broke is not the next one's."""
        cases = [Case(f"case {next(number)}", *exchange) for exchange in made]
        clients, http1 = rig.clients(of_client, 997 * in_pieces), rig.http1(997 * in_pieces)
        assert not wrong(rig, clients, *cases)
        assert not wrong_over_http1(rig, clients[0], http1, *cases)
        for client in (*clients, http1):
            client.close()

    check()
