import errno
import grp
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mcproxy.admin.entrance import GroupError, TcpEntrance, UnixEntrance, group_id
from mcproxy.admin.peer import Peer
from tests.kit.peers import DEADLINE, free_port


@contextmanager
def unix(folder: Path, group: str = "") -> Iterator[UnixEntrance]:
    """A socket in this folder."""
    with closing(UnixEntrance(folder / "admin.sock", group)) as entrance:
        yield entrance


def accepted(entrance: UnixEntrance | TcpEntrance) -> Peer:
    """Whom the connection comes from that waits there."""
    (listening,) = entrance.sockets
    listening.settimeout(DEADLINE)
    sock, address = listening.accept()
    with sock:
        return entrance.peer(sock, address)


def test_the_peer_on_a_unix_socket_is_a_user(tmp_path: Path) -> None:
    with unix(tmp_path) as entrance, socket.socket(socket.AF_UNIX) as sock:
        sock.connect(os.fspath(tmp_path / "admin.sock"))
        assert accepted(entrance) == Peer(uid=os.getuid())


@pytest.mark.parametrize(("addr", "host"), [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")])
def test_the_peer_over_tcp_is_an_address(addr: str, host: str) -> None:
    with closing(TcpEntrance(addr)) as entrance, socket.create_connection((host, entrance.port), DEADLINE):
        assert accepted(entrance) == Peer(ip=host)


def test_a_name_is_listened_on_at_each_of_its_addresses_with_one_port() -> None:
    found = {each[4][0] for each in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with closing(TcpEntrance("localhost:0")) as entrance:
        names = [each.getsockname() for each in entrance.sockets]
        assert {name[0] for name in names} <= found
        assert {name[1] for name in names} == {entrance.port}


def test_a_port_in_use_is_not_shared() -> None:
    with closing(TcpEntrance("127.0.0.1:0")) as entrance:
        for addr in (f"127.0.0.1:{entrance.port}", f"0.0.0.0:{entrance.port}", f"localhost:{entrance.port}"):
            with pytest.raises(OSError, match="Address already in use"):
                TcpEntrance(addr)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="Cannot assign") as caught:
        TcpEntrance(f"192.0.2.1:{free_port()}")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_over_tcp_nothing_is_left_in_the_file_system_even_by_a_server_that_is_killed() -> None:
    with closing(TcpEntrance("127.0.0.1:0")) as entrance, socket.socket(socket.AF_UNIX) as inside:
        folder = entrance.inner.parent
        assert folder.stat().st_mode & 0o777 == 0o700
        inside.bind(os.fspath(entrance.inner))
        inside.listen()
        entrance.inside()
        assert not folder.exists()
        with socket.socket(socket.AF_UNIX) as doorman:
            doorman.connect(os.fspath(entrance.inner))
            inside.accept()[0].close()
    with closing(TcpEntrance("127.0.0.1:0")) as entrance:
        folder = entrance.inner.parent
    assert not folder.exists(), "nor by one that didn't come that far"


def test_only_this_user_may_connect(tmp_path: Path) -> None:
    with unix(tmp_path) as entrance:
        assert (tmp_path / "admin.sock").stat().st_mode & 0o777 == 0o600
        assert entrance.inner.parent.stat().st_mode & 0o777 == 0o700


def test_the_members_of_a_group_may_connect_where_there_is_one(tmp_path: Path) -> None:
    mine = grp.getgrgid(os.getegid())
    with unix(tmp_path, mine.gr_name) as entrance:
        found = (tmp_path / "admin.sock").stat()
        assert (found.st_mode & 0o777, found.st_gid) == (0o660, mine.gr_gid)
        assert entrance.inner.parent.stat().st_mode & 0o777 == 0o700, "nobody comes past it"


def test_a_group_that_can_not_have_the_socket_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(GroupError, match="there is no group of-nobody on this machine"):
        UnixEntrance(tmp_path / "admin.sock", "of-nobody")
    assert not list(tmp_path.iterdir())
    mine = grp.getgrgid(os.getegid())
    assert group_id(mine.gr_name, {mine.gr_gid}) == mine.gr_gid
    with pytest.raises(GroupError, match=f"this user is not a member of {mine.gr_name}"):
        group_id(mine.gr_name, {mine.gr_gid + 1})


def test_a_socket_in_use_is_not_replaced(tmp_path: Path) -> None:
    with unix(tmp_path), pytest.raises(OSError, match="another process listens"):
        UnixEntrance(tmp_path / "admin.sock")


def test_a_file_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "admin.sock").write_text("precious")
    with pytest.raises(OSError, match="is not a socket"):
        UnixEntrance(tmp_path / "admin.sock")
    assert (tmp_path / "admin.sock").read_text() == "precious"


def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / ".admin.sock.d"
    folder.mkdir(0o755)
    with pytest.raises(PermissionError, match="is another user's or open to others"):
        UnixEntrance(tmp_path / "admin.sock")
    assert not (tmp_path / "admin.sock").exists()
    folder.chmod(0o700)
    (folder / "s").touch()  # as a killed server leaves it
    with unix(tmp_path):
        assert folder.is_dir()
