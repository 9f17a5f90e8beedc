from mcproxy.admin.room import GRACES, QUIET, Room

SILENT_GRACE = GRACES[0]


def room(*origins: str) -> Room:
    """One that is full, with a connection from each of these, at one a second."""
    made = Room(len(origins))
    for number, origin in enumerate(origins):
        assert not made.is_full
        made.enter(number, origin, float(number))
    assert made.is_full
    return made


def test_the_oldest_of_the_origin_with_the_most_leaves_first() -> None:
    full = room("operator", "flood", "other", "flood", "other", "flood")
    assert full.next_to_leave() == (1, 1 + SILENT_GRACE)
    full.leave(1)
    full.enter(6, "flood", 6.0)
    assert full.next_to_leave() == (3, 3 + SILENT_GRACE)


def test_from_many_origins_the_oldest_leaves() -> None:
    assert room("c", "b", "a").next_to_leave() == (0, SILENT_GRACE)


def test_each_step_towards_a_call_has_a_time_and_repeating_it_has_none() -> None:
    full = room("a")
    for step, client in enumerate((True, False, True), 1):
        full.heard(0, step * 10, client=client)
        assert full.next_to_leave() == (0, step * 10 + GRACES[step])
        full.heard(0, step * 10 + 5, client=client)
        assert full.next_to_leave() == (0, step * 10 + GRACES[step])
    full.heard(0, 50, client=False)
    full.heard(0, 60, client=True)
    assert full.next_to_leave() == (0, 30 + GRACES[3]), "data that is no call is no step either"


def test_of_one_origin_a_silent_one_goes_though_it_came_later() -> None:
    full = room("a", "a")
    full.heard(0, 1.0, client=True)
    assert full.next_to_leave() == (1, 1 + SILENT_GRACE)


def test_one_with_a_call_stays_and_one_that_had_a_call_goes_after_all_others() -> None:
    full = room("flood", "flood", "operator")
    for number in (0, 1):
        full.call_began(number)
    assert full.next_to_leave() == (2, 2 + SILENT_GRACE), "the flood has proved itself"
    full.call_began(2)
    assert full.next_to_leave() is None
    full.call_began(1)
    full.call_ended(1, 50.0)
    assert full.next_to_leave() is None, "it has another one"
    full.call_ended(1, 60.0)
    full.call_ended(0, 70.0)
    assert full.next_to_leave() == (1, 60 + QUIET), "it is quiet for longest"


def test_a_call_whose_connection_has_ended_is_no_matter() -> None:
    full = room("a")
    full.leave(0)
    full.call_began(0)
    full.call_ended(0, 1.0)
    assert len(full) == 0
    assert repr(full) == "<Room 0/1>"
