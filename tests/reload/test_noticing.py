"""Files that change on disk are taken without a reload: once they rest, once each, and only if the pair matches."""

import logging
import shutil
from pathlib import Path

import pytest

from mcproxy import config, disk
from mcproxy.app import App
from mcproxy.messages import PlaneBusy
from mcproxy.reload.noticing import BATCH, Noticing, stamps
from tests.kit.hub import HubThread, messages
from tests.kit.peers import DEADLINE, Authority, until
from tests.kit.program import write_config


class Watched:
    """Some files, and what is taken of them. Its thread sleeps: the test looks."""

    def __init__(self, *paths: Path) -> None:
        self.paths = list(paths)
        self.taken: list[set[str]] = []
        self.noticing = Noticing(lambda: map(str, self.paths), self._take, 3600.0)

    def _take(self, changed: frozenset[str]) -> None:
        self.taken.append({Path(each).name for each in changed})

    def looks(self, count: int) -> list[set[str]]:
        """What is taken in so many looks."""
        self.taken = []
        for _ in range(count):
            self.noticing.look()
        return self.taken


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    chain, key = tmp_path / "a.pem", tmp_path / "a.key"
    chain.write_text("1")
    key.write_text("1")
    return chain, key


def test_a_change_is_taken_once_it_rests_and_then_no_more(pair: tuple[Path, Path]) -> None:
    watched = Watched(*pair)
    assert watched.looks(4) == [{"a.pem", "a.key"}], "it may have changed before the first look"
    pair[0].write_text("22")
    assert watched.looks(1) == []
    pair[0].write_text("333")
    assert watched.looks(1) == [], "it is being written still"
    assert watched.looks(3) == [{"a.pem"}]
    watched.noticing.close()


def test_a_worker_that_is_busy_is_a_warning_only_where_a_certificate_has_changed(
    pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Each time that a worker was away the log said that changed certificates were not in use yet; none had changed."""
    caplog.set_level(logging.INFO, "mcproxy")
    busy = [True]

    def ask(_files: frozenset[str] = frozenset()) -> list[str]:
        if busy[0]:
            raise PlaneBusy("a worker is too busy")
        return list(map(str, pair))

    noticing = Noticing(ask, ask, 0.01)
    until(lambda: "looking again for changed certificates in 0.01 s: a worker is too busy" in caplog.messages)
    noticing.close()
    assert all(each.levelno == logging.INFO for each in caplog.records)
    noticing = Noticing(lambda: map(str, pair), ask, 3600.0)
    for _ in range(2):
        noticing.look()
    assert not any("not in use yet" in each for each in caplog.messages), "they may not have changed"
    busy[0] = False
    noticing.look()
    pair[0].write_text("22")
    busy[0] = True
    for _ in range(2):
        noticing.look()
    assert any(f"s: {pair[0]}: a worker is too busy" in each for each in caplog.messages)
    noticing.close()


def test_a_file_that_disappears_and_comes_back_is_read_again(pair: tuple[Path, Path]) -> None:
    watched = Watched(*pair)
    watched.looks(2)
    kept = pair[1].with_name("kept")
    pair[1].rename(kept)
    assert watched.looks(3) == [{"a.key"}], "so that its absence is logged"
    shutil.copy(kept, pair[1])
    assert watched.looks(3) == [{"a.key"}]
    watched.noticing.close()


def swap(link: Path, target: Path) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.rename(link)


def test_symbolic_links_that_lead_elsewhere_are_a_change(tmp_path: Path) -> None:
    """certbot's live/a/ has links into archive/a/; Kubernetes has a link to a folder, which both files are below."""
    for version in ("1", "2", "3"):
        (tmp_path / version).mkdir()
        for name in ("a.pem", "a.key"):
            (tmp_path / version / name).write_text("of one length")
    chain, key, folder = tmp_path / "a.pem", tmp_path / "a.key", tmp_path / "data"
    for link, target in ((chain, "1/a.pem"), (key, "1/a.key"), (folder, "1")):
        link.symlink_to(tmp_path / target)
    watched = Watched(chain, key, folder / "a.pem", folder / "a.key")
    watched.looks(2)
    swap(chain, tmp_path / "2/a.pem")
    swap(key, tmp_path / "2/a.key")
    assert watched.looks(3) == [{"a.pem", "a.key"}]
    swap(folder, tmp_path / "3")
    assert watched.looks(3) == [{"a.pem", "a.key"}]
    shutil.rmtree(tmp_path / "3")
    assert watched.looks(3) == [{"a.pem", "a.key"}], "so that their absence is logged"
    watched.noticing.close()


def test_nothing_is_kept_of_files_that_are_no_longer_in_use(pair: tuple[Path, Path]) -> None:
    watched = Watched(*pair)
    watched.looks(2)
    watched.paths = [pair[0]]
    watched.looks(1)
    assert repr(watched.noticing) == "<Noticing 1 files closing=False>"
    watched.paths = list(pair)
    assert watched.looks(2) == [{"a.key"}]
    watched.noticing.close()
    assert watched.looks(2) == []


def test_a_failure_to_take_is_tried_again(pair: tuple[Path, Path]) -> None:
    failures = iter([TimeoutError()])

    def take(_changed: frozenset[str]) -> None:
        for failure in failures:
            raise failure

    noticing = Noticing(lambda: map(str, pair), take, 3600.0)
    noticing.look()
    with pytest.raises(TimeoutError):
        noticing.look()
    noticing.look()
    assert next(failures, None) is None
    noticing.close()


def test_stamps_of_many_files_say_which_are_missing(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(BATCH + 2)]
    for path in paths[1:]:
        Path(path).touch()
    found = stamps(paths)
    assert found[paths[0]] == "No such file or directory"
    assert found[paths[-1]] == disk.stamp(paths[-1])
    assert len(found) == BATCH + 2


# --- in the server ----------------------------------------------------------------------------------------------------


def copy(pair: tuple[Path, Path], target: tuple[Path, Path]) -> None:
    for source, to in zip(pair, target, strict=True):
        shutil.copy(source, to)


def test_a_renewed_pair_comes_into_use_and_half_of_one_does_not(
    hub: HubThread, authority: Authority, tmp_path: Path
) -> None:
    pair = tmp_path / "a.pem", tmp_path / "a.key"
    copy(authority.pair("a.test"), pair)
    route = {"hostname": "a.test", "backend": "127.0.0.1:1", "mode": "l7",
             "tls_cert": str(pair[0]), "tls_key": str(pair[1])}  # fmt: skip
    path = write_config(tmp_path, {"listeners": [{"addr": ":1", "routes": [route]}]})
    app = hub.call(App, config.load(path), lambda _lines: None, None, None, path)
    in_table = app.worker.shared.live.table.listeners[":1"].routes["a.test"]

    def in_use() -> object:
        return hub.spawn(app.data.terminator.contexts.server, ":1", in_table).result(DEADLINE)

    before = in_use()
    contexts = app.data.terminator.contexts
    noticing = Noticing(contexts.files, app.reloader.take_changed, 3600.0)  # its thread sleeps: the test looks

    def looks() -> list[str]:
        with messages() as logged:
            for _ in range(4):
                noticing.look()
        return logged

    assert looks() == []
    other = authority.pair("b.a.test")
    shutil.copy(other[1], pair[1])
    (told,) = looks()
    assert told.startswith(f"error a.test: {pair[1]} is not the key of {pair[0]}")
    assert told.endswith("the certificate that was loaded stays in use")
    assert looks() == [], "once"
    assert in_use() is before
    pair[1].write_text(f"{authority.pair('a.test')[1].read_text()}\n")
    assert looks() == [f"info a.test: {pair[0]} has changed on disk and is in use"]
    noticing.close()
    assert in_use() is not before
    hub.spawn(app.stop).result(DEADLINE)


def test_its_thread_looks_by_itself(pair: tuple[Path, Path]) -> None:
    taken: list[frozenset[str]] = []
    noticing = Noticing(lambda: map(str, pair), taken.append, 0.01)
    until(lambda: taken, "the first files to be taken")
    noticing.close()
