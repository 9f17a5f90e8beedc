"""The pulse feels how late the hub is, and what hangs on it stops with the hub."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gevent.hub import get_hub

from mcproxy.net.pulse import PERIOD, Pulse
from mcproxy.notify import Notifier
from mcproxy.stats import LAGS, Histogram
from tests.kit.clock import Clock
from tests.kit.hub import HubThread, paused
from tests.kit.peers import until


@pytest.fixture
def clock() -> Iterator[Clock]:
    yield Clock(100.0)
    get_hub().destroy(destroy_loop=True)


def test_each_beat_tells_how_late_it_is(clock: Clock) -> None:
    lag = Histogram(LAGS)
    pulse = Pulse(lag, clock)
    pulse.start()
    for late in (0.0, 0.002, 3.0, -0.1):  # a timer may also come a little early, for its clock is the loop's
        clock.time += PERIOD + late
        pulse.beat()
    pulse.close()
    counts = dict(zip((*LAGS, "above"), lag.read().counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.001: 2, 0.0025: 1, 5.0: 1}


def test_jobs_run_at_their_interval(clock: Clock) -> None:
    pulse = Pulse(Histogram(LAGS), clock)
    often: list[float] = []
    seldom: list[float] = []
    pulse.every(PERIOD, lambda: often.append(clock.time))
    pulse.every(10.0, lambda: seldom.append(clock.time))
    pulse.start()
    for _ in range(41):
        clock.time += PERIOD
        pulse.beat()
    pulse.close()
    assert len(often) == 41
    assert seldom == [100.0 + PERIOD, 110.0 + PERIOD]


def test_it_beats_four_times_a_second_and_no_more() -> None:
    hub = HubThread()
    lag = Histogram(LAGS)

    def begin() -> Pulse:
        pulse = Pulse(lag)
        pulse.start()
        return pulse

    began = time.monotonic()
    pulse = hub.call(begin)
    until(lambda: sum(lag.read().counts) >= 3, "three beats")
    hub.call(pulse.close)
    most = (time.monotonic() - began) / PERIOD * 1.1 + 1  # the loop's clock and ours are read at different moments
    assert sum(lag.read().counts) <= most
    hub.close()


def test_a_hub_that_stands_still_feeds_no_watchdog(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        notifier = Notifier(manager.getsockname(), watchdog=0.3)
        hub = HubThread()
        lag = Histogram(LAGS)

        def begin() -> Pulse:
            pulse = Pulse(lag)
            pulse.every(notifier.interval, notifier.alive)
            pulse.start()
            return pulse

        pulse = hub.call(begin)
        assert manager.recv(100) == b"WATCHDOG=1"
        with paused(hub.door):
            manager.setblocking(False)
            try:
                while True:  # what was sent before it stood still
                    manager.recv(100)
            except BlockingIOError:
                beats = sum(lag.read().counts)
            manager.settimeout(3 * PERIOD)
            with pytest.raises(TimeoutError):
                manager.recv(100)
            assert sum(lag.read().counts) == beats
        manager.settimeout(20)
        assert manager.recv(100) == b"WATCHDOG=1"
        until(lambda: sum(lag.read().counts[LAGS.index(0.25) :]) > 0, "the lag to show")
        hub.call(pulse.close)
        hub.close()
        notifier.close()
