import threading
from itertools import islice

from mcproxy.fleet.backoff import FIRST, LAST, Tries, pauses
from tests.kit.peers import DEADLINE


def test_pauses_double_up_to_the_longest_and_are_at_least_half_of_it() -> None:
    longest = list(islice(pauses(lambda _low, high: high), 8))
    assert longest == [0.25, 0.5, 1.0, 2.0, 4.0, LAST, LAST, LAST]
    assert list(islice(pauses(lambda low, _high: low), 2)) == [FIRST / 2, FIRST]


def test_two_nodes_differ() -> None:
    assert list(islice(pauses(), 5)) != list(islice(pauses(), 5))


def test_a_try_that_is_wanted_ends_the_pause_and_is_waited_for() -> None:
    """A node whose database was back had it after a pause of up to 15 s, whoever asked."""
    tries, made = Tries(), []

    def connect() -> None:
        tries.pause(10 * DEADLINE)
        made.append(1)
        tries.ended()

    thread = threading.Thread(target=connect)
    thread.start()
    tries.want(DEADLINE)
    assert made
    thread.join(DEADLINE)
    tries.want()  # waits for nothing
