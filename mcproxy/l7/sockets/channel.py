"""Byte channels to a client and to a backend, encrypted or not: non-blocking, and without a watcher of their own.

`accept` and `connect` do the handshakes, and wait as they need to. What comes out is a `Channel`: `receive` gives what
there is, `put` queues, and `flush` sends what the socket takes. drive.py waits for what its two channels want.

TLS runs on OpenSSL's own socket reading. Measured on one core against decrypting from memory buffers (ssl.MemoryBIO):
7.0 us a ping-pong of 128 bytes against 7.2, sending 0.32 s/GB against 0.44 to 0.53, receiving 0.69 against 0.58 to
0.92. One `recv` yields one record, so several are read for each wake-up as long as they are full ones: a full record
says that bulk is flowing. Several records are sent under TCP_CORK, so that the kernel builds and delivers packets for
all of them at once: an eighth of the CPU of bulk. Nothing stays behind in OpenSSL unseen: a record is read whole, and
read-ahead is off.

How endings look: a peer's close_notify and its bare FIN both set `ended`; HTTP knows by itself whether a message is
complete. Everything else that breaks a connection, a fatal alert included, sets `lost` too, which says what it was.
Nothing here raises once the handshake is done. Renegotiation is off, so writing never waits for reading. A channel's
flags are no states in disguise: each direction goes on, waits, or ends whatever the other does.

Reading waits for writing where TLS 1.3 answers a KeyUpdate (RFC 8446, section 4.6.3). OpenSSL does that with the next
write, behind a record that waits. While the answer does not fit into the socket nothing can be read, which `blocked`
says, for the socket may well be readable. Two things about KeyUpdate are OpenSSL's, and can't be corrected from here:

* It does not survive a second one before a record that waits has gone, where the first asked for an answer: SSL_read
  then begins with that answer, over the record, and fails with "bad length" (what its issue 8677 left open). Nothing
  distinguishes that read from others beforehand, so such a connection is lost. Clients that change keys by themselves
  do so once in many gigabytes; `openssl s_client` does on its user's command.
* One SSL_read handles as many as there are before it returns, 10 us each. A guard (net/read_guard.py) ends a read that
  takes too long, and a peer whose reads bring nothing is ended by `EMPTY_READS`. Either is `abuse`, whatever the
  records were; of a backend, it is one more way to lose the connection.
"""

import ssl
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from socket import SHUT_WR
from typing import Final

from gevent.hub import get_hub

from mcproxy.l7.bounds import LONE_BULK, READ_SIZE
from mcproxy.l7.sockets import tls
from mcproxy.l7.sockets.records import RECORD, records
from mcproxy.l7.sockets.tls import TLSSocket
from mcproxy.native import mypyc_attr
from mcproxy.net.raw import READ, WRITE, IoWatcher, RawSocket, abort, corked, is_reset, outgoing_queue, unsent
from mcproxy.net.read_guard import READ_CPU, STEP_CPU, ReadCut, ReadGuard
from mcproxy.net.turns import Turns
from mcproxy.wire.http2 import Piece

MAX_PIECES: Final = 1_024  # of one call (IOV_MAX of Linux)
# Reads in a row without a byte of HTTP, in EMPTY_SECONDS. Each costs 20 us. A record that comes in the smallest packets
# there are (536 bytes) takes 31; session tickets and KeyUpdates of an honest peer take a few.
EMPTY_READS: Final = 1_000
EMPTY_SECONDS: Final = 10.0
# Reads of one handshake. A chain of certificates of 100 KB, OpenSSL's limit, takes 190 of the smallest packets.
MAX_STEPS: Final = 1_000


@mypyc_attr(native_class=False)
class Lost(ConnectionError):
    """A handshake failed."""


@mypyc_attr(native_class=False)
class Flooded(Lost):
    """The peer floods the handshake."""


class Channel:
    """One connection's bytes, not encrypted. The socket is the channel's to close."""

    __slots__ = (
        "_queue", "abuse", "blocked", "ended", "flows", "lost", "ragged", "received", "sent", "sock", "unsent",
        "wants_write",
    )  # fmt: skip

    def __init__(self, sock: RawSocket) -> None:
        self.sock = sock
        self._queue: deque[Piece] = deque()
        self.flows = False  # the last read was full: what comes is bulk
        self.unsent = 0  # bytes that wait here
        self.wants_write = False  # flush (or receive) goes on when the socket is writable: see `has_room`
        self.blocked = False  # and nothing can be received before
        self.ended = False  # nothing more will be received
        self.lost = ""  # what broke the connection: nothing more can be sent either
        self.abuse = False  # it was broken by us, because the peer floods it
        self.ragged = False  # TLS ended without a close_notify; known of backends only
        self.received = 0  # bytes, ever
        self.sent = 0

    def __repr__(self) -> str:
        state = self.lost or ("ended" if self.ended else "open")
        return f"<{type(self).__name__} {state} received={self.received} sent={self.sent}>"

    def receive(self, most: int = READ_SIZE) -> bytes:
        """What there is, at most `most` bytes. b"" is nothing yet, or the end: see `ended`."""
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return b""
        except OSError as error:
            self.ended = True
            self._lose(error)
            return b""
        self.ended = not data
        self.flows = len(data) >= READ_SIZE
        self.received += len(data)
        return data

    def drop(self) -> int:
        """Read what there is, for nobody. Returns how many bytes; 0 is nothing yet, or the end: see `ended`."""
        return len(self.receive())

    def send(self, data: Piece) -> None:
        """Send what the socket takes, behind the queue, and queue the rest; `wants_write` says to `flush` later."""
        if self._queue:
            self.put(data)
            self.flush()
            return
        self.wants_write = self.blocked
        if data and not self.lost:
            sent = self._send(data)
            self.sent += sent
            if sent < len(data) and not self.lost:
                self._queue.append(memoryview(data)[sent:])
                self.unsent = len(data) - sent
                self.wants_write = True

    def send_all(self, pieces: Sequence[Piece]) -> None:
        """The same for pieces, in their order; large ones are not copied."""
        if len(pieces) == 1:
            self.send(pieces[0])
        elif self._queue or not pieces:
            for piece in pieces:
                self.put(piece)
            self.flush()
        elif not self.lost:
            self.wants_write = self.blocked
            self._queue_rest(pieces, self._send_pieces(pieces))

    def _queue_rest(self, pieces: Sequence[Piece], sent: int) -> None:
        """Queue what is behind the `sent` bytes of these pieces: a copy, for views of it would keep much more."""
        self.sent += sent
        rest = list[Piece]()
        for piece in pieces:
            size = len(piece)
            if sent < size:
                rest.append(memoryview(piece)[sent:])
            sent = max(0, sent - size)
        if rest and not self.lost:
            self.put(b"".join(rest))
            self.wants_write = True

    def put(self, data: Piece) -> None:
        """Queue bytes for `flush`, or drop them if the connection is lost."""
        if data and not self.lost:
            self._queue.append(data)
            self.unsent += len(data)

    def has_room(self) -> None:
        """The socket is writable: try again what could not be done before."""
        self.blocked = False
        self.wants_write = bool(self._queue)

    def flush(self) -> None:
        """Send what the socket takes; `wants_write` says to call again."""
        queue = self._queue
        self.wants_write = self.blocked
        while queue:
            if len(queue) > 1:
                data = b"".join(queue)
                queue.clear()
                queue.append(data)
            sent = self._send(queue[0])
            if self.lost:
                return
            self.sent += sent
            self.unsent -= sent
            if sent < len(queue[0]):
                queue[0] = memoryview(queue[0])[sent:]
                self.wants_write = True
                return
            queue.popleft()

    def _send(self, data: Piece) -> int:
        """Send what the socket takes now; returns how many bytes."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lose(error)
            return 0

    def _send_pieces(self, pieces: Sequence[Piece]) -> int:
        """The same for pieces."""
        try:
            return self.sock.sendmsg(pieces[:MAX_PIECES])
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lose(error)
            return 0

    def _lose(self, error: Exception) -> None:
        """It is broken. What came before that can still be read: `ended` is for `receive` to find."""
        self.lost = _described(error)
        self.unsent = 0
        self.wants_write = self.blocked = False
        self._queue.clear()

    def end(self) -> None:
        """End our side. What was flushed before still arrives."""
        with suppress(OSError):  # a socket that was reset has ended anyway
            self.sock.shutdown(SHUT_WR)

    def half_close(self) -> None:
        """End our side, and go on reading."""
        self.end()

    @property
    def ended_cleanly(self) -> bool:
        """Whether the peer said that it ends, and nothing broke."""
        return self.ended and not self.lost and not self.ragged

    @property
    def undelivered(self) -> int:
        """Bytes sent that the peer has still to acknowledge; of TLS where it is. 0 if it has reset the connection."""
        return unsent(self.sock)

    @property
    def unacknowledged(self) -> int:
        """The same, but of a connection that was reset those that the peer never acknowledged."""
        return outgoing_queue(self.sock)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def abort(self) -> None:
        """Close so that the peer gets a RST."""
        abort(self.sock)


class TLSChannel(Channel):
    """One connection's bytes, in TLS."""

    __slots__ = ("_empty", "_end_sent", "_guard", "_half_closed", "_secured")

    def __init__(self, sock: TLSSocket, guard: ReadGuard) -> None:
        super().__init__(sock)
        self._secured = sock  # the same by its own type: mypyc lets no class give an attribute another one
        self._guard = guard
        self._empty: _EmptyReads | None = None
        self._end_sent = False
        self._half_closed = False

    @property
    def protocol(self) -> str:
        """What ALPN agreed on; "" is nothing. To be asked before it is closed."""
        return self._secured.tls.selected_alpn_protocol() or ""

    def receive(self, most: int = READ_SIZE) -> bytes:
        """Like Channel.receive, but may exceed `most` by one record; reads several records under load.

        For the guard they are one read: their sum is far below what one may take, also where AES is slow (20 MB/s),
        as they are no more than LONE_BULK.
        """
        if self._end_sent:
            self.drop()
            return b""
        guard, read = self._guard, self._secured.tls.read
        guard.reading = self.sock, READ_CPU  # what `begin` does; a call would cost as much as the rest
        if guard.parked:
            guard.wake()
        data, records = b"", list[bytes]()
        try:
            data = read(RECORD)
            if len(data) == RECORD:
                for _ in range(RECORD, min(most, LONE_BULK), RECORD):
                    records.append(data)
                    data = read(RECORD)
                    if len(data) < RECORD:
                        break
        except OSError as error:
            data = b""
            guard.reading = None
            self._failed(error)
        else:
            guard.reading = None
            if not (guard.acting and self._was_cut()) and not data:
                self._end_of_reading()
        if records:
            records.append(data)
            data = b"".join(records)
        self.flows = len(data) >= READ_SIZE
        self.received += len(data)
        return data

    def drop(self) -> int:
        """Read what there is, for nobody; after our close_notify as it comes.

        OpenSSL, which met it in the middle of shutting down, reads no further.
        """
        if not self._end_sent:
            return super().drop()
        dropped = 0
        try:
            dropped = len(self.sock.recv(READ_SIZE))
            self.ended = not dropped
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        return dropped

    def _failed(self, error: OSError) -> None:
        if self._was_cut():
            tls.forget(error)
        else:
            self._read_nothing(error)

    def _was_cut(self) -> bool:
        if not (self._guard.acting and self._guard.was_cut()):
            return False
        self._end_abuse(f"one TLS read without a byte of HTTP took more than {READ_CPU * 1000:g} ms of CPU")
        return True

    def _read_nothing(self, error: OSError) -> None:
        if isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            if self._empty is None:
                self._empty = _EmptyReads()
            if self._empty.too_many(self.received):
                self._end_abuse(f"more than {EMPTY_READS} TLS reads without a byte of HTTP in {EMPTY_SECONDS:g} s")
            elif isinstance(error, ssl.SSLWantWriteError):
                self.wants_write = self.blocked = True
        else:
            self._fail_to_read(error)

    def _end_abuse(self, why: str) -> None:
        self.ended = self.abuse = True
        self._lose(Lost(why))

    def _fail_to_read(self, error: OSError) -> None:
        """Before CPython issue 115627 was solved, a reset was the same SSLEOFError as a bare FIN.

        A bare FIN behind our own end looks different again: in Debian 12 it is an SSLError with OpenSSL's reason. In
        Debian 13 OpenSSL wants to answer it, which our end forbids.
        """
        tls.forget(error)
        is_end = isinstance(error, ssl.SSLEOFError) or getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"
        if is_end or (self._half_closed and isinstance(error, BrokenPipeError)):
            self.ragged = True
            self._end_of_reading()
        else:
            self.ended = True
            self._lose(error)

    def _end_of_reading(self) -> None:
        """Tell an end from a reset, which OpenSSL may have met, and kept to itself, when it sent session tickets."""
        self.ended = True
        try:
            reset = not self._half_closed and is_reset(self.sock)
        except OSError:  # not TCP
            reset = False
        if reset:
            self._lose(ConnectionResetError("connection reset by peer"))

    def _send(self, data: Piece) -> int:
        if len(data) <= RECORD:
            return self._send_records(data)
        with corked(self.sock):
            return self._send_records(memoryview(data))

    def _send_pieces(self, pieces: Sequence[Piece]) -> int:
        done = 0
        with corked(self.sock):
            for record in records(pieces):
                sent = self._send_records(record)
                done += sent
                if sent < len(record):
                    break
        return done

    def _send_records(self, data: Piece) -> int:
        done, write = 0, self._secured.tls.write
        try:
            while done < len(data):  # OpenSSL takes one record at a time
                done += write(data[done : done + RECORD])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return done
        except OSError as error:
            tls.forget(error)
            self._lose(error)
        return done

    def end(self) -> None:
        """Send close_notify, then FIN."""
        self._end_sent = True
        self._guard.begin(self.sock, READ_CPU)  # it reads what has come
        try:
            try:
                self._secured.tls.shutdown()
            finally:
                self._guard.over(READ_CPU)
        except ReadCut as cut:
            self._end_abuse(str(cut))
        except OSError as error:  # it need not be answered, and what is broken needs none
            tls.forget(error)
        try:
            self.sock.shutdown(SHUT_WR)
        except OSError:  # as often as not the client has gone
            return

    def half_close(self) -> None:
        """Send FIN alone: OpenSSL would not read on once it had sent a close_notify (see `drop`)."""
        self._half_closed = True
        with suppress(OSError):
            self.sock.shutdown(SHUT_WR)


class _EmptyReads:
    """Counts reads that brought nothing, between two that brought something."""

    __slots__ = ("_count", "_received", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._received = -1  # bytes ever, when it began to count
        self._since = 0.0

    def too_many(self, received: int) -> bool:
        """Count one; `received` is how many bytes other reads have brought, ever."""
        now = time.monotonic()
        if received != self._received or now - self._since > EMPTY_SECONDS:
            self._count, self._received, self._since = 0, received, now
        self._count += 1
        return self._count > EMPTY_READS


def accept(
    sock: RawSocket, context: ssl.SSLContext, turns: Turns, guard: ReadGuard, readable: IoWatcher | None = None
) -> TLSChannel:
    """The handshake with a client. Takes the socket over. Raises Lost, with the socket closed.

    `readable` is a watcher of the socket, if there is one; each costs two system calls.
    """
    return _shake_hands(sock, context, None, turns, guard, {} if readable is None else {READ: readable})


def connect(sock: RawSocket, context: ssl.SSLContext, server_name: str, turns: Turns, guard: ReadGuard) -> TLSChannel:
    """The handshake with a backend. Takes the socket over. Raises Lost, with it closed."""
    return _shake_hands(sock, context, server_name, turns, guard, {})


def _shake_hands(
    sock: RawSocket,
    context: ssl.SSLContext,
    server_name: str | None,
    turns: Turns,
    guard: ReadGuard,
    watchers: dict[int, IoWatcher],
) -> TLSChannel:
    """As the server where there is no `server_name`. Each step may take 0.5 ms, so it has a turn."""
    wrapped: RawSocket = sock
    done = False
    try:
        wrapped = secured = tls.on(sock, context, server_name)
        for _ in range(MAX_STEPS):
            event = _step(secured, turns, guard)
            if not event:
                done = True
                return TLSChannel(secured, guard)
            if event not in watchers:
                watchers[event] = get_hub().loop.io(secured.fileno(), event)
            get_hub().wait(watchers[event])
        raise Flooded(f"more than {MAX_STEPS} TLS reads in one handshake")
    except ReadCut as cut:
        raise Flooded(f"in the handshake, {cut}") from cut
    except Flooded:
        raise
    except (OSError, ValueError) as error:  # ValueError: the peer had gone before it began
        lost = Lost(_described(error))
        lost.__cause__ = error  # mypyc leaves "from" out
        raise lost from error
    finally:
        for watcher in watchers.values():
            watcher.close()
        if not done:
            abort(wrapped)


def _step(sock: TLSSocket, turns: Turns, guard: ReadGuard) -> int:
    """Go on with a handshake. Returns what to wait for; 0: done."""
    turns.wait()
    guard.begin(sock, STEP_CPU)
    try:
        sock.tls.do_handshake()
    except ssl.SSLWantReadError:
        return READ
    except ssl.SSLWantWriteError:
        return WRITE
    except OSError as error:
        tls.forget(error)
        raise
    finally:
        guard.over(STEP_CPU)
    return 0


def _described(error: Exception) -> str:
    """What went wrong, in OpenSSL's words without its source lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and (reason := reason_of(error)):
        return reason.replace("_", " ").lower()
    return str(error) or type(error).__name__


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's word for what went wrong, or "".

    Where there is none Python has None, which its annotations deny: what is compiled would raise TypeError.
    """
    reason: str | None = getattr(error, "reason", None)
    return reason or ""
