import pytest

from mcproxy.l7.http2.stream import Stream, StreamState
from mcproxy.l7.http2.windows import Windows
from mcproxy.wire.fields import NO_REQUEST
from mcproxy.wire.http2 import DEFAULT_WINDOW, MAX_WINDOW, ConnectionFault, ErrorCode


def test_initial_windows_move_those_of_open_streams_even_below_zero() -> None:
    windows = Windows()
    stream = Stream(1, StreamState.OPEN, NO_REQUEST, 0.0, 10, 20)
    windows.set_up_initial(DEFAULT_WINDOW - 15, [stream])
    windows.set_down_initial(DEFAULT_WINDOW + 5, [stream])
    assert (stream.up_window, stream.down_window) == (-5, 25)
    assert (windows.up_initial, windows.down_initial) == (DEFAULT_WINDOW - 15, DEFAULT_WINDOW + 5)
    assert (windows.up, windows.down) == (DEFAULT_WINDOW, DEFAULT_WINDOW), "section 6.9.2: the connection's don't move"
    assert repr(windows) == "<Windows up 65535 down 65535, 0 held>"


def test_an_initial_window_that_overflows_one_is_the_clients_fault() -> None:
    stream = Stream(1, StreamState.OPEN, NO_REQUEST, 0.0, 0, DEFAULT_WINDOW + 1)
    with pytest.raises(ConnectionFault) as fault:
        Windows().set_down_initial(MAX_WINDOW, [stream])
    assert fault.value.code is ErrorCode.FLOW_CONTROL_ERROR
