"""Networks against the standard library's ipaddress, which is slow, plain and right."""

import pickle
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Buffer

from mcproxy.policy import networks as module
from mcproxy.policy.networks import Networks, canonical_ip, canonical_network, pack, unpack

Network = IPv4Network | IPv6Network

# Few distinct high bits, so that networks nest, touch and repeat.
v4_numbers = st.one_of(st.integers(0, 2**32 - 1), st.integers(0x0A000000, 0x0A0000FF), st.sampled_from([0, 2**32 - 1]))
v6_numbers = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0x20010DB8 << 96, (0x20010DB8 << 96) + 255),
    st.sampled_from([0, 1, 2**128 - 1, 0xFFFF << 32]),
)


@st.composite
def cidrs(draw: st.DrawFn) -> Network:
    if draw(st.booleans()):
        return IPv4Network((draw(v4_numbers), draw(st.integers(0, 32))), strict=False)
    network = IPv6Network((draw(v6_numbers), draw(st.integers(0, 128))), strict=False)
    return plain(network)


def plain(network: Network) -> Network:
    """A mapped network in its IPv4 form, as the module under test has it."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else IPv4Network((mapped, network.prefixlen - 96))


def probes(networks: list[Network], extra: list[bytes]) -> list[bytes]:
    """Addresses worth asking about: both edges of every network and their neighbours."""
    found = set(extra)
    for network in networks:
        size, most = (4, 2**32 - 1) if network.version == 4 else (16, 2**128 - 1)
        for edge in (int(network[0]), int(network[-1])):
            found |= {number.to_bytes(size, "big") for number in (edge - 1, edge, edge + 1) if 0 <= number <= most}
    return [packed for packed in found if pack(unpack(packed)) == packed]


def expected(networks: list[Network], packed: bytes) -> str | None:
    """The outermost network that contains the address."""
    address: IPv4Address | IPv6Address = ip_address(packed)
    holding = [network for network in networks if network.version == address.version and address in network]
    return canonical_network(str(min(holding, key=lambda network: network.prefixlen))) if holding else None


@given(st.lists(cidrs(), max_size=30), st.lists(st.binary(min_size=4, max_size=4), max_size=5))
def test_find_agrees_with_ipaddress(networks: list[Network], extra: list[bytes]) -> None:
    compiled = Networks.of(str(network) for network in networks)
    for packed in probes(networks, extra):
        assert compiled.find(packed) == expected(networks, packed)
    assert {ip_network(text) for text in compiled} == set(networks)
    assert len(compiled) == len(set(networks))


@given(st.lists(st.tuples(st.booleans(), cidrs()), max_size=40))
def test_adding_and_removing_equal_building_from_scratch(changes: list[tuple[bool, Network]]) -> None:
    compiled, present = Networks(), set[Network]()
    for removing, network in changes:
        if removing and present:
            victim = sorted(present, key=str)[int(network[0]) % len(present)]
            compiled = compiled.removing(str(victim))
            present.remove(victim)
        else:
            compiled = compiled.adding(str(network))
            present.add(network)
        assert compiled == Networks.of(map(str, present))


def test_removing_an_outer_network_brings_back_the_ones_within() -> None:
    compiled = Networks.of(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.9.0.0/16", "10.255.255.255", "11.0.0.0/8"])
    assert compiled.find(pack("10.1.2.3")) == "10.0.0.0/8"
    compiled = compiled.removing("10.0.0.0/8")
    assert compiled.find(pack("10.1.2.3")) == "10.1.0.0/16"
    assert compiled.find(pack("10.9.0.0")) == "10.9.0.0/16"
    assert compiled.find(pack("10.255.255.255")) == "10.255.255.255/32"
    assert compiled.find(pack("10.2.0.0")) is None
    assert compiled.find(pack("11.0.0.0")) == "11.0.0.0/8"


def test_the_families_are_kept_apart() -> None:
    everything = Networks.of(["::/0"])
    assert everything.find(pack("::1")) == "::/0"
    assert everything.find(pack("192.0.2.1")) is None
    assert everything.find(pack("::ffff:192.0.2.1")) is None  # an IPv4 client
    assert Networks.of(["0.0.0.0/0"]).find(pack("::ffff:192.0.2.1")) == "0.0.0.0/0"
    assert Networks.of(["0.0.0.0/0"]).find(pack("::")) is None


def test_removing_what_is_not_there() -> None:
    for compiled in (Networks(), Networks.of(["10.0.0.0/9"]), Networks.of(["10.0.0.0/7", "192.0.2.0/24"])):
        with pytest.raises(KeyError):
            compiled.removing("10.0.0.0/8")
        with pytest.raises(KeyError):
            compiled.removing("2001:db8::/32")


def test_what_a_change_does_not_touch_is_shared() -> None:
    before = Networks.of(["10.0.0.0/8", "2001:db8::/32"])
    assert before.adding("192.0.2.0/24").v6 is before.v6
    assert before.adding("2001:db8:1::/48").v4 is before.v4
    assert before.adding("10.1.0.0/16").v4.outer is before.v4.outer
    assert before.adding("10.0.0.0/8").v4 is before.v4
    assert before == Networks.of(["10.0.0.0/8", "2001:db8::/32"])


def test_survives_pickling() -> None:
    compiled = Networks.of(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"])
    assert pickle.loads(pickle.dumps(compiled)) == compiled
    assert repr(compiled) == "<Networks ipv4=2 ipv6=1>"


class Counting(bytes):
    """A packed address that counts how often it is compared."""

    compared = 0

    def __add__(self, other: Buffer) -> "Counting":
        return Counting(bytes(self) + bytes(other))

    def __lt__(self, other: bytes) -> bool:
        Counting.compared += 1
        return bytes(self) < other

    def __gt__(self, other: bytes) -> bool:
        Counting.compared += 1
        return bytes(self) > other


def test_cost_grows_with_the_logarithm_only() -> None:
    def comparisons(size: int) -> int:
        compiled = Networks.of(f"10.{n >> 8}.{n & 255}.0/24" for n in range(size))
        Counting.compared = 0
        assert compiled.find(Counting(pack("10.0.0.1"))) == "10.0.0.0/24"
        return Counting.compared

    assert 1 <= comparisons(16) <= 6
    assert comparisons(65536) <= comparisons(16) + 12


@given(v4_numbers)
def test_ipv4_text_and_back(number: int) -> None:
    address = IPv4Address(number)
    assert pack(str(address)) == address.packed == pack(f"::ffff:{address}")
    assert canonical_ip(f"::FFFF:{address}") == unpack(address.packed) == str(address)


@given(v6_numbers)
def test_ipv6_text_and_back(number: int) -> None:
    address = IPv6Address(number)
    packed = address.ipv4_mapped.packed if address.ipv4_mapped else address.packed
    for text in (str(address), address.exploded.upper(), f"{address}%eth0"):
        assert pack(text) == packed
    assert pack(unpack(packed)) == packed


@pytest.mark.parametrize(
    "text",
    ["", " ", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.0.0.1", "1.2.3.4 ", "1.2.3.4%eth0", "1.2.3.4:80", "[::1]", "::1::",
     "g::", ":", "10.0.0.0/8", "localhost", "1.2.3.4\0", "::1\0", "\ud800:", "\u0661.2.3.4", "0x7f.1"],
)  # fmt: skip
def test_not_an_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an IP address; (write|it is a network)"):
        pack(text)


def test_packed_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="packed"):
        unpack(b"\0" * 5)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::/95", "::/95"),
    ],
)
def test_canonical_network(text: str, canonical: str) -> None:
    assert canonical_network(text) == canonical


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("10.0.0.1/8", '"10.0.0.1/8" has host bits set; did you mean "10.0.0.0/8"?'),
        ("2001:db8::1/32", 'did you mean "2001:db8::/32"?'),
        ("::ffff:10.0.0.1/104", 'did you mean "10.0.0.0/8"?'),
        ("::ffff:0:0/95", 'did you mean "::fffe:0:0/95"?'),
        ("10.0.0.0/33", "a number from 0 to 32"),
        ("::/129", "a number from 0 to 128"),
        ("10.0.0.0/", "a number from 0 to 32"),
        ("10.0.0.0/-1", "a number from 0 to 32"),
        ("10.0.0.0/255.0.0.0", '"10.0.0.0/255.0.0.0" has a mask; did you mean "10.0.0.0/8"?'),
        ("10.0.0.0/255.0.255.0", "a number from 0 to 32"),
        ("10.0.0.0/8/8", "a number from 0 to 32"),
        ("10.0.0.0/\u0668", "a number from 0 to 32"),
        ("10.0/8", "is not a network; write it as"),
        ("example.org/8", "is not a network; write it as"),
    ],
)
def test_a_bad_network_is_told_its_remedy(text: str, remedy: str) -> None:
    for reject in (canonical_network, lambda text: Networks.of([text]), Networks().adding, Networks().removing):
        with pytest.raises(ValueError, match=re.escape(remedy)):
            reject(text)


def test_every_prefix_length_has_its_mask() -> None:
    assert [mask.bit_count() for mask in module._HOST_MASKS[4]] == list(range(32, -1, -1))
    assert [mask.bit_count() for mask in module._HOST_MASKS[16]] == list(range(128, -1, -1))
