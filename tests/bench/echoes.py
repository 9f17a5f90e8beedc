"""WebSocket: messages of 64 bytes there and back, over HTTP/1.1 to an HTTP/1.1 backend.

The frames are always the same, so client and backend needn't parse them; a proxy can't know.
"""

import base64
import hashlib
import re
import select
import socket
import time

from tests.bench.figures import Done, figure
from tests.bench.l4 import SETTLING, TALKERS, Measure, Site, connected
from tests.bench.shakes import context

MASK, PAYLOAD = b"mask", bytes(64)
ASKED = b"\x82\xc0" + MASK + MASK * 16  # RFC 6455, section 5.2: binary, of 64 bytes, masked
ANSWERED = b"\x82\x40" + PAYLOAD
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
KEY = base64.b64encode(bytes(16))
UPGRADE = (
    b"GET /small HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: %b\r\n\r\n" % KEY
)


def serve(sock: socket.socket) -> None:
    """Switch protocols, then answer each frame; anything else is answered with nothing in it."""
    poll, clients = select.epoll(), dict[int, socket.socket]()
    poll.register(sock, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == sock.fileno():
                client, _ = sock.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            try:
                data = clients[fd].recv(65_536)
                if data:
                    clients[fd].send(answer(data))
                    continue
            except OSError:
                pass  # it is gone, as below
            poll.unregister(fd)
            clients.pop(fd).close()


def answer(data: bytes) -> bytes:
    """What the backend answers."""
    if data == ASKED:
        return ANSWERED
    if found := re.search(rb"(?i)sec-websocket-key: *([^\r]+)", data):
        accepted = base64.b64encode(hashlib.sha1(found[1] + GUID).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-accept: %b\r\n\r\n" % accepted
        )
    return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def echoes(site: Site) -> Done:
    """Open connections talk all at once."""
    made, poll, latencies = context(), select.epoll(), list[float]()
    clients = {}
    for _ in range(TALKERS):
        client = made.wrap_socket(connected(site.port), server_hostname="a.test")
        client.send(UPGRADE)
        head = client.recv(16_384)
        assert head.startswith(b"HTTP/1.1 101"), head
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
        client.setblocking(False)
    time.sleep(SETTLING)  # what is done once for a connection, later
    before, start = site.used(), time.perf_counter()
    sent = dict.fromkeys(clients, start)
    for client in clients.values():
        client.send(ASKED)
    while time.perf_counter() < start + site.seconds:
        for fd, _ in poll.poll(1):
            try:
                got = clients[fd].recv(256)
            except BlockingIOError:
                continue
            except OSError as error:  # of TLS: a ticket came, and no data
                if "read" in str(error):
                    continue
                raise
            assert got == ANSWERED, got
            now = time.perf_counter()
            latencies.append(now - sent[fd])
            sent[fd] = now
            clients[fd].send(ASKED)
    done = Done(len(latencies), time.perf_counter() - start, site.used() - before, latencies)
    for client in clients.values():
        client.close()
    return done


WORKS: dict[str, Measure] = {"echo": lambda site: figure(1e6, echoes(site))}
