import pytest

from mcproxy.conflicts import find


def listeners(*addresses: object) -> dict[str, object]:
    return {"listeners": [{"addr": addr} for addr in addresses]}


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (":443", "0.0.0.0:443", True), ("127.0.0.1:443", ":443", True), ("[::1]:443", "[::]:443", True),
        ("0.0.0.0:443", "[::]:443", False), (":443", ":444", False), ("127.0.0.1:0", ":0", False),
        ("127.0.0.1:443", "127.0.0.2:443", False), ("[::1]:443", "127.0.0.1:443", False),
    ],
)  # fmt: skip
def test_two_listeners_can_not_have_one_port_of_one_address(first: str, second: str, clash: bool) -> None:
    told = [
        ("listeners[1].addr", f"{second} and {first} (listeners[0]) can't both be listened on; remove one of the two")
    ]
    assert list(find(listeners(first, second))) == (told if clash else [])


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [([], ["edge1"], True), (["edge1"], ["edge1", "edge2"], True), (["edge1"], ["edge2"], False)],
)
def test_two_listeners_of_different_nodes_have_a_port_each(first: list[str], second: list[str], clash: bool) -> None:
    document = {"listeners": [{"addr": ":443", "nodes": first}, {"addr": "127.0.0.1:443", "nodes": second}]}
    assert bool(list(find(document))) is clash


@pytest.mark.parametrize(("first", "second"), [("[::1]:443", "[0:0:0:0:0:0:0:1]:443"), (":443", ":0443")])
def test_an_address_written_in_two_ways_is_one(first: str, second: str) -> None:
    ((key, message),) = find(listeners(first, second))
    assert key == "listeners[1].addr"
    assert message.endswith(" is also listeners[0]; remove one of the two")


def test_a_name_written_in_two_ways_is_one() -> None:
    routes = [{"hostname": "b\u00fccher.test"}, {"hostname": "b.test"}, {"hostname": "XN--BCHER-KVA.test."}]
    other = {"addr": ":444", "routes": [{"hostname": "b.test"}]}
    assert list(find({"listeners": [{"addr": ":443", "routes": routes}, other]})) == [
        ("listeners[0].routes[2].hostname", "xn--bcher-kva.test is also routes[0]; remove one of the two")
    ]


@pytest.mark.parametrize(
    "document",
    [{}, {"listeners": 1}, {"listeners": [1, {}]}, listeners("x", "x", 1, 1), {"listeners": [{"routes": ["x", {}]}]}],
)
def test_what_does_not_parse_conflicts_with_nothing(document: dict[str, object]) -> None:
    assert list(find(document)) == []
