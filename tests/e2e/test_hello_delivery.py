"""However a hello is cut, over TCP segments and over TLS records, it reaches its backend, and reaches it unmodified."""

import itertools
import socket
import ssl
from collections.abc import Iterable, Iterator

import pytest

from mcproxy.wire.hello import MAX_HELLO_BYTES, RECORD_HEADER
from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit import hellos
from tests.kit.peers import Handler, connect, read_all
from tests.kit.proxy import Proxy

NAMES = ("one.test", "two.test")
LOOKS = 2  # turns of the proxy's loop after a segment: accepted, and looked at


def tells(name: str) -> Handler:
    """Answer with the own name, then with everything that came."""

    def answer(connection: socket.socket) -> None:
        came = read_all(connection)
        connection.sendall(name.encode() + came)

    return answer


@pytest.fixture
def running(backend: MakeBackend, proxy: MakeProxy) -> Proxy:
    """A proxy with a backend for each name."""
    return proxy({"listeners": [listener({name: backend(tells(name)).address for name in NAMES})]})


def answer(running: Proxy, segments: Iterable[bytes]) -> bytes:
    """What comes back when these are sent one after the other, each seen by the proxy before the next."""
    with connect(running.port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for segment in segments:
            client.sendall(segment)
            for _ in range(LOOKS):
                running.call(int)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def reaches_its_backend(running: Proxy, name: str, segments: Iterable[bytes]) -> bool:
    kept = list(segments)
    return answer(running, kept) == name.encode() + b"".join(kept)


def openssl(name: str) -> bytes:
    return hellos.from_openssl(name, ssl.TLSVersion.TLSv1_3, ["h2", "http/1.1"])


def with_ticket(name: str, size: int) -> bytes:
    """A message with an extension of that size, as resumption has them."""
    return hellos.message(hellos.server_name(name.encode()), hellos.extension(35, b"t" * size))


def in_bytes(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


# --- over segments ----------------------------------------------------------------------------------------------------


def test_two_segments_split_at_every_byte(running: Proxy) -> None:
    for cut, name in zip(range(1, len(openssl(NAMES[0]))), itertools.cycle(NAMES), strict=False):
        data = openssl(name)
        assert reaches_its_backend(running, name, [data[:cut], data[cut:]]), cut


@pytest.mark.parametrize("name", NAMES)
def test_segments_of_one_byte(name: str, running: Proxy) -> None:
    assert reaches_its_backend(running, name, in_bytes(openssl(name)))


# --- over records -----------------------------------------------------------------------------------------------------


def test_two_records_split_at_every_byte(running: Proxy) -> None:
    for cut, name in zip(range(1, len(openssl(NAMES[0])) - RECORD_HEADER), itertools.cycle(NAMES), strict=False):
        assert reaches_its_backend(running, name, [hellos.split(openssl(name)[RECORD_HEADER:], [cut])]), cut


@pytest.mark.parametrize("name", NAMES)
def test_records_of_one_byte(name: str, running: Proxy) -> None:
    message = openssl(name)[RECORD_HEADER:]
    assert reaches_its_backend(running, name, [hellos.split(message, range(len(message)))])


@pytest.mark.parametrize("name", NAMES)
def test_records_of_one_byte_in_segments_of_one_byte(name: str, running: Proxy) -> None:
    message = hellos.message(hellos.server_name(name.encode()))
    assert reaches_its_backend(running, name, in_bytes(hellos.split(message, range(len(message)))))


def test_two_records_in_two_segments_split_at_every_byte(running: Proxy) -> None:
    message = hellos.message(hellos.server_name(NAMES[1].encode()))
    data = hellos.split(message, [len(message) // 2])
    for cut in range(1, len(data)):
        assert reaches_its_backend(running, NAMES[1], [data[:cut], data[cut:]]), cut


# --- large ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", [MAX_HELLO_BYTES, 1460, 100])
def test_64_kib(segment: int, running: Proxy) -> None:
    message = with_ticket(NAMES[0], MAX_HELLO_BYTES - 100)
    data = hellos.split(message, range(16384, len(message), 16384))
    assert MAX_HELLO_BYTES - 50 < len(data) <= MAX_HELLO_BYTES
    assert reaches_its_backend(running, NAMES[0], (data[i : i + segment] for i in range(0, len(data), segment)))


def test_64_kib_in_records_of_one_byte(running: Proxy) -> None:
    message = with_ticket(NAMES[1], MAX_HELLO_BYTES // (RECORD_HEADER + 1) - 100)
    data = hellos.split(message, range(len(message)))
    assert MAX_HELLO_BYTES - 200 < len(data) <= MAX_HELLO_BYTES
    assert reaches_its_backend(running, NAMES[1], [data])


# --- and what follows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_follows_in_the_same_segment_is_delivered_too(name: str, running: Proxy) -> None:
    """Early data, say; more of it than is looked at for the hello."""
    early = hellos.record(bytes(16384), kind=23) * 8
    assert reaches_its_backend(running, name, [openssl(name) + early])


def test_hello_and_fin_at_once(running: Proxy) -> None:
    data = openssl(NAMES[0])
    with connect(running.port) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == NAMES[0].encode() + data
