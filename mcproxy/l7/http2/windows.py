"""Flow control of one client connection (RFC 9113, section 5.2). Each stream has its own two windows beside these."""

from collections.abc import Iterable

from mcproxy.l7.http2.stream import Stream
from mcproxy.wire.http2 import DEFAULT_WINDOW, MAX_WINDOW, ConnectionFault, ErrorCode


class Windows:
    """Bytes of DATA that may still be sent on the connection, and the windows that new streams begin with."""

    __slots__ = ("down", "down_initial", "held_bytes", "up", "up_initial")

    def __init__(self) -> None:
        self.up = DEFAULT_WINDOW  # by the client
        self.down = DEFAULT_WINDOW  # to the client
        self.up_initial = DEFAULT_WINDOW
        self.down_initial = DEFAULT_WINDOW
        self.held_bytes = 0  # of all streams' `held`, with their overhead

    def __repr__(self) -> str:
        return f"<Windows up {self.up} down {self.down}, {self.held_bytes} held>"

    def set_down_initial(self, value: int, streams: Iterable[Stream]) -> None:
        """The client's SETTINGS_INITIAL_WINDOW_SIZE (section 6.9.2). Raises ConnectionFault."""
        delta = value - self.down_initial
        self.down_initial = value
        for stream in streams:
            stream.down_window += delta
            if stream.down_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE overflows a window")

    def set_up_initial(self, value: int, streams: Iterable[Stream]) -> None:
        """Ours, once it is in force."""
        delta = value - self.up_initial
        self.up_initial = value
        for stream in streams:
            stream.up_window += delta
