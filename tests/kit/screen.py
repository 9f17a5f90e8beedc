"""A terminal that shows what commands print on it."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading

from tests.kit.peers import DEADLINE


class Terminal:
    """Give `descriptor` to a command as its outputs; `close` says what it showed, without colours."""

    def __init__(self, columns: int = 200) -> None:
        self._controller, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._controller, 65536):
                self._shown += data
        except OSError:
            return  # EIO: the last one that had the terminal has ended

    @property
    def shown(self) -> str:
        """What was shown so far."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self._shown.decode(errors="replace").replace("\r\n", "\n"))

    def type(self, keys: bytes) -> None:
        """Press some keys."""
        os.write(self._controller, keys)

    def close(self) -> str:
        """All that was shown, when all who have the terminal have ended."""
        os.close(self.descriptor)
        self._reader.join(DEADLINE)
        os.close(self._controller)
        return self.shown
