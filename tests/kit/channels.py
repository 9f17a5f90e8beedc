"""Channels of l7 on one side, blocking peers on the other."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from gevent.hub import get_hub

from mcproxy.l7.sockets.channel import Channel
from mcproxy.net.raw import READ, WRITE
from tests.kit.peers import Authority

Peer = Callable[[socket.socket], None]


def wait(channel: Channel, event: int) -> None:
    watcher = get_hub().loop.io(channel.sock.fileno(), event)
    try:
        get_hub().wait(watcher)
    finally:
        watcher.close()


def receive(channel: Channel, size: int | None = None) -> bytes:
    """So many bytes, or everything."""
    parts: list[bytes] = []
    while not channel.ended and (size is None or sum(map(len, parts)) < size):
        parts.append(channel.receive())
        if not parts[-1] and not channel.ended:
            wait(channel, READ)
    return b"".join(parts)


def send(channel: Channel, data: bytes) -> None:
    channel.put(data)
    channel.flush()
    while channel.wants_write:
        wait(channel, WRITE)
        channel.flush()


def client(authority: Authority, then: Peer, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Peer:
    """Does a handshake, then something."""

    def run(sock: socket.socket) -> None:
        context = authority.client_context()
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["http/1.1"])
        with context.wrap_socket(sock, server_hostname="one.test") as secured:
            then(secured)
            if secured.fileno() >= 0:
                end(secured)

    return run


def end(sock: socket.socket) -> None:
    """A bare FIN; what the server has sent (tickets) is read, for the kernel resets where it is not."""
    socket.socket.shutdown(sock, socket.SHUT_WR)
    sock.setblocking(True)
    with suppress(ssl.SSLError, BrokenPipeError):  # OpenSSL may answer the missing close_notify with an alert
        while sock.recv(1 << 16):
            continue
