"""Clients and backends for end-to-end tests: blocking sockets in threads, on loopback, with a deadline everywhere."""

import ctypes
import os
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from errno import ECONNRESET
from hashlib import blake2b
from pathlib import Path

import trustme

DEADLINE = 60.0  # seconds until a test that waits for something gives up; on a loaded machine things take their time
QUIET = 0.1  # seconds without room for a single byte, after which a stream counts as stalled
BLOCK = 1 << 20  # bytes
SO_ATTACH_FILTER = 26  # asm-generic/socket.h

Handler = Callable[[socket.socket], None]

_held: list[socket.socket] = []  # one for each test that asked for a port, some 100


class Authority:
    """A certificate authority and what it has signed, on disk."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.path))

    def pair(self, name: str) -> tuple[Path, Path]:
        """Certificate chain and key for a name."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        if not certificate.exists():
            issued = self._ca.issue_cert(name)
            issued.private_key_pem.write_to_path(str(key))
            for i, blob in enumerate(issued.cert_chain_pems):
                blob.write_to_path(str(certificate), append=i > 0)
        return certificate, key

    def server_context(self, name: str) -> ssl.SSLContext:
        """For a backend of that name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pair(name))
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that trusts this authority."""
        return _modern(ssl.create_default_context(cafile=str(self.path)))


class Backend:
    """A server that runs `handle` in a thread for each connection."""

    def __init__(self, handle: Handler, family: int = socket.AF_INET, path: str = "", port: int = 0) -> None:
        """At the path of a UNIX socket, or at a port; 0: one that is free."""
        self._handle = handle
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        if path:
            self._socket.bind(path)
        else:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a backend may come back to its port
            self._socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        self._socket.listen(4096)
        self._path = path
        self.connections: list[socket.socket] = []
        self.failures: list[Exception] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> str:
        """As a route's backend is written."""
        if self._path:
            return f"unix:{self._path}"
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(DEADLINE)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._handle(connection)
        except OSError:
            pass  # what clients do to a connection is theirs to check
        except Exception as error:  # noqa: BLE001 - close() asserts that there was none
            self.failures.append(error)
        finally:
            connection.close()

    def close(self) -> None:
        """Stop; every connection is gone afterwards."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(DEADLINE)
        self._socket.close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(DEADLINE)
        assert not self.failures


def tls(context: ssl.SSLContext, handle: Handler) -> Handler:
    """Run `handle` inside TLS."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            handle(secured)

    return serve


def says(name: str) -> Handler:
    """Answer one HTTP request, or any bytes, with that name."""

    def answer(connection: socket.socket) -> None:
        if connection.recv(65536):
            body = f"{name}\n".encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )

    return answer


def echo(connection: socket.socket) -> None:
    """Send back what comes, until it ends."""
    while data := connection.recv(65536):
        connection.sendall(data)


class _ResetAtOnce(socket.socket):
    """A connection whose RST came before connect() returned (a loaded machine): its first use reports and closes it."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        self.close()
        raise ConnectionResetError(ECONNRESET, os.strerror(ECONNRESET))

    def sendall(self, data: object, flags: int = 0, /) -> None:
        self.close()
        raise ConnectionResetError(ECONNRESET, os.strerror(ECONNRESET))


def connect(port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> socket.socket:
    """A TCP client; `receive_buffer` is its SO_RCVBUF, in bytes, 0: the kernel's choice."""
    client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        client.settimeout(DEADLINE)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect((host, port))
    except ConnectionResetError:
        client.close()
        return _ResetAtOnce(client.family)
    except BaseException:
        client.close()
        raise
    return client


def free_port(beside: Sequence[int] = ()) -> int:
    """A port that nobody listens on until the test does, whatever else runs on this machine.

    It stays bound at every address until this process ends, so the kernel gives it to nobody else, a client that comes
    from 127.0.0.9 included: a server that listens at every address would meet it. A server with SO_REUSEADDR, which all
    set, can listen on it none the less, and until then a client is refused. So it is with those `beside` it: they are
    that much higher.
    """
    while True:
        found = [_hold(0)]
        port = int(found[0].getsockname()[1])
        try:
            for each in beside:
                found.append(_hold(port + each))  # noqa: PERF401 - those before a failure are to be closed
        except (OSError, OverflowError):
            for holder in found:
                holder.close()
        else:
            _held.extend(found)
            return port


def _hold(port: int) -> socket.socket:
    holder = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
    try:
        if holder.family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        holder.bind(("", port))  # without SO_REUSEADDR, which would let us have one that is held already
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        holder.close()
        raise
    return holder


def held_descriptors() -> set[str]:
    """Those with which free ports are held."""
    return {str(holder.fileno()) for holder in _held}


def read_all(connection: socket.socket) -> bytes:
    """Everything up to FIN."""
    parts = []
    while data := connection.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly that many bytes."""
    parts = []
    while size:
        parts.append(connection.recv(min(size, BLOCK)))
        assert parts[-1], f"ended {size} bytes early"
        size -= len(parts[-1])
    return b"".join(parts)


def received(connection: socket.socket) -> Iterator[bytes]:
    """What comes, piece by piece, up to FIN."""
    while data := connection.recv(BLOCK):
        yield data


def pattern(size: int) -> bytes:
    """Bytes among which nothing can be lost, doubled or moved unseen; always the same for a size."""
    return random.Random(size).randbytes(size)


def stream(size: int) -> Iterator[bytes]:
    """The same in numbered blocks, for data that is too large to hold or to make twice."""
    block = pattern(BLOCK - 8)
    for i in range(size // BLOCK):
        yield i.to_bytes(8, "big") + block


def digest(parts: Iterable[bytes]) -> str:
    """The hash of it all."""
    found = blake2b()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def push(connection: socket.socket, block: bytes, most: int) -> int:
    """Send the block again and again until `most` bytes or, for QUIET, none are taken. Returns how many were."""
    taken, stalled, rest = 0, time.monotonic() + QUIET, block
    connection.setblocking(False)
    while taken < most and time.monotonic() < stalled:
        try:
            sent = connection.send(rest)
            taken += sent
            rest = rest[sent:] or block  # a block begun is completed: it may be a frame
        except BlockingIOError:
            time.sleep(QUIET / 20)
        else:
            stalled = time.monotonic() + QUIET
    connection.settimeout(DEADLINE)
    return taken


def reset(connection: socket.socket) -> None:
    """Close with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def vanish(connection: socket.socket) -> None:
    """Have the kernel drop every packet that comes for a socket: its peer is half-open from here on."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 (linux/filter.h)
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))


def is_reset(connection: socket.socket) -> bool:
    """Whether the peer has sent a RST and not one byte before it; waits for the connection's end."""
    try:
        data = connection.recv(65536)
    except ConnectionResetError:
        return True
    raise AssertionError(f"not a RST but {data!r}" if data else "not a RST but a FIN")


def _modern(context: ssl.SSLContext) -> ssl.SSLContext:
    """That offers TLS 1.3 and 1.2 on every machine: what Debian's own Python offers is in /etc/ssl/openssl.cnf."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def another(hello: bytes) -> bytes:
    """The same hello with a random of its own, as each connection has one: a copy may be taken for a loop."""
    return hello[:11] + os.urandom(32) + hello[43:]


def client_hello(name: str | None, alpn: tuple[str, ...] = (), context: ssl.SSLContext | None = None) -> bytes:
    """The first flight of a real TLS client."""
    if context is None:
        context = _modern(ssl.create_default_context())
        context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a peer")


def until(condition: Callable[[], object], what: str = "a condition") -> None:
    """Wait for a condition, at most DEADLINE."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.005)


@contextmanager
def closing(*backends: Backend) -> Iterator[None]:
    """Close them afterwards."""
    try:
        yield
    finally:
        for backend in backends:
            backend.close()
