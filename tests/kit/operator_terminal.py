"""A person at a terminal: commands in a process of their own that has one, and what is typed when they ask."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

from tests.kit.peers import DEADLINE
from tests.kit.program import environment

PROMPT = b"[y/N]: "
SIZE = struct.pack("HHHH", 24, 80, 0, 0)  # lines, columns


def at_terminal(
    config: Path,
    *arguments: object,
    answer: str = "",
    before_answer: Callable[[], None] = lambda: None,
    piped: bool = False,
) -> tuple[int, str]:
    """A command's exit status and its screen; `answer` is typed once it asks, "" being nothing but return.

    With `piped` its standard output is a pipe, and not on the screen.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, SIZE)
    command = [sys.executable, "-m", "mcproxy", *map(str, arguments), "-c", str(config)]
    out = subprocess.DEVNULL if piped else terminal
    process = subprocess.Popen(
        command, stdin=terminal, stdout=out, stderr=terminal, env=environment(TERM="dumb"), start_new_session=True
    )
    os.close(terminal)
    deadline = threading.Timer(DEADLINE, process.kill)
    deadline.start()
    screen, asked = b"", 0
    try:
        while data := os.read(controller, 4096):
            screen += data
            if screen.count(PROMPT) > asked:
                asked += 1
                before_answer()
                os.write(controller, f"{answer}\n".encode())
    except OSError:
        pass  # EIO: the last one that had the terminal has ended
    finally:
        os.close(controller)
        status = process.wait()
        deadline.cancel()
    return status, screen.decode().replace("\r\n", "\n")
