"""The rows of ACME come back as they were written, and no value of a generation has anything of them."""

import stat
from contextlib import closing
from pathlib import Path

import pytest

from mcproxy.certificates.acme.course import named_pair
from mcproxy.certificates.acme.order import CaAccount, Order, State
from mcproxy.store.acme import ALL, Records, exposure, keep_old_private
from mcproxy.store.errors import Unavailable
from mcproxy.store.store import Store
from tests.kit.control_plane import store_at
from tests.kit.hub import messages

ORDER = Order("a.test", State.VALIDATING, "https://ca.test", "https://ca.test/1", "key", 5.0, 4.0, 2, "no", 3.0)
PAIR = named_pair("a.test", b"chain", b"key")


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        records = Records(store)
        account = CaAccount("https://ca.test", "secret", "https://ca.test/account", 1.5, 2, "away")
        for written in (CaAccount("https://ca.test", "secret"), account):
            records.write_account(written)
            assert records.account("https://ca.test") == written
        assert records.account("https://other.test") is None
        for order in (Order("a.test"), ORDER):
            records.write_order(order)
            assert records.orders() == [order]
        waiting = Order("a.test", next_at=9.0)
        records.write_issued(waiting, PAIR, 100.0)
        assert (records.orders(), records.certificates()) == ([waiting], {"a.test": PAIR})


def test_the_starts_of_the_last_hour_are_kept(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        records = Records(store)
        for began in (10.0, 20.0, 30.0):
            records.write_start(Order("a.test", began=began), began - 15.0)
        assert sorted(records.starts(0.0)) == [20.0, 30.0]
        assert records.starts(25.0) == [30.0]


def test_a_name_without_a_route_loses_its_order_and_its_certificate_once_that_has_expired(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        records = Records(store)
        records.write_issued(Order("a.test"), PAIR, 100.0)
        records.remove("a.test", 99.0)
        assert (records.orders(), list(records.certificates())) == ([], ["a.test"])
        records.remove("a.test", 101.0)
        assert records.certificates() == {}


def test_expired_certificates_of_names_without_a_route_go_in_time(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store:
        records = Records(store)
        for name in ("gone.test", "here.test"):
            records.write_issued(Order(name), named_pair(name, b"chain", b"key"), 100.0)
        records.remove("gone.test", 0.0)
        records.write_start(Order("b.test", began=99.0), 99.0)
        assert sorted(records.certificates()) == ["gone.test", "here.test"]
        records.write_start(Order("b.test", began=101.0), 101.0)
        assert list(records.certificates()) == ["here.test"], "what is served stays until there is another"


def test_the_tables_are_those_that_migrations_made(tmp_path: Path) -> None:
    with store_at(tmp_path / "a.db") as store, store.transaction() as database:
        for table in ALL:
            made = {column["name"] for column in database.inspect.get_columns(table.name)}
            assert made == {column.name for column in table.columns}, table.name


def test_a_database_with_keys_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with store_at(path) as store:
        path.chmod(0o644)
        with messages() as logged:
            Records(store).write_account(CaAccount("https://ca.test", "secret"))
            Records(store).write_account(CaAccount("https://ca.test", "secret"))
        modes = {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {0o600}
    (line,) = logged
    assert "only its owner may read it" in line


def test_what_can_not_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(Store.open(path, busy_timeout=0.01)) as store, closing(Store.open(path, busy_timeout=0.01)) as other:
        with store.transaction() as database:
            list(database.query("DELETE FROM acme_orders"))
            with pytest.raises(Unavailable, match="another process holds its lock"):
                Records(other).write_order(ORDER)
        assert Records(store).orders() == []


def test_a_database_that_was_copied_back_is_private_from_the_start(tmp_path: Path) -> None:
    """Regression: only the first key of an account made it so, and a snapshot copied back stayed as cp had made it."""
    path = tmp_path / "a.db"
    with store_at(path) as store:
        path.chmod(0o644)
        keep_old_private(store)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, "it holds no key"
        Records(store).write_issued(Order("a.test"), PAIR, 100.0)
        path.chmod(0o644)
        with messages() as logged:
            keep_old_private(store)
        assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob("a.db*")} == {0o600}
        assert logged == [f"warning database {path}: only its owner may read it from now on (mode 0600): it holds keys"]
        assert exposure(store) == ""


def test_files_with_keys_that_others_may_use_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    copies = [tmp_path / f"a-20261129T0{hour}0000Z.db" for hour in range(7)]
    with store_at(path) as store:
        for each in copies:
            each.touch(0o644)
        assert exposure(store) == "", "there are no keys"
        Records(store).write_issued(Order("a.test"), PAIR, 100.0)
        several = " ".join(map(str, copies[:5]))
        assert exposure(store).endswith(f"chmod 600 {several} and 2 other files beside them, as the owner or root")
        for each in copies[1:]:
            each.chmod(0o600)
        one = copies[0]
        assert exposure(store) == (
            f"{one} holds keys, and others than its owner may use it: chmod 600 {one}, as its owner or root"
        )
