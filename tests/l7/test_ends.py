"""Ends over real sockets: TLS in both roles, many records in one read, two greenlets that send, peers that are gone."""

import socket
import ssl
import threading
from collections.abc import Callable

import gevent
import pytest

from mcproxy.l7.budgets import MAX_OWED
from mcproxy.l7.ends import READ_SIZE, End, EndGone, Outlet, TlsEnd
from mcproxy.net.raw import RawSocket
from tests.l7.peer import HOST
from tests.peers import DEADLINE, Authority


def raw(sock: socket.socket) -> RawSocket:
    other = RawSocket(fileno=sock.detach())
    other.setblocking(False)
    return other


def pair() -> tuple[RawSocket, socket.socket]:
    near, far = socket.socketpair()
    far.settimeout(DEADLINE)
    return raw(near), far


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_bytes_pass_and_an_end_is_seen() -> None:
    near, far = pair()
    end = End(near)
    far.sendall(b"ping")
    assert end.read() == b"ping"
    end.push(b"pong")
    assert far.recv(100) == b"pong"
    far.close()
    assert end.read() == b""
    assert end.moved == 8
    with pytest.raises(EndGone):
        end.push(b"x")
    end.close()


def test_a_slow_peer_is_waited_for_and_what_comes_meanwhile_follows() -> None:
    near, far = pair()
    body = bytes(range(256)) * 8_192
    waiting = [body]
    outlet = Outlet(End(near), waiting, lambda: take(waiting))
    sender = gevent.spawn(outlet.flush, False)
    gevent.sleep(0)  # it fills the socket, and waits
    waiting.append(b"after it")
    outlet.flush(patient=False)
    assert outlet.busy
    assert waiting == [b"after it"]
    patient = gevent.spawn(outlet.flush, True)
    gevent.sleep(0)
    assert not patient.ready()
    got = bytearray()

    def drain() -> None:
        while len(got) < len(body) + 8:
            got.extend(far.recv(65_536))

    thread = in_thread(drain)
    gevent.joinall([sender, patient], DEADLINE, raise_error=True)
    thread.join(DEADLINE)
    assert bytes(got) == body + b"after it"
    assert repr(outlet).endswith("free 0 waiting>")
    outlet.end.close()
    far.close()


def take(waiting: list[bytes]) -> bytes:
    data = b"".join(waiting)
    waiting.clear()
    return data


def test_a_peer_that_does_not_read_what_it_is_owed() -> None:
    near, far = pair()
    waiting = [b"x" * 4_000_000]
    outlet = Outlet(End(near), waiting, lambda: take(waiting))
    sender = gevent.spawn(outlet.flush, False)
    gevent.sleep(0)
    waiting.append(b"y" * (MAX_OWED + READ_SIZE))
    outlet.flush(patient=False)
    waiting.append(b"y")
    with pytest.raises(EndGone, match="owed"):
        outlet.flush(patient=False)
    outlet.end.shut()
    with pytest.raises(EndGone):
        sender.get(timeout=DEADLINE)
    outlet.end.close()
    far.close()


def contexts(authority: Authority) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = authority.server_context(HOST)
    server.set_alpn_protocols(["h2"])
    client = authority.client_context()
    client.set_alpn_protocols(["h2"])
    return server, client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_as_server(authority: Authority, version: ssl.TLSVersion) -> None:
    server, client = contexts(authority)
    client.maximum_version = version
    near, far = pair()
    body = b"0123456789" * 50_000
    got = bytearray()

    def talk() -> None:
        with client.wrap_socket(far, server_hostname=HOST) as secured:
            secured.sendall(body)
            while data := secured.recv(65_536):
                got.extend(data)

    thread = in_thread(talk)
    end = TlsEnd(near, server, server_side=True)
    end.handshake()
    assert end.alpn == "h2"
    assert end.version.startswith("TLSv1")
    back = bytearray()
    while len(back) < len(body):
        back += end.read()
    end.push(bytes(back))
    end.finish()
    thread.join(DEADLINE)
    assert bytes(got) == body
    end.close()


def test_tls_as_client_checks_the_name(authority: Authority) -> None:
    server, client = contexts(authority)
    for name, right in ((HOST, True), ("other.test", False)):
        near, far = pair()

        def serve(far: socket.socket = far) -> None:
            try:
                with server.wrap_socket(far, server_side=True) as secured:
                    secured.sendall(b"hello")
            except (ssl.SSLError, OSError):
                far.close()

        thread = in_thread(serve)
        end = TlsEnd(near, client, server_side=False, name=name)
        if right:
            end.handshake()
            assert end.read() == b"hello"
        else:
            with pytest.raises(EndGone, match="TLS"):
                end.handshake()
        end.close()
        thread.join(DEADLINE)


def test_a_handshake_that_is_none(authority: Authority) -> None:
    server, _ = contexts(authority)
    near, far = pair()
    end = TlsEnd(near, server, server_side=True)
    far.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(EndGone, match="TLS"):
        end.handshake()
    end.close()
    far.close()
    near, far = pair()
    end = TlsEnd(near, server, server_side=True)
    far.close()
    with pytest.raises(EndGone, match="handshake"):
        end.handshake()
    assert repr(end).startswith("<TlsEnd fd=")
    end.close()
