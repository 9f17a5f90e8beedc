"""A listener's sockets for several workers: one each, in one group of SO_REUSEPORT (socket(7)).

A program on the group has the kernel choose the worker by the client's address (policy/homes.py). The order of the
sockets is that of the workers; it holds as long as none is closed.
"""

import ctypes
import socket
import struct
from contextlib import ExitStack

from mcproxy.net.listener import bind
from mcproxy.policy import homes

_SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h; Python doesn't name it
_FILTER_SIZE = 8  # bytes of a struct sock_filter


def open_group(addr: str, count: int) -> list[socket.socket]:
    """Listening sockets for one address, as `listener.bind` makes them. Raises OSError.

    Any program of this user may join such a group. So the address is taken once without sharing it first, which fails
    if another program has it.
    """
    with bind(addr) as alone:
        port = alone.getsockname()[1]
    with ExitStack() as failed:
        sockets = [failed.enter_context(bind(addr, port, shared=True)) for _ in range(count)]
        _choose_by_address(sockets[0], count)
        failed.pop_all()
    return sockets


def _choose_by_address(sock: socket.socket, count: int) -> None:
    """Attach the program to a socket's group."""
    program = homes.program(count)
    instructions = ctypes.create_string_buffer(program, len(program))
    length = len(program) // _FILTER_SIZE
    value = struct.pack("HxxxxxxP", length, ctypes.addressof(instructions))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, value)
