"""Addresses as operators write them, right and wrong."""

import pytest

from mcproxy.wire.address import MAX_UNIX_PATH, parse_backend, parse_listen, parse_unix


@pytest.mark.parametrize("text", [":443", "0.0.0.0:443", "127.0.0.1:0", "[::]:443", "[::1]:65535"])
def test_listen_addresses_that_are_canonical(text: str) -> None:
    assert parse_listen(text) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("443", "no port"),
        ("", "no port"),
        ("127.0.0.1:", "no port"),
        ("127.0.0.1:https", "no port"),
        ("127.0.0.1:+80", "no port"),
        ("127.0.0.1:٤٤٣", "no port"),
        ("127.0.0.1:65536", "above 65535"),
        ("https://:443", "no scheme belongs there"),
        ("::1:443", "brackets"),
        ("[::1:443", "brackets"),
        ("[localhost]:443", "not an IPv6"),
        ("[127.0.0.1]:443", "not an IPv6"),
        ("localhost:443", "not an IP address"),
        ("256.0.0.1:443", "not an IP address"),
    ],
)
def test_listen_addresses_that_are_none(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("[::1]:3000", "[::1]:3000"),
        ("Git.Internal.:443", "git.internal:443"),
        ("bücher.example:443", "xn--bcher-kva.example:443"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:/run/my app.sock", "unix:/run/my app.sock"),
        ("[FE80::1%eth0.7]:443", "[fe80::1%eth0.7]:443"),
    ],
)
def test_backends(text: str, canonical: str) -> None:
    assert str(parse_backend(text)) == canonical


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (":443", "no host"),
        ("127.0.0.1:0", "port 0"),
        ("git", "no port"),
        ("http://127.0.0.9:80", "no scheme belongs there"),
        ("https://git.example", "no scheme belongs there"),
        ("h2c://git.example:80/", "no scheme belongs there"),
        ("a b:1", "contains"),
        ("unix:relative.sock", "absolute path"),
        ("unix:", "absolute path"),
        ("unix:/a\0b", "absolute path"),
        ("unix:/a\nb", "printable"),
        ("unix:/a\x1b[2Jb", "printable"),
        ("unix:/a\u2028b", "printable"),
        ("unix:/a\u00a0b", "printable"),  # a blank that is not seen to be another
        ("unix:/a\udcffb", "printable"),
        ("[fe80::1%eth0\nforged]:443", "not an IPv6"),
        ("[fe80::1%eth 0]:443", "not an IPv6"),
        ("[fe80::1%]:443", "not an IPv6"),
        ("unix:/" + "x" * MAX_UNIX_PATH, "longer than"),
    ],
)
def test_backends_that_are_none(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_backend(text)


def test_a_unix_path_of_the_greatest_length() -> None:
    path = "/" + "x" * (MAX_UNIX_PATH - 1)
    assert parse_unix(f"unix:{path}") == path
