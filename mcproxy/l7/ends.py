"""The two ends of a relay as greenlets see them: read some bytes, send some bytes, over TCP or TLS.

Sockets are the raw non-blocking ones of net/raw.py. TLS runs over memory (`SSLContext.wrap_bio`): one recv takes what
the kernel has, up to READ_SIZE, and all records in it are decrypted, where OpenSSL on the socket itself would make two
system calls for each record of 16 KB. The ClientHello that was peeked at is still in the kernel, so the handshake just
starts.

Waiting to read comes before reading, and costs a switch: the watcher is left running, and stopped only when it finds
that its reader is busy elsewhere. Starting and stopping it each time would be two system calls, and a recv that finds
nothing a third.

Two greenlets send to either end, because an answer to a client's frame (PING, 400) is due to it while the other
greenlet may be in the middle of sending. An `Outlet` lets one at a time; what comes meanwhile stays where the relay put
it, and whoever is sending takes that too. The greenlet whose bulk it is waits until it has gone, which is the
back-pressure; the other one goes on reading, with MAX_OWED as the limit of what a peer that doesn't read may run up.
"""

import contextlib
import ssl
from collections.abc import Callable
from socket import SHUT_RDWR, SHUT_WR

from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from mcproxy.l7.budgets import MAX_OWED
from mcproxy.net.raw import READ, WRITE, IoWatcher, RawSocket

READ_SIZE = 256 * 1024  # bytes of one recv: enough for a whole burst, small enough to stay in a cache
RECORD = 16_384  # bytes of one TLS record (RFC 8446, section 5.1)


class EndGone(Exception):
    """The peer reset the connection, broke TLS, or doesn't read what it is owed."""


class End:
    """A plain connection."""

    __slots__ = (
        "_readable",
        "_reader",
        "_sock",
        "_waiting",
        "_watching",
        "_writable",
        "moved",
    )

    def __init__(self, sock: RawSocket) -> None:
        loop = get_hub().loop
        self._sock = sock
        self._readable: IoWatcher = loop.io(sock.fileno(), READ)
        self._reader: greenlet | None = None
        self._waiting = False  # the reader, for this socket
        self._watching = False
        self._writable: IoWatcher | None = None  # made when the socket first blocks
        self.moved = 0  # bytes either way, as the kernel saw them

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self._sock.fileno()}>"

    def read(self) -> bytes:
        """What has come; waits for it. b"": the peer has ended. Raises EndGone."""
        return self._recv()

    def push(self, data: bytes) -> None:
        """Send, waiting for the peer; one greenlet at a time (see `Outlet`). Raises EndGone."""
        self._send(data)

    def finish(self) -> None:
        """Say that nothing more comes from here. Raises EndGone."""
        try:
            self._sock.shutdown(SHUT_WR)
        except OSError as error:
            raise EndGone(str(error)) from None

    def shut(self) -> None:
        """End both directions: whoever waits for this end wakes up and sees it gone."""
        with contextlib.suppress(OSError):  # it was reset or never connected, which is as good
            self._sock.shutdown(SHUT_RDWR)

    def close(self, how: Callable[[RawSocket], None] = RawSocket.close) -> None:
        """Let go of the socket, which nobody may be waiting for; `how` may be `abort`."""
        self._readable.close()
        if self._writable is not None:
            self._writable.close()
        how(self._sock)

    def _recv(self) -> bytes:
        sock, switch = self._sock, get_hub().switch
        self._reader = getcurrent()
        while True:
            if not self._watching:
                self._watching = True
                self._readable.start(self._is_readable)
            self._waiting = True
            try:
                switch()
                data = sock.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise EndGone(str(error)) from None
            finally:
                self._waiting = False
            self.moved += len(data)
            return data

    def _is_readable(self) -> None:
        if self._waiting and self._reader is not None:
            self._reader.switch()
        else:  # it is busy or waits for something else, and comes back here afterwards
            self._watching = False
            self._readable.stop()

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
            if sent < len(data):
                self._send_rest(memoryview(data)[sent:])
        except BlockingIOError:
            self._send_rest(memoryview(data))
        except OSError as error:
            raise EndGone(str(error)) from None
        self.moved += len(data)

    def _send_rest(self, rest: memoryview) -> None:
        if self._writable is None:
            self._writable = get_hub().loop.io(self._sock.fileno(), WRITE)
        while rest:
            get_hub().wait(self._writable)
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                continue


class TlsEnd(End):
    """A connection under TLS, of either role."""

    __slots__ = ("_incoming", "_outgoing", "_tls")

    def __init__(self, sock: RawSocket, context: ssl.SSLContext, server_side: bool, name: str | None = None) -> None:
        """`name` is that of the server, for the client's role."""
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, name)

    @property
    def alpn(self) -> str | None:
        """The protocol that was agreed on."""
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str:
        """Of TLS, as OpenSSL names it."""
        return self._tls.version() or ""

    def handshake(self) -> None:
        """Shake hands. Raises EndGone; an alert has been sent then, where TLS has one to send."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self._recv() or self._ended())
            except (ssl.SSLError, ssl.CertificateError) as error:
                self._flush()
                raise EndGone(f"TLS: {error}") from None
            else:
                self._flush()
                return

    def read(self) -> bytes:
        """See `End.read`."""
        incoming, out = self._incoming, b""
        while True:
            if not incoming.pending:
                data = self._recv()
                if not data:
                    return b""  # without close_notify; what is cut short, HTTP/2 sees from its frames
                incoming.write(data)
            try:
                out = self._tls.read(READ_SIZE)
                if incoming.pending and out:
                    out += self._rest()
            except ssl.SSLWantReadError:  # part of a record, or one without data
                if self._outgoing.pending:
                    self._flush()
                continue
            except ssl.SSLError as error:
                raise EndGone(f"TLS: {error}") from None
            return out

    def _rest(self) -> bytes:
        """What else is in the records that have come."""
        out: list[bytes] = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while self._incoming.pending and (data := self._tls.read(READ_SIZE)):
                out.append(data)
        return b"".join(out)

    def finish(self) -> None:
        """See `End.finish`."""
        with contextlib.suppress(ssl.SSLError, ValueError):  # it wants the peer's close_notify; nobody waits for that
            self._tls.unwrap()
        self._flush()
        super().finish()

    def _send(self, data: bytes) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise EndGone(f"TLS: {error}") from None
        super()._send(self._outgoing.read())

    def _flush(self) -> None:
        if self._outgoing.pending:
            super()._send(self._outgoing.read())

    @staticmethod
    def _ended() -> bytes:
        raise EndGone("it ended within the TLS handshake")


class Outlet:
    """Sends what waits for one end, in order, whoever brought it."""

    __slots__ = ("_free", "_take", "_waiting", "busy", "end")

    def __init__(self, end: End, waiting: list[bytes], take: Callable[[], bytes]) -> None:
        """`waiting` is where the relay puts it; `take` empties that."""
        self.end = end
        self.busy = False  # a greenlet is sending
        self._waiting = waiting
        self._take = take
        self._free = Event()

    def __repr__(self) -> str:
        return f"<Outlet {self.end!r} {'busy' if self.busy else 'free'} {len(self._waiting)} waiting>"

    def flush(self, patient: bool) -> None:
        """Send what waits. Where another greenlet is at that, leave it to that one; `patient`, until it is done.

        Raises EndGone.
        """
        if self.busy:
            if sum(map(len, self._waiting)) > MAX_OWED + READ_SIZE:  # of which the patient one brings READ_SIZE
                raise EndGone("it doesn't read what it is owed")
            if patient:
                self._free.clear()
                self._free.wait()
            return
        self.busy = True
        try:
            while self._waiting:
                self.end.push(self._take())
        finally:
            self.busy = False
            self._free.set()
