"""Settings of the whole process that serves traffic: the interpreter's switches, its garbage collector, descriptors."""

import gc
import resource
import sys
from contextlib import suppress

# Seconds that a native thread may compute before the hub gets the interpreter. Python's own 5 ms would be added to each
# wake-up of the hub while an operator lists routes; a switch costs some 10 us.
SWITCH_INTERVAL = 0.0005


def tune() -> None:
    """Keep other threads' computing and garbage collection off the hub.

    A session leaves no cycles, and the table lives on anyway.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def give_memory_back() -> None:
    """Give the kernel the pages that are free (malloc_trim(3) of glibc): by itself only the heap's end shrinks."""
    import ctypes  # noqa: PLC0415 - half a megabyte that most processes never need

    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def raise_descriptor_limit() -> None:
    """Two descriptors for each connection: take all that the system grants."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
