"""Letters: pickled values over a stream socket, some with descriptors.

A letter is its length and the number of its descriptors, then the value. Descriptors travel with the first byte
(SCM_RIGHTS, unix(7)), so they are received with the head.
"""

import array
import os
import pickle
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

_HEAD = struct.Struct("!QB")
MAX_DESCRIPTORS = 80  # in one letter: a worker gets one for each of at most 64, and a few more


class ChannelClosed(Exception):
    """The other end is gone."""


class Letters:
    """One end of a channel. Any thread may send; one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock` is a blocking stream socket, which this takes over."""
        self._sock = sock
        self._sending = threading.Lock()

    def __repr__(self) -> str:
        return f"<Letters {self._sock.fileno()}>"

    def send(self, value: object, descriptors: Sequence[int] = ()) -> None:
        """Send a value, and duplicates of these descriptors. Raises ChannelClosed."""
        self.send_packed(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), descriptors)

    def send_packed(self, packed: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a value that is pickled already. Raises ChannelClosed."""
        head = _HEAD.pack(len(packed), len(descriptors))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            with self._sending:
                sent = self._sock.sendmsg([head, packed], rights)
                if sent < len(head) + len(packed):
                    self._sock.sendall((head + packed)[sent:])
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self) -> tuple[Any, list[int]]:
        """The next value and its descriptors, which are the caller's from now on. Raises ChannelClosed."""
        head, descriptors = self._receive_head()
        size, count = _HEAD.unpack(head)
        if len(descriptors) != count:
            for each in descriptors:
                os.close(each)
            raise ChannelClosed(f"{len(descriptors)} of {count} descriptors came: there are too few left")
        return pickle.loads(self._receive(size)), descriptors  # noqa: S301 - of our own program: see __init__.py

    def close(self) -> None:
        """End the channel: both ends see it, a thread that receives too."""
        with suppress(OSError):  # the other end was first
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _receive_head(self) -> tuple[bytes, list[int]]:
        try:
            head, descriptors, _flags, _address = socket.recv_fds(self._sock, _HEAD.size, MAX_DESCRIPTORS)
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        for each in descriptors:
            os.set_inheritable(each, False)
        if not head:
            raise ChannelClosed("end of stream")
        return head + self._receive(_HEAD.size - len(head)), descriptors

    def _receive(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self._sock.recv_into(view)
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not count:
                raise ChannelClosed("end of stream within a letter")
            view = view[count:]
        return bytes(data)
