"""A listener's sockets for several workers: one each, in one group of SO_REUSEPORT (socket(7)).

A program on the group has the kernel choose the worker by the client's address (policy/homes.py). The order of the
sockets is that of the workers. It holds as long as none is closed by its last owner: a socket that another process has
too stays where it is in the group.

Closing a listening socket resets the connections in its queue, and shutdown(2) on it does the same in Linux. So before
the last ones are accepted the kernel is told to drop new SYNs (`refuse_new`): those clients try again a second later,
and nobody is connected between the last accept and the close.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from mcproxy.net.listener import bind
from mcproxy.policy import homes

_SO_ATTACH_FILTER, _SO_ATTACH_REUSEPORT_CBPF = 26, 51  # asm-generic/socket.h; Python doesn't name them
_FILTER_SIZE: Final = 8  # bytes of a struct sock_filter
# A socket filter sees a packet from its TCP header on, and returns how much of it may pass (linux/filter.h).
_NO_SYN: Final = b"".join(
    struct.pack("HBBI", *each) for each in (
        (0x30, 0, 0, 13),  # load the byte of the flags (RFC 9293, section 3.1)
        (0x45, 0, 1, 0x02),  # is it a SYN?
        (0x06, 0, 0, 0),  # then nothing passes
        (0x06, 0, 0, 0xFFFFFFFF),  # else all of it
    )
)  # fmt: skip


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
    _attach(sockets[0], _SO_ATTACH_REUSEPORT_CBPF, homes.program(len(sockets)))


def refuse_new(sockets: Sequence[socket.socket]) -> None:
    """Have the kernel drop each SYN to these listening sockets, in whatever process they are used. Raises OSError.

    Handshakes that have begun end as usual, and their connections are in the queue.
    """
    for each in sockets:
        _attach(each, _SO_ATTACH_FILTER, _NO_SYN)


def _attach(sock: socket.socket, option: int, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    length = len(program) // _FILTER_SIZE
    value = struct.pack("HxxxxxxP", length, ctypes.addressof(instructions))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, option, value)
