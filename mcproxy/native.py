"""What mypyc has to know of this source, which it can compile; and whether it did.

The pure rooms and the data path keep to what mypyc takes: no class body that refers to its own functions, no attribute
whose name with an underscore before it is a word of C. What can't be a native class is marked. The marks come from
mypy_extensions, which nothing else needs: without it they do nothing. This file itself is never compiled.

A class of the data path names the contract that it fulfils (`class Relay(Core)`), though mypy does not need that: only
then does mypyc call its methods directly where a value is known by its contract, instead of by their names. What
overrides a property of such a contract has the same type.

Two things are not as in the source. An annotation that isn't true raises TypeError, also where a library made it. And a
tuple whose type has a length is taken apart, and made again wherever it is read: `is` never finds it, and an index that
isn't a constant makes it each time; so types of constants and of what is compared say `tuple[X, ...]`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mcproxy import words

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:
    _Class = TypeVar("_Class")

    def mypyc_attr(**_attributes: bool) -> Callable[[_Class], _Class]:
        """Mark a class: native_class=False where it inherits from a class that isn't compiled."""
        return lambda cls: cls


__all__ = ["BUILD", "COMPILED", "mypyc_attr"]

COMPILED = not words.__file__.endswith(".py")  # mypy takes it to be false (setup.cfg), mypyc to be true (setup.py)
BUILD = "compiled" if COMPILED else "pure"
