"""One exchange between its ends: how far it is, and when its client is too slow."""

from dataclasses import replace

from mcproxy.l7.bounds import BODY_STALL_SECONDS
from mcproxy.l7.bridge.backend_end import BackendEnd
from mcproxy.l7.bridge.bounds import BODY_GRACE_SECONDS, MIN_BODY_RATE
from mcproxy.l7.bridge.client_http1 import ClientEnd
from mcproxy.l7.bridge.exchange import Answer, Coming, Exchange
from mcproxy.l7.core import ExchangeEnd
from mcproxy.wire.fields import NO_REQUEST


def exchange() -> Exchange:
    return Exchange(1, ClientEnd(), BackendEnd(), 0.0)


def test_before_it_is_known_to_be_a_request() -> None:
    one = exchange()
    assert (one.method, one.request, one.status, one.received) == (b"", NO_REQUEST, 0, 0)
    assert repr(one) == "<Exchange 1 b'' b'' 0 coming, unsent, awaited>"


def test_a_failure_is_answered_only_before_an_answer() -> None:
    one = exchange()
    one.fail(502, ExchangeEnd.BACKEND_GONE, "it went")
    assert (one.answer, one.status, one.over, one.why) == (Answer.OURS, 502, True, "it went")
    begun = exchange()
    begun.coming = Coming.COMPLETE
    begun.on_head([(b":status", b"200"), (b"content-length", b"2")], ended=False)
    begun.fail(502, ExchangeEnd.BACKEND_GONE, "it went")
    assert (begun.answer, begun.status, begun.end) == (Answer.BROKEN, 200, ExchangeEnd.BACKEND_GONE)


def test_a_client_that_leaves_breaks_an_answer_off() -> None:
    one = exchange()
    one.abandon()
    assert (one.answer, one.end) == (Answer.AWAITED, ExchangeEnd.CLIENT_GONE)
    begun = exchange()
    begun.on_head([(b":status", b"200")], ended=False)
    begun.abandon()
    assert (begun.answer, begun.end) == (Answer.BROKEN, ExchangeEnd.CLIENT_GONE)


def test_slowness() -> None:
    one = exchange()
    assert not one.is_slow(BODY_STALL_SECONDS)
    assert one.is_slow(BODY_STALL_SECONDS + 1)
    one.outgoing.add(b"a")
    assert not one.is_slow(BODY_STALL_SECONDS + 1), "it is the backend's turn"
    one.outgoing.next_piece(1)
    assert not one.is_slow(BODY_STALL_SECONDS + 2)
    counted = exchange()
    counted.request = replace(NO_REQUEST, content_length=10_000)
    counted.progress = BODY_GRACE_SECONDS + 10
    assert counted.is_slow(BODY_GRACE_SECONDS + 10)
    counted.outgoing.received = 10 * MIN_BODY_RATE
    assert not counted.is_slow(BODY_GRACE_SECONDS + 10)
