from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.stream import Stream, StreamState
from mcproxy.l7.relay.backend_leg import BackendLeg, BackendState
from mcproxy.wire import http2
from mcproxy.wire.fields import NO_REQUEST
from mcproxy.wire.http2 import PREFACE, ErrorCode, Setting
from tests.kit.relay_playbook import Book


def test_the_preface_is_first_and_comes_once() -> None:
    leg = BackendLeg(b"")
    leg.out.append(http2.ping(b"are you?", ack=True))
    assert leg.settings([(Setting.INITIAL_WINDOW_SIZE, 5)]) is None
    assert leg.out[0] == PREFACE + http2.settings([(Setting.ENABLE_PUSH, 0), (Setting.INITIAL_WINDOW_SIZE, 5)])
    assert leg.settings([(Setting.INITIAL_WINDOW_SIZE, 6)]) == http2.settings([(Setting.INITIAL_WINDOW_SIZE, 6)])
    assert leg.settings([]) is None
    assert len(leg.out) == 2


def test_only_a_backend_that_is_there_hears_of_the_clients_acknowledgement() -> None:
    leg = BackendLeg(b"")
    assert leg.acknowledged() is None
    leg.state = BackendState.UP
    assert leg.acknowledged() == http2.SETTINGS_ACK
    leg.lose()
    assert leg.acknowledged() is None
    assert repr(leg) == "<BackendLeg gone>"


def test_bytes_that_were_dropped_are_credited() -> None:
    leg = BackendLeg(b"")
    leg.dropped(0)
    leg.dropped(5)
    leg.cancel(Stream(3, StreamState.OPEN, NO_REQUEST, 0.0, 0, 0))
    assert leg.out == [http2.window_update(0, 5), http2.rst_stream(3, ErrorCode.CANCEL)]


def test_a_backend_is_lost_once() -> None:
    book = Book()
    book.request(1)
    book.relay.backend_failed(502, "no route", book.now)
    book.collect()
    assert book.relay.backend.state is BackendState.GONE
    assert [each[0] for each in book.take_down()] == ["HEADERS!", "GOAWAY"]
    book.relay.backend_failed(504, "again", book.now)
    book.collect()
    assert book.take_down() == []
    assert book.relay.client.admission.status == 502
    assert [stream.end for stream in book.records] == [ExchangeEnd.ANSWERED]
