"""The process that judges the configuration file: it gives what `config.load` gives, and leaves nothing behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcproxy import config, judging
from mcproxy.document import ConfigError
from mcproxy.judging import Judge

TEXT = """
[database]
path = "x.db"
[[listeners]]
addr = ":443"
  [[listeners.routes]]
  hostname = "a.test"
  backend = "unix:b.sock"
[grpc]
addr = "unix:a.sock"
[firewall]
blocked_ips = ["192.0.2.7"]
"""


def test_it_gives_the_values_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text(TEXT)
    assert judging.load(path) == config.load(path)


def test_it_gives_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "mcproxy.toml"
    path.write_text(TEXT.replace("a.test", "a..test").replace(":443", "443"))
    with pytest.raises(ConfigError) as here:
        config.load(path)
    with pytest.raises(ConfigError) as there:
        judging.load(path)
    assert (there.value.path, there.value.problems) == (path, here.value.problems)
    assert len(here.value.problems) == 2


@pytest.fixture
def connected() -> Iterator[tuple[Path, int]]:
    """A file as a shell connects it, and where to write what it holds."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    try:
        yield Path(f"/dev/fd/{read}"), write
    finally:
        os.close(read)
        os.close(write)


def test_it_reads_what_a_shell_has_connected(connected: tuple[Path, int]) -> None:
    path, write = connected
    with Judge(path) as judge:
        os.write(write, b'[database]\npath = "/x.db"\n')
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), write)  # the pipe ends
        assert judge.config().database.path == "/x.db"


def test_it_ends_with_the_start_that_no_longer_waits(connected: tuple[Path, int]) -> None:
    path, _ = connected  # which nobody writes to
    with Judge(path) as judge:
        pid = judge.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_dies_is_a_problem_of_the_file(connected: tuple[Path, int]) -> None:
    path, _ = connected
    with Judge(path) as judge:
        os.kill(judge.pid, signal.SIGKILL)
        with pytest.raises(ConfigError, match="the process that reads it died"):
            judge.config()
