"""The cache of two generations."""

from mcproxy.l7.generations import Generations


def test_what_is_used_again_survives_and_the_rest_is_given_up() -> None:
    cache: Generations[str, int] = Generations(2)
    for number, key in enumerate("abc"):
        cache.keep(key, number)
    assert (cache.young, cache.old) == ({"c": 2}, {"a": 0, "b": 1})
    assert cache.again("a") == 0
    assert cache.again("x") is None
    cache.keep("d", 3)
    assert (cache.young, set(cache.old)) == ({"d": 3}, {"c", "a"})
    assert repr(cache) == "<Generations 1+2>"


def test_it_is_bounded_and_gives_up_one_value_for_each_that_it_takes() -> None:
    cache: Generations[int, int] = Generations(8)
    counts = []
    for number in range(64):
        cache.keep(number, number)
        assert len(cache.young) <= 8
        assert len(cache.old) <= 8
        counts.append(len(cache.young) + len(cache.old) + len(cache._dying))
    assert counts == [*range(1, 17), *[16] * 48], "two generations, to the last one"
