"""Which backends are our own listeners, in all the ways to write them."""

import pytest

from mcproxy.notation.address import parse_backend, parse_listen
from mcproxy.policy.loops import OwnListeners


@pytest.mark.parametrize(
    ("listener", "backends"),
    [
        (":443", ["127.0.0.1:443", "127.9.9.9:443", "[::1]:443", "localhost:443", "0.0.0.0:443", "[::]:443",
                  "[::ffff:127.0.0.1]:443", "LOCALHOST.:443"]),
        ("0.0.0.0:443", ["127.0.0.1:443", "127.0.0.2:443", "0.0.0.0:443", "localhost:443", "[::ffff:127.0.0.1]:443"]),
        ("[::]:443", ["[::1]:443", "[::]:443", "localhost:443"]),
        ("127.0.0.1:443", ["127.0.0.1:443", "0.0.0.0:443", "localhost:443", "[::ffff:7f00:1]:443"]),
        ("[::1]:443", ["[::1]:443", "[::]:443", "localhost:443", "[0:0::1]:443"]),
        ("192.0.2.1:443", ["192.0.2.1:443"]),
        ("[2001:db8::1]:443", ["[2001:db8:0::1]:443"]),
    ],
)  # fmt: skip
def test_a_backend_that_is_a_listener(listener: str, backends: list[str]) -> None:
    addr = parse_listen(listener)
    for backend in backends:
        assert OwnListeners(["198.51.100.1:443", addr]).reached_by(parse_backend(backend)) == addr, backend


@pytest.mark.parametrize(
    ("listener", "backends"),
    [
        (":443", ["127.0.0.1:444", "192.0.2.1:443", "www.example.org:443", "localhost.example.org:443", "unix:/443"]),
        ("0.0.0.0:443", ["[::1]:443", "192.0.2.1:443"]),
        ("[::]:443", ["127.0.0.1:443", "0.0.0.0:443"]),
        ("127.0.0.1:443", ["127.0.0.2:443", "[::1]:443", "[::]:443", "127.0.0.1:8443"]),
        ("192.0.2.1:443", ["127.0.0.1:443", "localhost:443", "0.0.0.0:443", "192.0.2.2:443"]),
        ("127.0.0.1:0", ["127.0.0.1:443"]),
    ],
)
def test_a_backend_that_is_none(listener: str, backends: list[str]) -> None:
    for backend in backends:
        assert OwnListeners([listener]).reached_by(parse_backend(backend)) == "", backend


def test_without_listeners() -> None:
    assert OwnListeners([]).reached_by(parse_backend("127.0.0.1:443")) == ""
