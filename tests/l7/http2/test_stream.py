from mcproxy.l7.http2.budgets import REMEMBERED_RESETS
from mcproxy.l7.http2.stream import Closed, ClosedStreams, Stream, StreamState
from mcproxy.wire.fields import NO_REQUEST


def test_why_an_identifier_has_no_stream() -> None:
    closed = ClosedStreams()
    for used in (1, 3, 9):
        closed.use(used)
    closed.reset_by_client(3)
    closed.reset_by_us(9)
    assert closed.why(1) is Closed.ENDED
    assert closed.why(3) is Closed.RESET_BY_CLIENT
    assert closed.why(5) is closed.why(7) is Closed.SKIPPED
    assert closed.why(9) is Closed.RESET_BY_US
    assert closed.why(11) is closed.why(2) is Closed.IDLE
    closed.reset_by_us(3)
    assert closed.why(3) is Closed.RESET_BY_US, "the client has been told: its late frames are nothing new"
    assert repr(closed) == "<ClosedStreams up to 9, 1 reset by the client, 2 by us>"


def test_memory_is_bounded() -> None:
    closed = ClosedStreams()
    for used in range(1, 4 * REMEMBERED_RESETS, 2):
        closed.use(used)
        closed.reset_by_client(used)
        closed.reset_by_us(used)
    assert closed.why(1) is Closed.ENDED, "forgotten"
    assert closed.why(4 * REMEMBERED_RESETS - 1) is Closed.RESET_BY_US
    assert repr(closed).endswith(f"{REMEMBERED_RESETS} reset by the client, {REMEMBERED_RESETS} by us>")


def test_a_stream_shows_itself() -> None:
    stream = Stream(5, StreamState.CLIENT_ENDED, NO_REQUEST, 1.0, 2, 3)
    assert repr(stream) == "<Stream 5 client ended b'' b'' 0>"
    assert (stream.up_window, stream.down_window, stream.up_left) == (2, 3, -1)


def test_a_stream_says_how_it_went_to_the_backend() -> None:
    first, second = (Stream(number, StreamState.CLOSED, NO_REQUEST, 1.0, 9, 9) for number in (1, 3))
    assert (first.backend_protocol, first.reused) == ("h2", False)
    assert (second.backend_protocol, second.reused) == ("h2", True)
