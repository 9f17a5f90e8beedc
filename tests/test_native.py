from mcproxy import words
from mcproxy.native import BUILD, COMPILED, mypyc_attr


def test_the_build_is_that_of_the_modules() -> None:
    assert (BUILD == "compiled") is COMPILED
    assert words.__file__.endswith(".so" if COMPILED else "words.py")


def test_a_mark_for_mypyc_leaves_the_class_as_it_is() -> None:
    class Marked: ...

    assert mypyc_attr(native_class=False)(Marked) is Marked
