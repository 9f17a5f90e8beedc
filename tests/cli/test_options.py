import subprocess
import sys
from pathlib import Path

import click
import pytest

from mcproxy.cli import options
from mcproxy.cli.options import fail, find_config, load_config


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(options.ENVIRONMENT, raising=False)
    return tmp_path


def test_the_file_that_is_given_comes_first(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "mcproxy.toml").touch()
    monkeypatch.setenv(options.ENVIRONMENT, "/from/the/environment")
    assert find_config(Path("/given")) == Path("/given")
    assert find_config(None) == Path("/from/the/environment")


def test_then_the_usual_places_in_their_order(elsewhere: Path) -> None:
    (elsewhere / "mcproxy.toml").touch()
    assert find_config(None) == Path("mcproxy.toml")
    assert options.PLACES == ("./mcproxy.toml", "/srv/mcproxy/mcproxy.toml", "/etc/mcproxy/mcproxy.toml")


def test_no_file_at_all_is_wrong_usage_and_says_where_it_was_looked_for(elsewhere: Path) -> None:
    places = ("./mcproxy.toml", str(elsewhere / "srv.toml"), str(elsewhere / "etc.toml"))
    with pytest.raises(click.UsageError, match="give -c FILE, set MCPROXY_CONFIG") as caught:
        find_config(None, places)
    assert caught.value.exit_code == 2
    assert caught.value.message.endswith(f"or create one of {', '.join(places)}")
    Path(places[2]).touch()
    assert find_config(None, places) == Path(places[2])


def test_a_bad_file_ends_the_program_with_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[database]\npath = ""\n[proxy]\nworkers = 0\n')
    with pytest.raises(SystemExit) as caught:
        load_config(path)
    assert caught.value.code == options.INVALID
    told = capsys.readouterr().err
    assert "database.path" in told
    assert "proxy.workers" in told


def test_the_exit_statuses_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert (options.FAILED, options.INVALID, options.UNREACHABLE) == (1, 2, 3)
    with pytest.raises(SystemExit) as caught:
        fail("it did not work")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "it did not work\n"


INTERRUPTED_BETWEEN_TWO_LINES = """
import os, signal, threading
from {module} import {block}

def release():
    state = condition._lock._release_save()
    os.kill(os.getpid(), signal.SIGINT)
    return state

condition = threading.Condition()
condition._release_save = release
with {block}(), condition:
    condition.wait()
"""


@pytest.mark.parametrize(
    ("module", "block", "status"), [("mcproxy.cli.options", "until_interrupted", 0), ("contextlib", "ExitStack", 1)]
)
def test_an_interruption_in_the_midst_of_a_library_is_no_fault(module: str, block: str, status: int) -> None:
    """The second row shows what KeyboardInterrupt does there: a RuntimeError, as grpc's waits would end."""
    program = INTERRUPTED_BETWEEN_TWO_LINES.format(module=module, block=block)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, "cannot release un-acquired lock" in ended.stderr) == (status, status == 1)
