"""Being a service manager: a notification socket, and listening sockets that are left to the program."""

import json
import queue
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.kit.peers import DEADLINE, until
from tests.kit.program import Program, environment, write_config

# What systemd does between fork and exec: the sockets from descriptor 3 on, and a word on whose they are.
_LAUNCH = """
import fcntl, json, os, sys
descriptors, command = json.loads(sys.argv[1]), sys.argv[2:]
# Above those that they are to have in the end, so that none is overwritten before it is copied.
kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100) for descriptor in descriptors]
for i, descriptor in enumerate(kept):
    os.dup2(descriptor, 3 + i, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(kept)), LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""


class Manager:
    """Hears what the program says of itself: at once, for the kernel keeps ten messages, and drops what comes then."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._said: queue.Queue[str] = queue.Queue()
        self.heard: list[str] = []  # by the test so far
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._listener.join(DEADLINE)
        self._socket.close()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self._said.put(message.decode())

    def hear(self, start: str) -> str:
        """Wait for a message that begins so, and has not been heard; others may come meanwhile, for ever."""
        until(lambda: self._hears(start), f"{start} behind {self.heard[-10:]}")
        return self.heard[-1]

    def _hears(self, start: str) -> bool:
        with suppress(queue.Empty):
            while True:
                self.heard.append(self._said.get_nowait())
                if self.heard[-1].startswith(start):
                    return True
        return False


class Activated(Program):
    """`mcproxy server`, with these sockets left to it."""

    def __init__(self, folder: Path, document: dict[str, Any], sockets: list[socket.socket], **env: str) -> None:
        path = write_config(folder, document)
        descriptors = [sock.fileno() for sock in sockets]
        command = [sys.executable, "-m", "mcproxy", "server", "-c", str(path)]
        launch = [sys.executable, "-c", _LAUNCH, json.dumps(descriptors)]
        super().__init__(*launch, *command, env=environment(**env), pass_fds=descriptors)
