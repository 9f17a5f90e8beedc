"""The socket beside the database: for its user only, whatever its path; stale ones are no obstacle."""

import os
import socket
import stat
from pathlib import Path

import pytest

from mcproxy.takeover.seat import Seat


def test_one_listens_and_another_one_finds_it(nothing_left: None, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data" / "mcproxy.db")
    seat = Seat(tmp_path / "data" / "mcproxy.db")
    assert seat.connect() is None
    with seat.listen() as listening:
        assert stat.S_IMODE(seat.path.stat().st_mode) == 0o600
        found = Seat(tmp_path / "link").connect()
        assert found is not None, "it is beside the database, not beside a link to it"
        with found, listening.accept()[0] as accepted:
            found.send(b"x")
            assert accepted.recv(2) == b"x"
        seat.leave()
    assert list((tmp_path / "data").iterdir()) == []


def test_a_path_may_be_longer_than_the_kernel_takes(nothing_left: None, tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)
    seat = Seat(folder / "mcproxy.db")
    with seat.listen():
        found = seat.connect()
        assert found is not None
        found.close()


def test_a_server_that_was_killed_leaves_no_obstacle(nothing_left: None, tmp_path: Path) -> None:
    seat = Seat(tmp_path / "mcproxy.db")
    seat.listen().close()
    assert seat.path.is_socket()
    assert seat.connect() is None
    with seat.listen() as listening:
        listening.setblocking(False)
        found = seat.connect()
        assert found is not None
        found.close()
        seat.leave()
    assert not seat.path.exists()


def test_a_name_that_leads_to_another_server_stays(nothing_left: None, tmp_path: Path) -> None:
    old, new = Seat(tmp_path / "mcproxy.db"), Seat(tmp_path / "mcproxy.db")
    with old.listen(), new.listen():
        old.leave()
        assert new.path.exists()
        new.leave()
        assert not new.path.exists()


def test_a_folder_that_is_not_there_is_an_error_where_it_is_needed(nothing_left: None, tmp_path: Path) -> None:
    seat = Seat(tmp_path / "none" / "mcproxy.db")
    assert seat.connect() is None
    with pytest.raises(FileNotFoundError):
        seat.listen()


def test_adopting_it_says_since_when(nothing_left: None, tmp_path: Path) -> None:
    seat, successor = Seat(tmp_path / "mcproxy.db"), Seat(tmp_path / "mcproxy.db")
    with seat.listen() as listening:
        os.utime(seat.path, (1, 1))
        assert isinstance(listening, socket.socket)
        successor.adopt()
        assert seat.path.stat().st_mtime > 1
        successor.leave()
        assert not seat.path.exists()
