"""A listener's sockets for several workers: one each, in one group of SO_REUSEPORT (socket(7)).

A program on the group has the kernel choose the worker by the client's address (policy/homes.py). The order of the
sockets is that of the workers. It holds as long as none is closed by its last owner: a socket that another process has
too stays where it is in the group.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
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
        choose_by_address(sockets)
        failed.pop_all()
    return sockets


def choose_by_address(sockets: Sequence[socket.socket]) -> None:
    """Attach the program to the group of these sockets, in the place of one that it has. Raises OSError."""
    program = homes.program(len(sockets))
    instructions = ctypes.create_string_buffer(program, len(program))
    length = len(program) // _FILTER_SIZE
    value = struct.pack("HxxxxxxP", length, ctypes.addressof(instructions))  # struct sock_fprog
    sockets[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, value)
