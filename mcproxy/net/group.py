"""A listener's sockets for several workers: one each, in one group of SO_REUSEPORT (socket(7)).

A program on the group has the kernel choose the worker by the client's address (policy/homes.py). The order of the
sockets is that of the workers. It holds as long as none is closed by its last owner: a socket that another process has
too stays where it is in the group.

**Another number of workers** gets the same sockets from the server before it. Where they are too few, `grown` adds some
behind them. The program of the group, which still counts on those that there were, brings nobody there; so they may be
closed again, should the new server fail. Where they are too many, the workers accept on those in front and on the
others (`share`). In either case `choose_by_address` follows once the workers accept everywhere. None is closed before
its listener is: clients may wait in its queue, or have a handshake under way there, for a minute (tcp(7),
tcp_synack_retries), and a socket that is idle costs nothing.

Closing a listening socket resets the connections in its queue, and shutdown(2) on it does the same in Linux. So before
the last ones are accepted the kernel is told to drop new SYNs (`refuse_new`): those clients try again a second later,
and nobody is connected between the last accept and the close.
"""

import socket
import struct
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from mcproxy.net.listener import BACKLOG, bind, made
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
    """Listening sockets for one address, one for each worker. Raises OSError.

    Any program of this user may join such a group. So the first one takes the address without sharing it, which fails
    if another program has it. It shares it before it listens: the kernel makes no group of one that listens alone.
    """
    with ExitStack() as failed:
        first = failed.enter_context(bind(addr))
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        choose_by_address([first], 1)
        first.listen(BACKLOG)
        sockets = grown([first], count)
        choose_by_address(sockets, count)
        failed.pop_all()
    return sockets


def grown(sockets: Sequence[socket.socket], count: int) -> list[socket.socket]:
    """The sockets of a group, and as many behind them as `count` needs: nobody is brought there. Raises OSError."""
    found = list(sockets)
    with ExitStack() as failed:
        while 0 < len(found) < count:
            first = found[0]
            dual_stack = first.family == socket.AF_INET6 and not first.getsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
            )
            joins = made(first.family, first.getsockname(), dual_stack=dual_stack, shared=True)
            found.append(failed.enter_context(joins))
            joins.listen(BACKLOG)
        failed.pop_all()
    return found


def share(sockets: Sequence[socket.socket], number: int, count: int) -> Sequence[socket.socket]:
    """Those on which one of `count` workers accepts, from 0; a single one is everybody's."""
    return sockets if len(sockets) == 1 else sockets[number::count]


def choose_by_address(sockets: Sequence[socket.socket], count: int) -> None:
    """Attach the program for so many workers to the group of these sockets, in the place of one that it has.

    Those behind the first `count` get nobody from then on. Raises OSError.
    """
    _attach(sockets[0], _SO_ATTACH_REUSEPORT_CBPF, homes.program(count))


def refuse_new(sockets: Sequence[socket.socket]) -> None:
    """Have the kernel drop each SYN to these listening sockets, in whatever process they are used. Raises OSError.

    Newer kernels want CAP_NET_ADMIN for that; 6.18 does. Handshakes that have begun end as usual, and their connections
    are in the queue.
    """
    for each in sockets:
        _attach(each, _SO_ATTACH_FILTER, _NO_SYN)


def _attach(sock: socket.socket, option: int, program: bytes) -> None:
    instructions = array("B", program)
    address, size = instructions.buffer_info()
    value = struct.pack("HxxxxxxP", size // _FILTER_SIZE, address)  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, option, value)
