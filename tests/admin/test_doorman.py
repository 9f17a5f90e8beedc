import grp
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcproxy.admin import doorman
from mcproxy.admin.doorman import Doorman, GroupError, peer_uid
from tests.kit.peers import DEADLINE, until


@contextmanager
def door(folder: Path, group: str = "") -> Iterator[tuple[Doorman, socket.socket]]:
    """A doorman, and the socket that stands for gRPC's."""
    man = Doorman(folder / "admin.sock", group)
    try:
        with socket.socket(socket.AF_UNIX) as inner:
            inner.bind(os.fspath(man.inner))
            inner.listen(128)
            inner.settimeout(DEADLINE)
            man.start()
            yield man, inner
    finally:
        man.close()


def connect(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE)
    sock.connect(os.fspath(folder / "admin.sock"))
    return sock


@contextmanager
def pair(folder: Path, inner: socket.socket) -> Iterator[tuple[socket.socket, socket.socket, bytes]]:
    """A connection from end to end, and the name that the doorman gave it."""
    with connect(folder) as outside:
        inside, name = inner.accept()
        inside.settimeout(DEADLINE)
        with inside:
            yield outside, inside, name


def test_the_peers_user_is_in_the_name(tmp_path: Path) -> None:
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (_, _, name):
        assert name.startswith(b"\0mcproxy-")
        assert peer_uid("unix-abstract:" + name[1:].decode()) == os.getuid()


@pytest.mark.parametrize("peer", ["", "unix:", "unix:/tmp/mcproxy-ab-0-1", "ipv4:127.0.0.1:5", "unix-abstract:x-0-1"])
def test_other_peers_have_no_user(peer: str) -> None:
    assert peer_uid(peer) is None


def test_only_this_user_may_connect(tmp_path: Path) -> None:
    with door(tmp_path) as (man, _):
        assert (tmp_path / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert man.inner.parent.stat().st_mode & 0o777 == 0o700


def test_the_members_of_a_group_may_connect_where_there_is_one(tmp_path: Path) -> None:
    mine = grp.getgrgid(os.getegid())
    with door(tmp_path, mine.gr_name) as (man, _):
        found = (tmp_path / "admin.sock").stat()
        assert (found.st_mode & 0o777, found.st_gid) == (0o660, mine.gr_gid)
        assert man.inner.parent.stat().st_mode & 0o777 == 0o700, "nobody comes past the doorman"


def test_a_group_that_can_not_have_the_socket_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(GroupError, match="there is no group of-nobody on this machine"):
        Doorman(tmp_path / "admin.sock", "of-nobody")
    assert not list(tmp_path.iterdir())
    mine = grp.getgrgid(os.getegid())
    assert doorman.group_id(mine.gr_name, {mine.gr_gid}) == mine.gr_gid
    with pytest.raises(GroupError, match=f"this user is not a member of {mine.gr_name}"):
        doorman.group_id(mine.gr_name, {mine.gr_gid + 1})


def test_bytes_pass_both_ways_and_each_end_is_passed_on(tmp_path: Path) -> None:
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (outside, inside, _):
        outside.sendall(b"ping")
        assert inside.recv(100) == b"ping"
        outside.shutdown(socket.SHUT_WR)
        assert inside.recv(100) == b"", "the client has ended"
        inside.sendall(b"pong")
        assert outside.recv(100) == b"pong", "the server has not"
        inside.close()
        assert outside.recv(100) == b""


def test_much_passes_whole_though_the_reader_is_slow(tmp_path: Path) -> None:
    sent = os.urandom(1 << 20) * 8
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (outside, inside, _):

        def send() -> None:
            outside.sendall(sent)
            outside.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = bytearray()
        while piece := inside.recv(10_000):
            received += piece
        sender.join(DEADLINE)
        assert bytes(received) == sent


def test_a_reset_ends_the_other_side(tmp_path: Path) -> None:
    with door(tmp_path) as (man, inner), pair(tmp_path, inner) as (outside, inside, _):
        inside.sendall(b"x" * 1000)
        until(lambda: outside.recv(1, socket.MSG_PEEK) == b"x", "bytes")
        outside.close()  # with bytes unread
        assert inside.recv(10) == b""
        inside.close()
        until(lambda: "connections=0" in repr(man), "the connection to be forgotten")


def test_connections_have_a_bound(tmp_path: Path) -> None:
    with door(tmp_path) as (man, inner):
        held = [connect(tmp_path) for _ in range(doorman.MAX_UNIX_CONNECTIONS)]
        accepted = [inner.accept()[0] for _ in held]
        with connect(tmp_path) as one_more:
            assert one_more.recv(1) == b"", "closed at once"
        for sock in [*held, *accepted]:
            sock.close()
        until(lambda: "connections=0" in repr(man), "the others to end")
        with pair(tmp_path, inner) as (outside, inside, _):
            outside.sendall(b"x")
            assert inside.recv(1) == b"x", "there is room again"


def test_where_nobody_listens_inside_the_client_is_let_go(tmp_path: Path) -> None:
    man = Doorman(tmp_path / "admin.sock")
    man.start()
    try:
        with connect(tmp_path) as outside:
            assert outside.recv(1) == b""
    finally:
        man.close()


def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / "admin.sock"))
    with door(tmp_path) as (_, inner), pair(tmp_path, inner) as (outside, inside, _):
        outside.sendall(b"x")
        assert inside.recv(1) == b"x"


def test_a_socket_in_use_is_not_replaced(tmp_path: Path) -> None:
    with door(tmp_path), pytest.raises(OSError, match="another process listens"):
        Doorman(tmp_path / "admin.sock")


def test_a_file_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "admin.sock").write_text("precious")
    with pytest.raises(OSError, match="is not a socket"):
        Doorman(tmp_path / "admin.sock")
    assert (tmp_path / "admin.sock").read_text() == "precious"


def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / ".admin.sock.d"
    folder.mkdir(0o755)
    with pytest.raises(PermissionError, match="is another user's or open to others"):
        Doorman(tmp_path / "admin.sock")
    assert not (tmp_path / "admin.sock").exists()
    folder.chmod(0o700)
    (folder / "s").touch()  # as a killed server leaves it
    with door(tmp_path) as (_, inner), pair(tmp_path, inner):
        assert folder.is_dir()


def test_nothing_is_left(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    with door(tmp_path) as (man, inner), pair(tmp_path, inner):
        folder = man.inner.parent
    assert not folder.exists()
    assert not (tmp_path / "admin.sock").exists()
    assert set(threading.enumerate()) <= threads
