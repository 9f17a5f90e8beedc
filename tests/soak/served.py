"""`mcproxy` as it is, and beside it a thread that counts its greenlets for whoever connects to a socket.

python -m tests.soak.served SOCKET server -c FILE
"""

import gc
import socket
import sys
import threading

from greenlet import greenlet

from mcproxy.cli.main import main


def count() -> int:
    """Greenlets that have begun and not ended."""
    return sum(1 for each in gc.get_objects() if isinstance(each, greenlet) and each)


def answer(listening: socket.socket) -> None:
    """One number for each connection, for as long as the process lives."""
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"%d\n" % count())


if __name__ == "__main__":
    path = sys.argv.pop(1)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    threading.Thread(target=answer, args=(server,), daemon=True).start()
    main()
