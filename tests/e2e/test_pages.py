"""The pages of docs/ that say what to type: every command runs, in its order, on hosts of their own."""

import re
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.kit import host
from tests.kit.pages import CLIENTS, NONE_REFUSED, Step, matches, steps
from tests.kit.peers import Authority
from tests.kit.program import ROOT

SERVER, CLIENT = "192.0.2.1", "192.0.2.2"  # of the hosts' own wire
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if steps(path.read_text()))


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short path: pytest's are too deep for UNIX sockets."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, folder: Path, page: Path) -> None:
        self._folder = folder
        self._page = page
        self._steps = steps(page.read_text())
        self._hosts: dict[str, host.Host] = {}
        self._visit: Future[tuple[int, str]] | None = None
        self._pool = ThreadPoolExecutor(1)
        self.failures: list[str] = []

    def read(self) -> None:
        """From top to bottom."""
        with ExitStack() as stack:
            stack.enter_context(self._pool)
            names = {step.host: step.host or "host" for step in self._steps}
            if any(step.command == CLIENTS for step in self._steps):
                names["clients"] = "clients"
            for key, name in names.items():
                self._hosts[key] = stack.enter_context(closing(host.Host(self._folder, name)))
            if "clients" in self._hosts:
                self._hosts[""].link(self._hosts["clients"], f"{SERVER}/24", f"{CLIENT}/24")
            for step in self._steps:
                self._do(step)

    def _do(self, step: Step) -> None:
        stop = self._folder / "stop"
        if step.is_file:
            self._hosts[step.host].write(step.command, step.text)
        elif step.command == CLIENTS:
            command = f"{sys.executable} -m tests.kit.visitors {SERVER} 443 git.example.org {stop}"
            self._visit = self._pool.submit(self._hosts["clients"].run, command)
        elif step.command == NONE_REFUSED:
            stop.touch()
            assert self._visit is not None
            _, told = self._visit.result()
            served = re.match(r"(\d+) of (\d+) served$", told.strip())
            if not served or served[1] != served[2] or int(served[1]) < 100:
                self.failures.append(f"{self._page.name}:{step.line}: {told}")
        else:
            _, shown = self._hosts[step.host].run(step.command)
            if not matches(step.text, shown):
                self.failures.append(f"{self._page.name}:{step.line}: $ {step.command}\n{shown}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_prints_what_the_page_says(page: Path, folder: Path) -> None:
    if not host.available():
        pytest.skip("needs root, and namespaces")
    authority = Authority(folder)
    for name in host.NAMES:
        authority.pair(f"{name}.example.org")
    reader = Reader(folder, page)
    reader.read()
    assert not reader.failures, "\n".join(reader.failures)


def test_the_readme_lists_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_there_are_pages() -> None:
    assert {page.stem for page in PAGES} >= {
        "certbot", "from-haproxy", "from-nginx", "from-sniproxy", "git", "journeys", "moving", "two-hosts",
    }  # fmt: skip
