"""A disk without room: mutations are refused, memory stays as the disk is, and a start finds what was acknowledged."""

import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mcproxy.admin import mutations
from mcproxy.admin.writer import Writer
from mcproxy.change import table_values
from mcproxy.store.errors import Unavailable
from mcproxy.store.store import Store
from tests.kit.control_plane import FakePlane, make_writer, route, store_at

MAX_MUTATIONS = 2_000


@contextmanager
def no_room_for_files_above(limit: int) -> Iterator[None]:
    """Writes beyond this size fail with EFBIG, in all of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_room_for_pages(store: Store, more: int) -> Iterator[None]:
    """The database may not grow by more than some pages: SQLITE_FULL, as from a full disk."""
    with store.transaction() as database:
        (pages,) = next(iter(database.executable.exec_driver_sql("PRAGMA page_count")))
        database.executable.exec_driver_sql(f"PRAGMA max_page_count={pages + more}")
    yield
    with store.transaction() as database:
        database.executable.exec_driver_sql("PRAGMA max_page_count=1000000")


def fill(writer: Writer) -> Unavailable:
    """Add routes until it fails; returns how it did. Memory is then as it was before that one."""
    for i in range(MAX_MUTATIONS):
        before = writer.table
        try:
            writer.mutate("test", "route.add", mutations.put_route("", route(f"r{i}.example.org"), exists=False))
        except Unavailable as error:
            assert writer.table is before
            return error
    raise AssertionError("there was always room")


def judge(path: Path, writer: Writer) -> None:
    """The next start finds what memory has."""
    with closing(Store.open(path)) as store:
        found = store.load()
        assert table_values(found) == table_values(writer.table)
        assert found.generation == writer.table.generation


@pytest.mark.parametrize("cause", ["file size", "pages"])
def test_nothing_is_acknowledged_that_is_not_on_disk(tmp_path: Path, cause: str) -> None:
    path = tmp_path / "mcproxy.db"
    with store_at(path) as store:
        writer = make_writer(store, FakePlane())
        full = no_room_for_files_above(200_000) if cause == "file size" else no_room_for_pages(store, 5)
        with full:
            error = fill(writer)
            assert "disk" in str(error), "it says where to look"
            assert table_values(store.load()) == table_values(writer.table), "it can still be read"
            judge(path, writer)
        # There is room again: on it goes, without a restart.
        writer.mutate("test", "route.add", mutations.put_route("", route("after.example.org"), exists=False))
        judge(path, writer)


def test_a_read_only_file_refuses_mutations_only(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.db"
    with store_at(path) as store:
        writer = make_writer(store, FakePlane())
        with store.transaction() as database:
            database.executable.exec_driver_sql("PRAGMA query_only=ON")  # root may write to any file
        assert "write permission" in str(fill(writer))
        assert len(store.load().listeners[":443"].routes) == 2
