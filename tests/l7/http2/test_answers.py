import pytest
from hpack import Decoder

from mcproxy.l7.http2.answers import answer, grpc_status
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
        *([("retry-after", "1")] if status == 503 else []),
    ]
    assert not decoder.header_table.dynamic_entries


@pytest.mark.parametrize("status", [502, 504])
def test_grpc_gets_trailers_only(status: int) -> None:
    fields = dict(fields_of(only(answer(3, status, request(grpc=True))), Decoder()))
    assert fields[":status"] == "200"
    assert fields["content-type"] == "application/grpc"
    assert fields["grpc-status"] == "14"


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("the backend speaks HTTP/1.1, which carries no gRPC", "the backend speaks HTTP/1.1, which carries no gRPC"),
        ("100 %: \u00fc\n~", "100 %25: %C3%BC%0A~"),
        ("", "Not Implemented"),
    ],
)
def test_grpc_gets_the_reason_why_something_is_not_implemented(why: str, message: str) -> None:
    """The message is percent-encoded (gRPC over HTTP2, "Responses")."""
    fields = dict(fields_of(only(answer(3, 501, request(grpc=True), why=why)), Decoder()))
    assert (fields[":status"], fields["grpc-status"], fields["grpc-message"]) == ("200", "12", message)
    assert grpc_status(501, request(grpc=True)) == 12
    assert grpc_status(501, request()) is None
    assert (":status", "501") in fields_of(only(answer(3, 501, request(), why=why)), Decoder())


def test_a_reason_that_may_name_the_backend_is_the_logs() -> None:
    fields = dict(fields_of(only(answer(3, 502, request(grpc=True), why="connecting to 10.0.0.1")), Decoder()))
    assert fields["grpc-message"] == "Bad Gateway"


def test_what_is_the_clients_fault_stays_a_status_for_grpc() -> None:
    assert (":status", "421") in fields_of(only(answer(3, 421, request(grpc=True))), Decoder())


def test_a_size_update_comes_first() -> None:
    head = only(answer(3, 400, request(), b"\x20"))
    assert head.payload.startswith(b"\x20")
    assert (":status", "400") in fields_of(head, Decoder())
