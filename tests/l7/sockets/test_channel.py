"""TLS over real sockets: handshakes, bulk both ways, and every ending."""

import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import gevent
import pytest
from gevent.hub import get_hub

from mcproxy.certificates.contexts import client_context
from mcproxy.l7.bounds import READ_SIZE
from mcproxy.l7.sockets import channel as channels
from mcproxy.l7.sockets.channel import Channel, Lost, TLSChannel
from mcproxy.l7.sockets.records import RECORD
from mcproxy.native import COMPILED
from mcproxy.net.raw import READ, WRITE, RawSocket
from mcproxy.net.read_guard import ReadGuard
from mcproxy.net.turns import Turns
from tests.kit import key_updates
from tests.kit.channels import Peer, client, receive, send, wait
from tests.kit.peers import DEADLINE, Authority, reset, until
from tests.kit.socket_pairs import connected
from tests.kit.tls_gate import Gate

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")
BULK = 16 << 20


def echo_all(sock: socket.socket) -> None:
    """Echo while reading: both ways full at once."""
    while data := sock.recv(1 << 16):
        sock.sendall(data)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_talk(version: ssl.TLSVersion, authority: Authority, server: ssl.SSLContext, guard: ReadGuard) -> None:
    with connected(client(authority, echo_all, version)) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        assert channel.protocol == "http/1.1"
        assert sock.fileno() == -1, "the socket is the channel's now"
        for i in range(20):
            send(channel, b"%d" % i)
            assert receive(channel, 1) == b"%d" % i
        assert channel.undelivered >= 0
        channel.end()
        assert receive(channel) == b""
        assert not channel.lost
        channel.close()
    assert "ended" in repr(channel)


def test_bulk_out(authority: Authority, server: ssl.SSLContext, guard: ReadGuard) -> None:
    data = os.urandom(BULK)
    got: list[str] = []

    def hash_all(sock: socket.socket) -> None:
        digest = hashlib.sha256()
        while part := sock.recv(1 << 16):
            digest.update(part)
        got.append(digest.hexdigest())

    with connected(client(authority, hash_all)) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        for start in range(0, BULK, 100_000):
            send(channel, data[start : start + 100_000])
        assert channel.sent == BULK
        channel.end()
        assert receive(channel) == b""
        channel.close()
    assert got == [hashlib.sha256(data).hexdigest()]


def test_bulk_in_is_read_many_records_at_once(authority: Authority, server: ssl.SSLContext, guard: ReadGuard) -> None:
    data = os.urandom(BULK)
    with connected(client(authority, lambda sock: sock.sendall(data))) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        reads = []
        while not channel.ended:
            if not (part := channel.receive()) and not channel.ended:
                wait(channel, READ)
            reads.append(part)
        assert b"".join(reads) == data
        assert max(map(len, reads)) == READ_SIZE
        assert channel.received == BULK
        channel.close()


@pytest.mark.parametrize("secured", [False, True])
def test_pieces_of_bulk(secured: bool, authority: Authority, server: ssl.SSLContext, guard: ReadGuard) -> None:
    """They fill the socket again and again, in the midst of a piece or of a record, and keep their order."""
    pieces = [os.urandom(size) for size in (9, 100_000, 9, 0, 1_000_000, 5, 16_384, *[700] * 1_500, 2_000_000)] * 3
    digests: list[str] = []

    def hash_all(sock: socket.socket) -> None:
        digest = hashlib.sha256()
        while part := sock.recv(1 << 16):
            digest.update(part)
        digests.append(digest.hexdigest())

    def finish(sock: socket.socket) -> None:
        hash_all(sock)
        sock.close()

    with connected(client(authority, hash_all) if secured else finish) as sock:
        channel = channels.accept(sock, server, Turns(), guard) if secured else Channel(sock)
        waited = 0
        for start in range(0, len(pieces), 1_509):  # the last is sent behind a queue
            channel.send_all(pieces[start : start + 1_000])
            channel.send_all(pieces[start + 1_000 : start + 1_509])
            while channel.wants_write:
                waited += 1
                wait(channel, WRITE)
                channel.has_room()
                channel.flush()
        assert waited
        assert (channel.sent, channel.unsent) == (sum(map(len, pieces)), 0)
        channel.end()
        receive(channel)
        channel.close()
    assert digests == [hashlib.sha256(b"".join(pieces)).hexdigest()]


def test_pieces_for_a_peer_that_has_gone() -> None:
    with connected(reset) as sock:
        channel = Channel(sock)
        while not channel.lost:
            channel.send_all([bytes(9), bytes(100_000)])
        assert (channel.unsent, channel.wants_write) == (0, False)
        channel.send_all([b"x", b"y"])
        assert channel.unsent == 0
        channel.abort()


def test_an_end_right_behind_a_full_record_is_seen(
    authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    """close_notify with the connection kept open: no event would tell of it later."""
    goes_on = threading.Event()

    def one_record(sock: socket.socket) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        sock.sendall(bytes(RECORD))
        sock.setblocking(False)
        with suppress(ssl.SSLError):  # it is sent; the answer may come now or later
            sock.unwrap()
        goes_on.wait(DEADLINE)

    with connected(client(authority, one_record)) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        assert len(receive(channel)) == RECORD
        assert channel.ended
        assert not channel.lost
        goes_on.set()
        channel.close()


def test_a_bare_fin_is_an_end_and_a_reset_is_a_loss(
    authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    def fin(sock: socket.socket) -> None:
        sock.sendall(b"x")

    with connected(client(authority, fin)) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        assert receive(channel) == b"x"
        assert not channel.lost
        send(channel, b"an answer still goes")
        assert not channel.lost
        channel.close()
    for _ in range(20):  # the reset may come while OpenSSL sends its tickets, or later
        with connected(client(authority, reset)) as sock:
            channel = channels.accept(sock, server, Turns(), guard)
            assert receive(channel) == b""
            assert "reset" in channel.lost
            channel.put(b"never")
            channel.flush()
            assert channel.unsent == 0
            channel.abort()


def test_writing_to_a_client_that_has_gone_is_a_loss(
    authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    gone = threading.Event()

    def leave(sock: socket.socket) -> None:
        reset(sock)
        gone.set()

    with connected(client(authority, leave)) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        assert gone.wait(DEADLINE)
        while not channel.lost:
            send(channel, bytes(1 << 16))
        assert receive(channel) == b"", "what came before can still be read, and then its end"
        channel.abort()


@pytest.mark.parametrize("kind", [b"k", b"K"])  # K: with an answer, please
def test_a_key_update_while_a_record_waits(kind: bytes, server: ssl.SSLContext, guard: ReadGuard) -> None:
    gate = Gate()
    with connected(gate) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        send(channel, b"\xff")
        until(lambda: b"\xff" in b"".join(gate.got), "the first byte")  # s_client reads its input from now on
        gate.open = False
        sent = 1
        while not channel.wants_write:
            channel.send(bytes([255]) * RECORD)
            sent += RECORD
        gate.say(kind)
        until(lambda: b"KEYUPDATE\n" in b"".join(gate.told), "s_client to take its command")
        gate.records.release()  # for it has its update sent when it reads
        wait(channel, READ)
        assert channel.receive() == b""
        assert not channel.lost
        gate.open = True
        send(channel, b"\xff")
        gate.say(b"hello")
        assert receive(channel, 6) == b"hello\n"
        channel.end()
        receive(channel)
        channel.close()
    assert b"".join(gate.got).count(b"\xff") == sent + 1


@contextmanager
def setting(event: threading.Event) -> Iterator[None]:
    """Set it at the end of the block, however that ends."""
    try:
        yield
    finally:
        event.set()


@contextmanager
def flooding(folder: Path, authority: Authority) -> Iterator[tuple[RawSocket, threading.Event]]:
    """The socket of a client that sends 40,000 KeyUpdates, and an event for when it has."""
    came, over = threading.Event(), threading.Event()

    def flood(sock: socket.socket) -> None:
        context = authority.client_context()
        context.keylog_filename = str(folder / "keys")
        with context.wrap_socket(sock, server_hostname="one.test") as secured:
            floods = key_updates.key_updates(key_updates.secret(folder / "keys"), 40_000)
            socket.socket.sendall(secured, floods)
            came.set()
            over.wait(DEADLINE)

    with connected(flood) as sock, setting(over):
        yield sock, came


def test_a_read_that_key_updates_keep_from_its_end_is_ended(
    tmp_path: Path, authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    """One SSL_read handled all that had come: the hub served nobody else for seconds."""
    with flooding(tmp_path, authority) as (sock, came):
        channel = channels.accept(sock, server, Turns(), guard)
        until(came.is_set, "the flood to come")
        assert channel.receive() == b""
        assert channel.ended
        assert channel.abuse
        assert "50 ms of CPU" in channel.lost
        channel.send(b"nobody gets it")
        channel.close()


def test_reads_that_bring_nothing_are_counted(
    tmp_path: Path, authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    """KeyUpdates one at a time cost the hub a read each, for ever."""
    wanted, over = threading.Semaphore(1), threading.Event()

    def trickle(sock: socket.socket) -> None:
        context = authority.client_context()
        context.keylog_filename = str(tmp_path / "keys")
        with context.wrap_socket(sock, server_hostname="one.test") as secured:
            flood = key_updates.key_updates(key_updates.secret(tmp_path / "keys"), channels.EMPTY_READS + 2)
            for start in range(0, len(flood), len(flood) // (channels.EMPTY_READS + 2)):
                wanted.acquire()
                if over.is_set():
                    return
                socket.socket.sendall(secured, flood[start : start + len(flood) // (channels.EMPTY_READS + 2)])

    with connected(trickle) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        reads = 0
        while not channel.ended:
            wait(channel, READ)
            assert channel.receive() == b""
            reads += 1
            wanted.release()
        assert channel.abuse
        assert reads == channels.EMPTY_READS + 1
        assert "1000 TLS reads without a byte" in channel.lost
        over.set()
        wanted.release()
        channel.abort()


def test_a_flood_that_our_own_end_meets_is_ended(
    tmp_path: Path, authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    """Our close_notify has OpenSSL read what has come: all of a flood, in one call."""
    with flooding(tmp_path, authority) as (sock, came):
        channel = channels.accept(sock, server, Turns(), guard)
        until(came.is_set, "the flood to come")
        channel.end()
        assert channel.abuse
        assert "more than 0.05 s of CPU" in channel.lost
        channel.close()


class Steps(Turns):
    """Lets another thread know of each step of a handshake."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = threading.Semaphore(0)

    def wait(self) -> None:
        super().wait()
        self.taken.release()


@pytest.mark.skipif(COMPILED, reason="a compiled class has no interpreted subclass")
def test_a_handshake_of_very_many_reads_is_ended(
    authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    """A record that comes byte by byte costs a step for each."""
    steps, over = Steps(), threading.Event()

    def drip(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="one.test")
        with suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        sock.sendall(outgoing.read() + b"\x17\x03\x03\x40\x00")
        with suppress(OSError):
            while not over.is_set():
                steps.taken.acquire(timeout=0.01)  # one step may have read two
                sock.sendall(b"x")

    with connected(drip) as sock, setting(over):
        with pytest.raises(channels.Flooded, match="more than 1000 TLS reads in one handshake"):
            channels.accept(sock, server, steps, guard)
        assert sock.fileno() == -1
    steps.close()


def test_a_client_that_goes_on_sending_gets_what_came_before_the_end(
    authority: Authority, server: ssl.SSLContext, guard: ReadGuard
) -> None:
    ended, seen = threading.Event(), list[bytes]()

    def talk(sock: socket.socket) -> None:
        sock.sendall(b"x" * 1_000)
        assert ended.wait(DEADLINE)
        for _ in range(100):
            sock.sendall(b"y" * 10_000)  # a RST would make this fail, or destroy what is still to be read
        while data := sock.recv(100):
            seen.append(data)

    with connected(client(authority, talk)) as sock:
        channel = channels.accept(sock, server, Turns(), guard)
        wait(channel, READ)  # these bytes are met by the close_notify
        send(channel, b"answer")
        channel.end()
        ended.set()
        while not channel.ended:
            wait(channel, READ)
            assert channel.receive() == b"", "nobody wants it any more"
        assert not channel.lost
        channel.close()
    assert seen == [b"answer"]


def test_the_steps_of_handshakes_take_turns(
    authority: Authority, server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, guard: ReadGuard
) -> None:
    steps: list[int] = []
    wrap = ssl.SSLContext._wrap_socket  # type: ignore[attr-defined]

    def noted(context: ssl.SSLContext, sock: object, is_server: bool, *more: object, **named: object) -> object:
        made = wrap(context, sock, is_server, *more, **named)

        def step() -> None:
            steps.append(get_hub().loop.iteration)
            made.do_handshake()

        return SimpleNamespace(do_handshake=step, shutdown=made.shutdown) if is_server else made

    monkeypatch.setattr(ssl.SSLContext, "_wrap_socket", noted)
    turns = Turns()
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(client(authority, lambda _sock: None))) for _ in range(8)]
        for accepting in [gevent.spawn(channels.accept, sock, server, turns, guard) for sock in socks]:
            channel = accepting.get(timeout=DEADLINE)
            channel.end()
            channel.close()
    turns.close()
    assert len(steps) > 8
    assert len(set(steps)) == len(steps), "each in a round of its own"


def failure(sock: RawSocket, server: ssl.SSLContext, guard: ReadGuard) -> str:
    try:
        channel = channels.accept(sock, server, Turns(), guard)
    except Lost as error:
        assert sock.fileno() == -1
        return str(error)
    receive(channel)  # with TLS 1.3, a client's verdict comes after the server's part is done
    channel.close()
    return channel.lost


def test_handshakes_that_fail(authority: Authority, server: ssl.SSLContext, guard: ReadGuard) -> None:
    def distrusting(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(sock, server_hostname="one.test")

    def other_name(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            authority.client_context().wrap_socket(sock, server_hostname="two.test")

    def no_tls(sock: socket.socket) -> None:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")

    for peer, says in ((distrusting, "unknown ca"), (other_name, "callback failed"), (no_tls, "http request"),
                       (reset, ""), (socket.socket.close, "")):  # fmt: skip
        with connected(peer) as sock:
            assert says in failure(sock, server, guard)


def serving(authority: Authority, protocols: list[str]) -> Peer:
    def serve(sock: socket.socket) -> None:
        context = authority.server_context("backend.test")
        context.set_alpn_protocols(protocols)
        try:
            with context.wrap_socket(sock, server_side=True) as secured:
                echo_all(secured)
        except OSError:
            return  # the client's verdict is what is looked at

    return serve


def test_connecting_to_a_backend(authority: Authority, guard: ReadGuard) -> None:
    context = client_context(str(authority.path))
    with connected(serving(authority, ["h2"])) as sock:
        channel = channels.connect(sock, context, "backend.test", Turns(), guard)
        send(channel, b"ping")
        assert receive(channel, 4) == b"ping"
        channel.end()
        channel.close()
    with connected(serving(authority, ["h2"])) as sock, pytest.raises(Lost, match="certificate: Hostname mismatch"):
        channels.connect(sock, context, "other.test", Turns(), guard)


@pytest.mark.parametrize(("protocols", "chosen"), [(["h2"], "h2"), (["http/1.1"], "http/1.1"), ([], "")])
def test_a_backend_chooses_what_it_speaks(
    protocols: list[str], chosen: str, authority: Authority, guard: ReadGuard
) -> None:
    with connected(serving(authority, protocols)) as sock:
        channel = channels.connect(sock, client_context(str(authority.path)), "backend.test", Turns(), guard)
        assert channel.protocol == chosen
        channel.close()


@pytest.mark.parametrize("clean", [True, False])
def test_an_end_without_a_close_notify_is_known_for_one(clean: bool, authority: Authority, guard: ReadGuard) -> None:
    """An answer that ends with the connection may have been cut short by anybody then (RFC 9112, section 9.8)."""

    def serve(sock: socket.socket) -> None:
        with authority.server_context("backend.test").wrap_socket(sock, server_side=True) as secured:
            secured.sendall(b"all")
            if clean:
                with suppress(OSError):  # we don't answer it
                    secured.unwrap()
            else:
                os.close(secured.detach())

    with connected(serve) as sock:
        channel = channels.connect(sock, client_context(str(authority.path)), "backend.test", Turns(), guard)
        assert receive(channel, 3) == b"all"
        channel.half_close()
        while not channel.ended:
            channel.receive()
            gevent.sleep(0)
        assert (channel.ended_cleanly, channel.lost) == (clean, "")
        channel.close()


@pytest.mark.parametrize(
    ("made", "count", "says"),
    [
        (key_updates.key_updates, 40_000, "50 ms of CPU"),
        (key_updates.empty_records, channels.EMPTY_READS + 1, "more than 1000 TLS reads"),
    ],
    ids=["KeyUpdate", "empty records"],
)
def test_a_backend_that_floods_is_lost(
    made: Callable[[bytes, int, int], bytes], count: int, says: str, tmp_path: Path, authority: Authority,
    guard: ReadGuard,
) -> None:  # fmt: skip
    """A read brings all KeyUpdates that there are, or one empty record."""
    came, over = threading.Event(), threading.Event()

    def flood(sock: socket.socket) -> None:
        context = authority.server_context("backend.test")
        context.set_alpn_protocols(["h2"])
        context.num_tickets = 0  # each would be a record
        context.keylog_filename = str(tmp_path / "keys")
        with context.wrap_socket(sock, server_side=True) as secured:
            secured.sendall(b"x")
            secret = key_updates.secret(tmp_path / "keys", "SERVER")
            socket.socket.sendall(secured, made(secret, count, 1))
            came.set()
            over.wait(DEADLINE)

    with connected(flood) as sock, setting(over):
        channel = channels.connect(sock, client_context(str(authority.path)), "backend.test", Turns(), guard)
        assert receive(channel, 1) == b"x"
        until(came.is_set, "the flood to come")
        for _ in range(channels.EMPTY_READS + 1):
            assert channel.receive() == b""
            if channel.ended:
                break
        # OpenSSL itself ends 33 empty records that one read of its finds (ssl/record, MAX_EMPTY_RECORDS).
        assert channel.abuse or channel.lost == "record too small"
        assert says in channel.lost or not channel.abuse
        channel.close()


def test_a_backend_that_floods_its_handshake_is_lost(authority: Authority, guard: ReadGuard) -> None:
    """HelloRequest of TLS 1.2 is ignored within a handshake: one call of OpenSSL reads any number of them."""
    over = threading.Event()

    def flood(sock: socket.socket) -> None:
        requests = b"\x16\x03\x03\x40\x00" + bytes(0x4000)
        with suppress(OSError):
            while not over.is_set():
                sock.sendall(requests * 16)

    with connected(flood) as sock, setting(over):
        with pytest.raises(
            channels.Flooded, match=r"in the handshake, one read took more than 1 s of CPU|1000 TLS reads"
        ):
            channels.connect(sock, client_context(str(authority.path)), "backend.test", Turns(), guard)
        assert sock.fileno() == -1


def test_a_stream_without_tls() -> None:
    with connected(echo_all) as sock:
        channel = Channel(sock)
        channel.put(b"")
        send(channel, b"ping")
        assert receive(channel, 4) == b"ping"
        channel.put(b"a")
        channel.put(b"b")
        assert channel.unsent == 2
        channel.flush()
        channel.end()
        assert receive(channel) == b"ab"
        assert isinstance(channel, Channel)
        assert not isinstance(channel, TLSChannel)
        channel.close()
