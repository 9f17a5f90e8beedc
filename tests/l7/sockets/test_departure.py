"""The end of a client's connection; what a drive makes of it is in test_drive.py."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from mcproxy.l7.core import Ending, How
from mcproxy.l7.sockets.departure import PATIENCE, State
from mcproxy.model import End
from tests.kit.drive_stage import Stage
from tests.kit.hub import pass_rounds

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")


def test_a_client_that_stays_is_left_when_its_time_is_over(stage: Callable[..., Stage]) -> None:
    on = stage()
    departure = on.drive._departure
    assert departure.overdue(0.0) is None, "the session's deadlines are its own before its end"
    on.core.react = lambda _what: setattr(on.core, "ending", Ending(end=End.ABUSE))
    on.client.sendall(b"a")
    on.until(lambda: departure.state is State.LINGERING)
    assert repr(on.drive).startswith("<Drive <Departure lingering ")
    pass_rounds()
    assert not on.end
    assert on.drive.overdue(on.sweeper.now() + PATIENCE.linger) is None
    on.until(lambda: on.end)
    assert on.end is End.ABUSE
    assert repr(departure).startswith("<Departure over ")


def test_bytes_that_wait_are_sent_first_and_a_reset_waits_for_them(stage: Callable[..., Stage]) -> None:
    on = stage()

    def break_off(_what: object) -> None:
        on.core.to_client = bytes(4 << 20)
        on.core.ending = Ending(How.RST, End.BACKEND_RESET)

    on.core.react = break_off
    on.client.sendall(b"a")
    on.until(lambda: on.core.ending)
    pass_rounds()
    assert on.drive._departure.state is State.SENDING
    on.client.setblocking(False)
    got = 0

    def read() -> bool:
        nonlocal got
        with suppress(BlockingIOError):
            got += len(on.client.recv(1 << 20))
        return got == 4 << 20

    on.until(read)
    on.until(lambda: on.end)
    assert on.end is End.BACKEND_RESET
