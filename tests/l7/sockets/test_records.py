"""Pieces become full records, and those that are large are not copied."""

from hypothesis import given
from hypothesis import strategies as st

from mcproxy.l7.sockets.records import RECORD, records

SIZES = st.one_of(st.integers(0, 40), st.integers(RECORD - 20, RECORD + 20), st.integers(0, 5 * RECORD))


@given(sizes=st.lists(SIZES, max_size=12))
def test_records_are_full_and_nothing_is_lost(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    made = list(records(pieces))
    assert b"".join(made) == b"".join(pieces)
    assert all(len(each) == RECORD for each in made[:-1])
    assert all(0 < len(each) <= RECORD for each in made[-1:])


def test_what_fills_records_is_not_copied() -> None:
    body = bytes(2 * RECORD)
    made = list(records([body, b"head", body[:RECORD]]))
    assert [len(each) for each in made] == [RECORD, RECORD, RECORD, 4]
    assert [isinstance(each, memoryview) and each.obj is body for each in made] == [True, True, False, False]


def test_a_record_is_made_when_it_is_asked_for() -> None:
    """The bytes that are joined are still in the processor's cache when they are encrypted."""
    asked = []

    class Pieces(list[bytes]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for piece in super().__iter__():
                asked.append(piece)
                yield piece

    made = records(Pieces([bytes(RECORD)] * 3))
    next(made)
    assert len(asked) == 1
