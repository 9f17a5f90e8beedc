"""`make devserver`: a busy port is a sentence with its remedy, and Ctrl-C ends everything clean at any moment."""

import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.peers import client_hello, connect, free_port, until
from tests.kit.program import ROOT, Program, environment

BACKENDS = (998, 999, 1001)  # so much higher than the proxy's port are theirs, in devserver.py


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The program in a tree of its own, where it makes srv/."""
    folder = tmp_path / "deploy" / "dev"
    folder.mkdir(parents=True)
    return Path(shutil.copy(ROOT / "deploy" / "dev" / "devserver.py", folder))


@pytest.fixture
def devserver(script: Path) -> Iterator[tuple[Program, int]]:
    port = free_port(beside=BACKENDS)
    command: list[str | Path] = [
        "env",
        "--block-signal=INT",
        sys.executable,
        script,
        str(port),
    ]  # as the Makefile has it
    with Program(*command, env=environment()) as program:
        yield program, port
        with suppress(ProcessLookupError):
            program.signal(signal.SIGTERM)  # of which the proxy, in another process group, must hear
        program.wait()


def test_it_serves_until_it_is_interrupted(devserver: tuple[Program, int]) -> None:
    program, port = devserver
    program.line("started, generation 1")
    with connect(port) as client:
        client.sendall(client_hello("unknown.test"))
        program.line("verdict=refused")
    program.signal(signal.SIGINT)
    assert program.wait() == 0
    assert program.err == []
    assert program.out[-1].endswith("stopped\n")
    with pytest.raises(ConnectionRefusedError):
        connect(port)


@pytest.mark.parametrize("moment", ["at once", "while it makes certificates", "while the proxy starts"])
def test_an_interrupt_before_it_serves_is_clean(moment: str, devserver: tuple[Program, int], tmp_path: Path) -> None:
    program, port = devserver
    if moment == "while it makes certificates":
        until((tmp_path / "srv").exists, "its folder")
    elif moment == "while the proxy starts":
        program.line("Ctrl-C ends it")
    program.signal(signal.SIGINT)
    assert program.wait() in (0, 130, -signal.SIGINT), "the last one is that of env"
    assert program.err == []
    with pytest.raises(ConnectionRefusedError):
        connect(port)


@pytest.mark.parametrize("offset", [0, *BACKENDS])
def test_a_busy_port_is_a_sentence_with_the_remedy(offset: int, script: Path) -> None:
    port = free_port(beside=BACKENDS)
    with socket.create_server(("127.0.0.1", port + offset)):
        with Program(sys.executable, script, str(port), env=environment()) as program:
            assert program.wait() == 1
        (line,) = program.err
        assert line == (
            f"devserver: can't listen on 127.0.0.1:{port + offset}: another program listens there; end it, or take "
            "other ports: make devserver PORT=18443\n"
        )
        assert program.out == []


@pytest.mark.parametrize("text", ["x", "80", "65000", "-1"])
def test_a_port_that_can_not_be_used(text: str, script: Path) -> None:
    with Program(sys.executable, script, text, env=environment()) as program:
        assert program.wait() == 1
    assert program.err == [f"devserver: PORT={text} is not a number from 1024 to 64534\n"]
