import pytest
from hpack import Decoder

from mcproxy.l7.answers import answer
from mcproxy.wire.fields import Request
from mcproxy.wire.http2 import Frame
from tests.l7.peer import Cutter


def request(method: bytes = b"GET", grpc: bool = False) -> Request:
    return Request(method, b"a.test", b"a.test", b"/", grpc=grpc)


@pytest.mark.parametrize("status", [400, 421, 431, 502, 503, 504])
def test_a_plain_answer(status: int) -> None:
    head, body = Cutter().feed(answer(3, status, request()))
    decoder = Decoder()
    fields = dict(decoder.decode(head.payload))
    assert fields[":status"] == str(status)
    assert int(fields["content-length"]) == len(body.payload)
    assert str(status).encode() in body.payload
    assert body.ends
    assert not head.ends
    assert not decoder.header_table.dynamic_entries


def test_head_has_no_body() -> None:
    (head,) = Cutter().feed(answer(3, 502, request(b"HEAD")))
    assert head.ends
    assert ("content-length", "16") in Decoder().decode(head.payload)


@pytest.mark.parametrize("status", [502, 504])
def test_grpc_gets_trailers_only(status: int) -> None:
    (head,) = Cutter().feed(answer(3, status, request(grpc=True)))
    fields = dict(Decoder().decode(head.payload))
    assert head.kind == Frame.HEADERS
    assert head.ends
    assert fields[":status"] == "200"
    assert fields["content-type"] == "application/grpc"
    assert fields["grpc-status"] == "14"


def test_what_is_the_clients_fault_stays_a_status_for_grpc() -> None:
    head, _ = Cutter().feed(answer(3, 421, request(grpc=True)))
    assert (":status", "421") in Decoder().decode(head.payload)


def test_a_size_update_comes_first() -> None:
    head, _ = Cutter().feed(answer(3, 400, None, b"\x20"))
    assert head.payload.startswith(b"\x20")
    assert (":status", "400") in Decoder().decode(head.payload)
