"""`mcproxy` as it is, and beside it a thread that counts what lives in it for who connects to a socket.

Memory that grows while these stand still is the allocator's, not ours: pieces that it keeps.

python -m tests.soak.served SOCKET server -c FILE
"""

import ctypes
import gc
import socket
import sys
import threading

from greenlet import greenlet

from mcproxy.cli.main import main


class Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2() returns, in bytes unless it says blocks."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def heap() -> int:
    """KiB that were asked of malloc() and not given back. Python's arenas are not among them."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = Mallinfo
    found = ask()
    return int(found.uordblks + found.hblkhd) // 1024


def count() -> tuple[int, int, int, int]:
    """Greenlets that have begun and not ended; objects that the collector knows; Python's blocks; KiB of malloc()."""
    objects = gc.get_objects()
    greenlets = sum(1 for each in objects if isinstance(each, greenlet) and each)
    return greenlets, len(objects), sys.getallocatedblocks(), heap()


def answer(listening: socket.socket) -> None:
    """The numbers, in a line, for each connection, for as long as the process lives."""
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"%d %d %d %d\n" % count())


if __name__ == "__main__":
    path = sys.argv.pop(1)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    threading.Thread(target=answer, args=(server,), daemon=True).start()
    main()
