from mcproxy.change import Change, Provenance, Said, route_key
from mcproxy.fleet.following import Mark, Mutation, mark_of, mutations
from mcproxy.store.history import Revision
from tests.kit.control_plane import route

KEY = route_key(":443", "a.test")
NEW = '{"hostname":"a.test","backend":"127.0.0.1:3000"}'


def row(generation: int, sequence: int = 0, at: float = 1.0, node: str = "edge1", new: str | None = NEW) -> Revision:
    said = Said("bob", "why")
    return Revision(generation, sequence, at, "ann", "route.add", KEY.what, KEY.scope, KEY.name, None, new, said, node)


def mark(generation: int) -> Mark:
    return mark_of(row(generation))


def test_the_rows_after_ours_are_mutations_in_their_order() -> None:
    found = mutations([row(4), row(5), row(5, 1), row(6)], mark(4))
    change = Change(KEY, None, route("a.test"))
    provenance = Provenance("ann", "route.add", 1.0, Said("bob", "why"), "edge1")
    assert found == [Mutation(5, provenance, [change, change]), Mutation(6, provenance, [change])]
    assert found[-1].mark == mark(6)


def test_nothing_is_new() -> None:
    assert mutations([row(4), row(4, 1)], mark(4)) == []
    assert mutations([], (0, 0.0, "", "")) == [], "an empty database"


def test_a_gap_is_not_jumped() -> None:
    assert mutations([row(4), row(6)], mark(4)) is None
    assert mutations([row(5)], mark(4)) is None, "ours is missing"
    assert mutations([], mark(4)) is None, "the database is older than we are"
    assert mutations([row(1)], (0, 0.0, "", "")) is None, "the first load is a whole one"


def test_another_past_under_our_number_is_not_followed() -> None:
    """A failover may lose the last commits, and others take their numbers."""
    assert mutations([row(4, at=1.5), row(5)], mark(4)) is None
    assert mutations([row(4, node="edge2"), row(5)], mark(4)) is None
