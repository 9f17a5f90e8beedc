"""Settings of the whole process that serves traffic: the interpreter's switches, its garbage collector, descriptors."""

import gc
import resource
import sys
from contextlib import suppress

# Seconds that a native thread may compute before the hub gets the interpreter. Python's own 5 ms would be added to each
# wake-up of the hub while an operator lists routes; a switch costs some 10 us.
SWITCH_INTERVAL = 0.0005

# Bytes of free memory at the heap's end that glibc keeps, and from how many on an allocation is a mapping of its own:
# more than the buffers of a bulk read and of what is sent for it. By itself it gives back what is more than these, and
# the kernel has to clear pages for each read again: 425 of them a MB took a third of the CPU of a download.
KEPT_FREE = 16 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def tune() -> None:
    """Keep other threads' computing and garbage collection off the hub.

    A session leaves no cycles, and the table lives on anyway.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def keep_memory() -> None:
    """Keep the memory of one bulk read for the next. l4 has no need of it: it splices."""
    _malloc("mallopt", M_TRIM_THRESHOLD, KEPT_FREE)
    _malloc("mallopt", M_MMAP_THRESHOLD, KEPT_FREE)


def give_memory_back() -> None:
    """Give the kernel the pages that are free (malloc_trim(3) of glibc): by itself only the heap's end shrinks."""
    _malloc("malloc_trim", 0)


def _malloc(name: str, argument: int, *more: int) -> None:
    """Call a function of glibc that is about its heap, if there is one: other C libraries have other heaps."""
    with suppress(AttributeError, ImportError):  # a Python that was built without libffi has no ctypes
        import ctypes  # noqa: PLC0415 - half a megabyte that most processes never need

        getattr(ctypes.CDLL(None), name)(argument, *more)


def raise_descriptor_limit() -> None:
    """Two descriptors for each connection: take all that the system grants."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
