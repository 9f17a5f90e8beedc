"""Addresses as operators write them, right and wrong."""

import re

import pytest

from mcproxy.notation.address import MAX_UNIX_PATH, parse_backend, parse_listen, parse_unix


@pytest.mark.parametrize("text", [":443", "0.0.0.0:443", "127.0.0.1:0", "[::]:443", "[::1]:65535"])
def test_listen_addresses_that_are_canonical(text: str) -> None:
    assert parse_listen(text) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("443", '"443" has no colon; write ":443"'),
        ("", '"" is empty; write "HOST:PORT"'),
        ("127.0.0.1", '"127.0.0.1" has no port; write "127.0.0.1:PORT"'),
        ("127.0.0.1:", '"127.0.0.1:" has no port; write "127.0.0.1:PORT"'),
        ("127.0.0.1:https", 'port "https" is a name; write its number, "127.0.0.1:443"'),
        (":HTTP", 'port "HTTP" is a name; write its number, ":80"'),
        (":git", 'port "git" is a name; write its number, as in ":443"'),
        ("127.0.0.1:+80", 'port "+80" is not a number from 1 to 65535; write "127.0.0.1:PORT"'),
        ("127.0.0.1:\u0664\u0664\u0663", "is not a number from 1 to 65535"),
        ("127.0.0.1:65536", "port 65536 is above 65535; write one from 1 to 65535"),
        ("127.0.0.1:" + "9" * 5000, "is above 65535"),
        ("https://:443", '"https://:443" is a URL; write ":443"'),
        ("::1:443", '"::1:443": an IPv6 address must be in brackets; write "[::1]:443"'),
        ("2001:db8::1", '"2001:db8::1" is an IPv6 address without a port; write "[2001:db8::1]:PORT"'),
        ("a:b:443", '"a:b:443" has more than one colon; write "HOST:PORT", and an IPv6 address in brackets'),
        ("[::1:443", "brackets"),
        ("[localhost]:443", '"[localhost]" is not an IPv6 address; brackets are for those, as in "[::1]:443"'),
        ("[127.0.0.1]:443", "is not an IPv6 address; brackets are for those"),
        ("localhost:443", '"localhost" is not an IP address; write one, or ":443" for every address'),
        ("*:443", '"*" is not an IP address; write one, or ":443" for every address'),
        ("256.0.0.1:443", "is not an IP address"),
        ("unix:/run/a.sock", 'a listener has an IP address and a port; write ":443", or "192.0.2.1:443"'),
        ("/run/a.sock", '"/run/a.sock" is a path; write "unix:/run/a.sock"'),
    ],
)
def test_listen_addresses_that_are_none(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("[::1]:3000", "[::1]:3000"),
        ("Git.Internal:443", "git.internal:443"),
        ("Git.Internal.:443", "git.internal.:443"),  # no search domain is tried
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
        (":443", '":443" has no host; write "127.0.0.1:443" or "unix:/path"'),
        ("127.0.0.1:0", "port 0 can't be connected to; write the port that the backend listens on"),
        ("git", '"git" has no port; write "git:PORT"'),
        ("http://127.0.0.9:80", '"http://127.0.0.9:80" is a URL; write "127.0.0.9:80"'),
        ("https://git.example", '"https://git.example" is a URL; write "git.example:443"'),
        ("h2c://git.example:80/", '"h2c://git.example:80/" is a URL; write "git.example:80"'),
        ("https://me:secret@git.example/a?b", 'is a URL; write "git.example:443"'),
        ("ftp://git.example", 'is a URL; write "git.example:PORT"'),
        ("://", 'is a URL; write "HOST:PORT"'),
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
        ("unix:/" + "x" * MAX_UNIX_PATH, "the socket's path has 108 bytes, more than 107; give it a shorter one"),
    ],
)
def test_backends_that_are_none(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_backend(text)


def test_a_unix_path_of_the_greatest_length() -> None:
    path = "/" + "x" * (MAX_UNIX_PATH - 1)
    assert parse_unix(f"unix:{path}") == path
