"""An exchange keeps to the contracts of its ends, whatever those speak: here, no HTTP at all."""

import pytest

from mcproxy.l7.bridge.ends import Processed, Takes
from mcproxy.l7.bridge.exchange import finished
from mcproxy.l7.bridge.heads import Upgrade
from mcproxy.l7.core import ExchangeEnd
from tests.kit.exchange_ends import OK, Between, request_head


def test_a_message_is_a_head_pieces_and_an_end_both_ways() -> None:
    on = Between(request_head(b"POST"), has_body=True)
    on.send(b"ab")
    on.send(b"c", end=True)
    assert on.backend.told == [
        ("connect",), ("begin", b"POST", False), ("body", b"ab"), ("body", b"c"), ("end", []),
    ]  # fmt: skip
    on.exchange.on_head(OK, ended=False)
    on.exchange.on_body(b"xy")
    on.exchange.on_end([(b"x-sum", b"1"), (b"content-length", b"2")])
    assert on.client.told == [("head", False, False), ("body", b"xy"), ("end", [(b"x-sum", b"1")])]
    assert on.backend.told[-1] == ("let go", True)
    assert on.client.bytes_taken == 3
    assert on.client.ends == [(ExchangeEnd.DONE, "")]
    record = finished(on.exchange, 9.0)
    assert (record.status, record.received, record.sent, record.ended, record.end) == (
        200, 3, 2, 9.0, ExchangeEnd.DONE,
    )  # fmt: skip


def test_no_more_is_sent_than_there_is_room_for() -> None:
    on = Between(request_head(b"POST"), has_body=True)
    on.backend.room = 3
    on.send(b"abcde", end=True)
    assert on.backend.told[-1] == ("body", b"abc")
    on.backend.room = 9
    on.exchange.send_on()
    assert on.backend.told[-2:] == [("body", b"de"), ("end", [])]


@pytest.mark.parametrize(
    ("method", "processed", "again"),
    [
        (b"POST", Processed.NO, True), (b"POST", Processed.UNKNOWN, False), (b"GET", Processed.UNKNOWN, True),
        (b"PUT", Processed.UNKNOWN, True), (b"PATCH", Processed.UNKNOWN, False), (b"GET", Processed.POSSIBLY, False),
    ],
)  # fmt: skip
def test_a_lost_request_goes_again_unless_the_backend_may_have_acted_on_it(
    method: bytes, processed: Processed, again: bool
) -> None:
    on = Between(request_head(method))
    on.backend.told.clear()
    on.exchange.on_lost("it went", processed)
    assert (on.backend.told[:2] == [("drop",), ("connect",)]) is again
    assert on.client.told == ([] if again else [("own", 502, False)])
    if again:
        on.exchange.on_lost("it went", Processed.NO)
    assert on.client.told == [("own", 502, False)], "not a third time"


def test_a_fault_while_sending_loses_the_connection() -> None:
    on = Between(request_head(b"POST"), has_body=True)
    on.backend.breaks = True
    on.send(b"a")
    assert on.backend.told[-2:] == [("drop",), ("let go", False)]
    assert on.client.told == [("own", 502, True)]
    assert on.exchange.why == "it broke"


@pytest.mark.parametrize("takes", [Takes.NEVER, Takes.LATER])
def test_a_tunnel_waits_until_the_backend_is_known_to_offer_it(takes: Takes) -> None:
    on = Between()
    on.backend.answer = takes
    on.accept(request_head(upgrade=Upgrade.WEBSOCKET))
    assert on.backend.told[:1] == [("connect",)]
    if takes is Takes.NEVER:
        assert on.client.told == [("own", 501, False)]
        return
    on.backend.answer = Takes.NOW
    on.exchange.on_ready()
    assert on.backend.told[1:] == [("begin", b"GET", False)]
    on.exchange.on_head(OK, ended=False)
    assert on.client.told == [("tunnel",)]
    on.send(b"up", end=True)
    assert on.backend.told[-2:] == [("body", b"up"), ("end", [])]
    on.exchange.on_body(b"down")
    on.exchange.on_end([])
    assert on.client.told[1:] == [("body", b"down"), ("end", [])]
    assert on.exchange.end is ExchangeEnd.DONE


def test_an_answer_that_breaks_off_is_reset() -> None:
    on = Between(request_head())
    on.exchange.on_head(OK, ended=False)
    on.exchange.on_reset(2, Processed.POSSIBLY)
    assert on.client.told[-1] == ("reset",)
    assert on.backend.told[-1] == ("let go", True), "the backend has reset it: there is nothing to cancel"
    assert (on.exchange.end, on.exchange.why) == (
        ExchangeEnd.BACKEND_RESET,
        "the backend reset the stream: INTERNAL_ERROR",
    )
