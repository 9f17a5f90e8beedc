"""Failures that are kept, to be raised or reported elsewhere.

An exception has its traceback, that one the frames that it went through and their callers', and those frames whatever
kept the exception: a circle, which holds a whole session until a garbage collection. The collector runs rarely
(`app.py`), and the memory in between stays with the process. While a backend is away each request leaves one.
"""

from mcproxy.model import Refused


def without_frames(failure: Exception) -> Exception:
    """Return an expected failure without its tracebacks, those of its causes included; a defect keeps its own."""
    if not isinstance(failure, Refused | OSError):
        return failure
    each: BaseException | None = failure
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return failure
