from itertools import islice

from mcproxy.fleet.backoff import FIRST, LAST, pauses


def test_pauses_double_up_to_the_longest_and_are_at_least_half_of_it() -> None:
    longest = list(islice(pauses(lambda _low, high: high), 9))
    assert longest == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, LAST, LAST, LAST]
    assert list(islice(pauses(lambda low, _high: low), 2)) == [FIRST / 2, FIRST]


def test_two_nodes_differ() -> None:
    assert list(islice(pauses(), 5)) != list(islice(pauses(), 5))
