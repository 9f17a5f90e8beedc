from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.relay.pair import BackendState
from mcproxy.wire.http2 import MAX_STREAM_ID, ErrorCode
from tests.kit.http2_peer import POST
from tests.kit.relay_playbook import Book


def test_goaway_never_takes_back_a_refusal() -> None:
    pair = Book().relay.pair
    assert pair.last_offered == MAX_STREAM_ID
    pair.goaway(9, ErrorCode.NO_ERROR)
    pair.goaway(11, ErrorCode.NO_ERROR)
    assert pair.last_offered == 9


def test_a_stream_is_recorded_once_whoever_ends_it_first() -> None:
    book = Book()
    book.request(1, POST, end=False)
    pair = book.relay.pair
    stream = pair.streams[1]
    pair.backend_ended(stream)
    assert stream.state.value == "backend ended"
    pair.client_ended(stream)
    assert stream.state.value == "closed"
    assert pair.ended == [stream]
    assert not pair.streams


def test_losing_the_backend_twice_says_so_once() -> None:
    book = Book()
    book.request(1)
    pair = book.relay.pair
    pair.lose_backend(502)
    assert pair.backend is BackendState.GONE
    said = len(pair.to_client)
    pair.lose_backend(504, ExchangeEnd.ANSWERED)
    assert len(pair.to_client) == said
    assert pair.backend_status == 502
    assert repr(pair) == "<Pair b'a.test' 0 streams, backend gone>"


def test_the_end_is_said_once() -> None:
    book = Book()
    book.request(1)
    book.drop()
    for _ in range(2):
        book.relay.cut(book.now)
        book.relay.client_closed(book.now)
    book.collect()
    assert book.take_down() == [("GOAWAY", 1, ErrorCode.NO_ERROR)]
    assert [s.end for s in book.records] == [ExchangeEnd.CUT]
