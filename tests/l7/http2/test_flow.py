"""A backend that overruns the client's windows."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.core import ExchangeEnd
from mcproxy.l7.http2.budgets import HELD_OVERHEAD, MAX_HELD
from mcproxy.l7.http2.flow import send
from mcproxy.l7.http2.stream import StreamState
from mcproxy.wire import http2
from mcproxy.wire.http2 import ErrorCode, Frame, Setting
from tests.kit.http2_peer import Cutter
from tests.kit.relay_playbook import OK, Book


def narrow(window: int) -> Book:
    book = Book(client_settings=[(Setting.INITIAL_WINDOW_SIZE, window)])
    book.request()
    book.answer(1, OK, end=False)
    book.drop()
    return book


def test_what_exceeds_the_window_waits_and_leaves_in_order() -> None:
    book = narrow(3)
    book.backend(http2.data(1, b"hello ") + http2.data(1, b"world", end_stream=True))
    assert book.take_down() == [("DATA", 1, b"hel")]
    book.client(http2.window_update(1, 5))
    assert book.take_down() == [("DATA", 1, b"lo "), ("DATA", 1, b"wo")]
    assert book.records == []
    book.client(http2.window_update(1, 100))
    assert book.take_down() == [("DATA!", 1, b"rld")]
    assert [s.end for s in book.records] == [ExchangeEnd.DONE]
    assert book.relay.client.windows.held_bytes == 0


def test_an_acknowledgement_comes_before_what_it_sets_free() -> None:
    book = narrow(0)
    book.backend(http2.data(1, b"x", end_stream=True))
    book.client(http2.settings([(Setting.INITIAL_WINDOW_SIZE, 1)]))
    assert book.take_down() == [("SETTINGS", 1, {}), ("DATA!", 1, b"x")]


def test_the_connections_window_holds_too() -> None:
    book = narrow(2**31 - 1)
    for _ in range(4):
        book.backend(http2.data(1, b"x" * 16_384))
    assert sum(len(seen.payload) for seen in book.to_client) == 65_535
    book.drop()
    book.client(http2.window_update(0, 10))
    assert book.take_down() == [("DATA", 1, b"x")]


def test_trailers_wait_for_the_body() -> None:
    book = narrow(1)
    book.backend(http2.data(1, b"ab"))
    book.answer(1, [("x-sum", "1")])
    book.request(3)
    book.answer(3, [*OK, ("x-sum", "1")])
    assert book.take_down() == [("DATA", 1, b"a"), ("HEADERS!", 3, [*OK, ("x-sum", "1")])]
    book.client(http2.window_update(1, 1))
    assert book.take_down() == [("DATA", 1, b"b"), ("HEADERS!", 1, [("x-sum", "1")])]


def test_a_reset_after_all_was_said_does_not_lose_what_is_held() -> None:
    book = narrow(1)
    book.backend(http2.data(1, b"ab", end_stream=True) + http2.rst_stream(1, ErrorCode.NO_ERROR))
    book.client(http2.window_update(1, 1))
    assert book.take_down() == [("DATA", 1, b"a"), ("DATA!", 1, b"b")]


def test_what_is_held_is_dropped_with_its_stream() -> None:
    book = narrow(1)
    book.backend(http2.data(1, b"abc"))
    book.client(http2.rst_stream(1, ErrorCode.CANCEL))
    assert ("WINDOW_UPDATE", 0, 2) in book.take_up(), "the backend's window is not lost"
    assert book.relay.client.windows.held_bytes == 0


def test_more_after_the_end_is_the_backends_fault() -> None:
    book = narrow(1)
    book.backend(http2.data(1, b"abc", end_stream=True) + http2.data(1, b"d"))
    assert book.take_down()[-1] == ("RST_STREAM", 1, ErrorCode.INTERNAL_ERROR)


def test_a_backend_that_goes_on_is_not_read_any_more() -> None:
    book = narrow(0)
    for _ in range(MAX_HELD // 16_384):
        assert book.relay.wants_backend
        book.backend(http2.data(1, b"x" * 16_384))
    assert not book.relay.wants_backend
    book.client(http2.window_update(1, 16_384))
    assert book.relay.wants_backend


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12),
    st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=20),
    st.integers(0, 20),
)
def test_every_byte_arrives_once_within_the_windows(
    sizes: list[int], updates: list[tuple[bool, int]], window: int
) -> None:
    book = narrow(window)
    body = bytes(range(256)) * 2
    sent, room, room_all, got = 0, window, 65_535, b""
    script = [("data", size) for size in sizes] + [("update", each) for each in updates]
    for index, (what, value) in enumerate(sorted(script, key=lambda step: hash(str(step)))):
        if what == "data":
            assert isinstance(value, int)
            book.backend(http2.data(1, body[sent : sent + value]))
            sent += value
        else:
            assert isinstance(value, tuple)
            connection, increment = value
            room, room_all = room + increment * (not connection), room_all + increment * connection
            book.client(http2.window_update(0 if connection else 1, increment))
        got += b"".join(seen.payload for seen in book.to_client if seen.kind == Frame.DATA)
        book.to_client = []
        assert len(got) == min(sent, room, room_all), index
        assert got == body[: len(got)]
    assert not Cutter().feed(b"".join(book.relay.take_for_client()))


# Large pieces


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 32_768, 100_000])
@pytest.mark.parametrize("last", [False, True])
def test_a_large_piece_is_cut_into_frames_uncopied(size: int, last: bool) -> None:
    book = narrow(2**31 - 1)
    book.client(http2.window_update(0, 1 << 20))
    book.drop()
    leg, body = book.relay.client, random.Random(size).randbytes(size)
    send(leg, leg.streams[1], body, last)
    assert all(item is body or isinstance(item, memoryview) or len(item) == 9 for item in leg.out)
    frames = Cutter().feed(b"".join(book.relay.take_for_client()))
    assert b"".join(seen.payload for seen in frames) == body
    assert [seen.ends for seen in frames] == [False] * (len(frames) - 1) + [last]
    assert len(frames) == -(-size // 16_384)
    assert [seen.state is StreamState.CLOSED for seen in book.records] == [True] * last


def test_an_end_without_a_body_needs_no_window() -> None:
    book = narrow(0)
    leg = book.relay.client
    send(leg, leg.streams[1], b"", True)
    (seen,) = Cutter().feed(b"".join(book.relay.take_for_client()))
    assert (seen.payload, seen.ends) == (b"", True)


@pytest.mark.parametrize("step", [1_000, 16_384, 20_000, 70_000])
def test_a_large_piece_leaves_as_the_window_opens(step: int) -> None:
    book = narrow(0)
    book.client(http2.window_update(0, 1 << 20))
    leg, body, got = book.relay.client, random.Random(step).randbytes(200_000), b""
    send(leg, leg.streams[1], body, False)
    kept = []
    while len(got) < len(body):
        assert leg.windows.held_bytes == len(body) - len(got) + HELD_OVERHEAD
        held = leg.streams[1].held
        assert held
        kept.append((len(held[0].payload), held[0].payload))
        book.client(http2.window_update(1, step))
        got += b"".join(seen.payload for seen in book.to_client if seen.kind == Frame.DATA)
        book.to_client = []
    assert got == body
    assert leg.windows.held_bytes == 0
    for size, payload in kept:
        whole = payload.obj if isinstance(payload, memoryview) else payload
        assert isinstance(whole, bytes)
        assert len(whole) <= 2 * size, "a short rest keeps no long piece in memory"
