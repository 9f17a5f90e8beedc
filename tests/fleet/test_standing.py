from mcproxy.fleet.standing import Standing, State


def test_a_node_is_behind_by_the_generations_that_it_lacks() -> None:
    standing = Standing("edge1", State.FOLLOWING, 1.0, generation=7)
    assert [standing.behind(generation) for generation in (5, 7, 9)] == [2, 0, 0]
