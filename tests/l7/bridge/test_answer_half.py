"""The answer's half: its states, and what it counts."""

from itertools import product

import pytest

from mcproxy.l7.bridge.answer_half import _NEXT, AnswerHalf, AnswerState
from tests.kit.exchange_ends import OK, NotedClient


def test_no_step_is_taken_that_is_not_in_the_table() -> None:
    assert set(_NEXT) == set(AnswerState)
    assert set().union(*_NEXT.values()) == set(AnswerState) - {AnswerState.AWAITED}
    for before, after in product(AnswerState, AnswerState):
        one = AnswerHalf(NotedClient())
        one.state = before
        if after in _NEXT[before]:
            one._become(after)
            assert repr(one) == f"<AnswerHalf 0 {after.value} sent=0>"
        else:
            with pytest.raises(AssertionError):
                one._become(after)


def test_it_counts_what_it_writes() -> None:
    client = NotedClient()
    one = AnswerHalf(client)
    one.head(OK, empty=False, last=True)
    one.body(b"abc")
    one.body(b"d")
    assert repr(one) == "<AnswerHalf 200 begun sent=4>"
    one.end([(b"connection", b"close"), (b"x-sum", b"1")])
    assert client.told[-1] == ("end", [(b"x-sum", b"1")]), "hop-by-hop fields are no trailers"
    assert one.state is AnswerState.COMPLETE
    ours = AnswerHalf(NotedClient())
    ours.own(502, last=False, why="it broke")
    assert (ours.status, ours.sent, ours.state) == (502, 7, AnswerState.OURS)
