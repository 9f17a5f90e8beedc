import pytest

from mcproxy.admin.peer import NOBODY, Peer, peer_of, serial_of


@pytest.mark.parametrize("peer", [Peer(uid=0), Peer(uid=4_000_000_000), Peer(ip="192.0.2.7"), Peer(ip="2001:db8::1")])
def test_a_name_is_read_back(peer: Peer) -> None:
    name = peer.name("00ff", 7)
    assert len(name) < 107, "it fits in a socket's address"
    assert (peer_of(f"unix-abstract:{name}"), serial_of(f"unix-abstract:{name}")) == (peer, 7)


@pytest.mark.parametrize(
    "name",
    [
        "", "unix:", "unix:/tmp/mcproxy-ab-0-1", "ipv4:127.0.0.1:5", "unix-abstract:x-0-1",
        "unix-abstract:mcproxy-ab-ip7f00-1", "unix-abstract:mcproxy-ab-ip7f000001-",
    ],
)  # fmt: skip
def test_other_names_are_nobodys(name: str) -> None:
    assert (peer_of(name), serial_of(name)) == (NOBODY, None)


@pytest.mark.parametrize(
    ("host", "ip"),
    [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::1", "::1"), ("fe80::1%eth0", "fe80::1")],
)
def test_an_address_has_one_form(host: str, ip: str) -> None:
    assert Peer.at(host) == Peer(ip=ip)


def test_those_that_one_client_can_be_are_counted_together() -> None:
    assert Peer(ip="2001:db8::1").origin == Peer(ip="2001:db8::ffff:1").origin
    different = [Peer(ip="2001:db8:0:1::1"), Peer(ip="2001:db8::1"), Peer(ip="192.0.2.7"), Peer(ip="192.0.2.8")]
    different += [Peer(uid=0), Peer(uid=1)]
    assert len({each.origin for each in different}) == len(different)
    assert [str(each) for each in different[-3:]] == ["192.0.2.8", "user 0", "user 1"]
