"""An exchange's own decisions: our own answers, 100-continue, and how it ends."""

import pytest

from mcproxy.l7.bounds import BODY_STALL_SECONDS, MAX_INTERIM
from mcproxy.l7.bridge.answer_half import AnswerState
from mcproxy.l7.bridge.bounds import EXPECT_SECONDS, FIRST_SETTINGS_SECONDS
from mcproxy.l7.bridge.ends import BackendFault, Processed, Takes
from mcproxy.l7.bridge.exchange import finished
from mcproxy.l7.bridge.heads import AnswerHead, Upgrade
from mcproxy.l7.core import ExchangeEnd, LineState
from mcproxy.wire.fields import NO_LENGTH, NO_REQUEST
from tests.kit.exchange_ends import OK, Between, request_head


def test_before_it_is_known_to_be_a_request() -> None:
    one = Between().exchange
    assert repr(one) == "<Exchange 1 b'' b'' 0 coming, unsent, awaited>"
    one.fail(400, ExchangeEnd.CLIENT_FAULT, "no request")
    record = finished(one, 1.0)
    assert (record.method, record.request, record.status, record.received) == (b"", NO_REQUEST, 400, 0)


def test_a_failure_is_answered_only_before_an_answer() -> None:
    on = Between()
    on.exchange.fail(502, ExchangeEnd.BACKEND_GONE, "it went")
    assert (on.exchange.to_client.state, on.exchange.over, on.exchange.why) == (AnswerState.OURS, True, "it went")
    begun = Between(request_head())
    begun.exchange.on_head(OK, ended=False)
    begun.exchange.fail(502, ExchangeEnd.BACKEND_GONE, "it went")
    record = finished(begun.exchange, 1.0)
    assert (begun.exchange.to_client.state, record.status, record.end) == (
        AnswerState.BROKEN, 200, ExchangeEnd.BACKEND_GONE,
    )  # fmt: skip


def test_once_an_answer_has_begun_the_head_is_let_go() -> None:
    """It may be 64 KiB, made of a few bytes; a client that took none of its answers had 256 of them kept."""
    one = Between(request_head()).exchange
    heads = [one.to_backend.head]
    one.on_head(OK, ended=False)
    heads.append(one.to_backend.head)
    assert [each is None for each in heads] == [False, True]
    assert not one.to_backend.goes_again(Processed.NO, one)


def test_a_client_that_leaves_breaks_an_answer_off() -> None:
    on = Between(request_head())
    on.exchange.abandon("it left")
    assert (on.exchange.to_client.state, on.exchange.end) == (AnswerState.AWAITED, ExchangeEnd.CLIENT_GONE)
    begun = Between(request_head())
    begun.exchange.on_head(OK, ended=False)
    begun.exchange.abandon("it left")
    assert (begun.exchange.to_client.state, begun.exchange.end) == (AnswerState.BROKEN, ExchangeEnd.CLIENT_GONE)


def test_what_leads_elsewhere_or_asks_too_much_of_the_backend_is_answered() -> None:
    assert Between(request_head(host=b"two.test")).client.told == [("own", 421, False)]
    assert Between(request_head(b"POST", b"two.test"), has_body=True).client.told == [("own", 421, True)]
    for head, why in (
        (request_head(upgrade=Upgrade.OTHER), "an Upgrade to another protocol than WebSocket"),
        (request_head(upgrade=Upgrade.WEBSOCKET), "the backend takes no WebSocket (RFC 8441)"),
        (request_head(grpc=True), "the backend speaks HTTP/1.1, which carries no gRPC"),
    ):
        on = Between()
        on.backend.answer = Takes.NEVER
        on.accept(head)
        assert on.client.told == [("own", 501, False)]
        assert on.exchange.why.startswith(why)


def test_without_a_connection_it_gets_the_status_of_that() -> None:
    on = Between()
    on.backend.answer = Takes.LATER
    on.accept(request_head())
    on.backend.state = LineState.WANTED
    assert not on.exchange.tick(FIRST_SETTINGS_SECONDS + 1), "the drive has the deadline"
    on.exchange.on_refused(503, "too many wait")
    assert (on.client.told, on.exchange.why) == ([("own", 503, False)], "too many wait")


def test_100_is_the_backends_to_say_and_then_ours() -> None:
    on = Between(request_head(b"POST", expects_continue=True), has_body=True)
    assert not on.exchange.tick(EXPECT_SECONDS)
    assert on.client.told == []
    assert not on.exchange.tick(EXPECT_SECONDS + 0.1)
    on.exchange.on_interim(AnswerHead(100, (), NO_LENGTH))
    assert on.client.told == [("invite",)], "once is enough"


def test_interim_heads_pass_to_those_who_know_them_and_are_bounded() -> None:
    hints = AnswerHead(103, (), NO_LENGTH)
    on = Between(request_head())
    on.exchange.on_interim(hints)
    assert on.client.told == [("interim", hints)]
    old = Between(request_head(takes_interim=False))
    for _ in range(MAX_INTERIM):
        old.exchange.on_interim(hints)
    assert old.client.told == []
    with pytest.raises(BackendFault, match="too many"):
        old.exchange.on_interim(hints)


def test_deadlines() -> None:
    on = Between(request_head(b"POST"), has_body=True)
    assert not on.exchange.tick(BODY_STALL_SECONDS)
    assert on.exchange.tick(BODY_STALL_SECONDS + 1)
    waiting = Between()
    waiting.backend.answer = Takes.LATER
    waiting.accept(request_head(upgrade=Upgrade.WEBSOCKET))
    assert not waiting.exchange.tick(FIRST_SETTINGS_SECONDS)
    assert not waiting.exchange.over
    assert not waiting.exchange.tick(FIRST_SETTINGS_SECONDS + 1), "it is not the client that is slow"
    assert waiting.client.told == [("own", 504, False)]


def test_the_rest_of_a_body_behind_a_complete_answer_is_dropped() -> None:
    on = Between(request_head(b"POST", length=5), has_body=True)
    on.exchange.on_head(OK, ended=True)
    on.exchange.on_end([])
    assert on.backend.told[-1] == ("let go", False)
    on.exchange.on_lost("it went", Processed.NO)
    on.exchange.on_reset(0, Processed.POSSIBLY)
    on.send(b"abcde", end=True)
    assert ("body", b"abcde") not in on.backend.told
    assert on.client.told == [("head", True, False), ("end", [])]
    assert (on.exchange.end, finished(on.exchange, 0.0).received) == (ExchangeEnd.DONE, 5)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_a_body_that_must_not_be_ends_the_answer_with_its_head(method: bytes, status: int) -> None:
    """Some backends send one in answer to HEAD; the client got 502."""
    on = Between(request_head(method))
    on.exchange.on_head(AnswerHead(status, (), NO_LENGTH), ended=False)
    on.exchange.on_body(b"")
    assert not on.exchange.over
    on.exchange.on_body(b"abc")
    assert on.client.told == [("head", False, False), ("end", [])]
    assert on.backend.told[2:] == [("let go", False), ("let go", True)], "the stream is cancelled"
    assert (on.exchange.end, finished(on.exchange, 1.0).sent) == (ExchangeEnd.DONE, 0)
    assert on.exchange.why == "the backend sent a body with an answer that has none"
