"""The parts of the control plane that need a hub are shown by tests/e2e/test_live_changes.py and test_restart.py."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mcproxy import config
from mcproxy.app import StartError
from mcproxy.change import table_values
from mcproxy.configuration import Config
from mcproxy.control import Control
from mcproxy.model import Backend, Connection, End, FirewallRule, Listener, Reason, RuleKind
from mcproxy.store.errors import Conflict, NotOurs, UnreadableRow
from mcproxy.store.store import Store
from tests.conftest import MakeProxy, listener
from tests.kit.hub import messages
from tests.kit.peers import DEADLINE, until

CONNECTION = Connection(
    7, 1000.0, 2.5, ":443", ("2001:db8::1", 5), "a.b", (), (), False, "a.b", "l4", Backend("127.0.0.1", 1),
    Reason.OK, "", 10, 20, End.CLOSED,
)  # fmt: skip


def parsed(folder: Path, **sections: object) -> Config:
    document = {"database": {"path": "mcproxy.db"}, "listeners": [{"addr": ":443"}], **sections}
    return config.parse(document, folder / "mcproxy.toml")


class StuckDoor:
    """A hub that never answers."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        raise TimeoutError


def test_the_first_start_seeds_and_later_ones_load(tmp_path: Path) -> None:
    control = Control(parsed(tmp_path))
    assert (list(control.database.table.listeners), control.database.table.generation) == ([":443"], 1)
    assert control.database.store.load().generation == 0, "it is not durable before its addresses are taken"
    control.database.seed()
    assert table_values(control.database.store.load()) == table_values(control.database.table)
    control.database.store.close()
    control = Control(parsed(tmp_path, listeners=[{"addr": ":1"}]))
    assert list(control.database.table.listeners) == [":443"], "the database is the truth"
    control.database.store.close()


def test_a_database_that_another_process_seeds_meanwhile_stops_the_start(tmp_path: Path) -> None:
    """Else this one would serve what no database holds."""
    control = Control(parsed(tmp_path))
    with closing(Store.open(tmp_path / "mcproxy.db")) as other:
        other.seed([(Listener(":1"), [])], [], 1.0)
    with pytest.raises(Conflict, match="another process has seeded it meanwhile"):
        control.database.seed()
    control.database.store.close()


def test_the_end_of_a_call_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """A call that waited for a disk that is gone kept the process from ending, also after a second SIGTERM."""
    control, hangs = Control(parsed(tmp_path)), threading.Event()
    control.before_close(lambda: hangs.wait(DEADLINE))
    with messages() as logged:
        control.close(limit=0.1)
    assert control.hangs
    assert logged[0].startswith("error the admin API or the database has not ended in 0.1 s")
    hangs.set()
    until(lambda: "control-close" not in {each.name for each in threading.enumerate()}, "the thread to end")


def test_a_database_that_can_not_be_loaded_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "mcproxy.db").write_bytes(b"junk" * 1000)
    with pytest.raises(NotOurs):
        Control(parsed(tmp_path))
    (tmp_path / "mcproxy.db").unlink()
    control = Control(parsed(tmp_path))
    control.database.seed()
    control.database.store.close()
    with closing(sqlite3.connect(tmp_path / "mcproxy.db")) as connection:
        connection.execute("UPDATE listeners SET trusted_proxies = 'nonsense'")
        connection.commit()
    with pytest.raises(UnreadableRow, match="nonsense"):
        Control(parsed(tmp_path))


def test_rules_that_nobody_could_tell_stop_the_start(proxy: MakeProxy, tmp_path: Path) -> None:
    """Else those whom the operator has blocked would come in."""
    with closing(Store.open(tmp_path / "mcproxy.db")) as store:
        store.seed([], [FirewallRule(RuleKind.COUNTRY, "DE")], 1.0)
    with pytest.raises(StartError, match="the database has country rules"):
        proxy({"listeners": [listener({})], "database": {"path": "mcproxy.db"}})


def test_an_admin_api_that_can_not_be_opened_stops_the_start(proxy: MakeProxy, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"grpc\.addr: can't listen on unix:"):
        proxy({"listeners": [listener({})], "grpc": {"addr": f"unix:{tmp_path}"}})
