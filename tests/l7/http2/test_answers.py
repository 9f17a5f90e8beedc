import pytest
from hpack import Decoder

from mcproxy.l7.http2.answers import answer
from mcproxy.wire.fields import Request
from mcproxy.wire.http2 import Frame
from tests.kit.http2_peer import Cutter, Seen
from tests.kit.relay_playbook import fields_of


def request(method: bytes = b"GET", grpc: bool = False) -> Request:
    return Request(method, b"a.test", b"a.test", b"/", grpc=grpc)


def only(data: bytes) -> Seen:
    (head,) = Cutter().feed(data)
    assert head.kind == Frame.HEADERS
    assert head.ends
    return head


@pytest.mark.parametrize("status", [400, 421, 431, 502, 503, 504])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_plain_answer_takes_nothing_from_any_window(status: int, method: bytes) -> None:
    decoder = Decoder()
    assert fields_of(only(answer(3, status, request(method))), decoder) == [
        (":status", str(status)),
        ("content-length", "0"),
    ]
    assert not decoder.header_table.dynamic_entries


@pytest.mark.parametrize("status", [502, 504])
def test_grpc_gets_trailers_only(status: int) -> None:
    fields = dict(fields_of(only(answer(3, status, request(grpc=True))), Decoder()))
    assert fields[":status"] == "200"
    assert fields["content-type"] == "application/grpc"
    assert fields["grpc-status"] == "14"


def test_what_is_the_clients_fault_stays_a_status_for_grpc() -> None:
    assert (":status", "421") in fields_of(only(answer(3, 421, request(grpc=True))), Decoder())


def test_a_size_update_comes_first() -> None:
    head = only(answer(3, 400, request(), b"\x20"))
    assert head.payload.startswith(b"\x20")
    assert (":status", "400") in fields_of(head, Decoder())
