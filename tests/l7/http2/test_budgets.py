import pytest

from mcproxy.l7.http2.budgets import PERIOD, RESETS, Budget, Meter
from mcproxy.wire.http2 import ConnectionFault, ErrorCode


def test_a_meter_allows_its_limit_in_each_period() -> None:
    meter = Meter(3, "things", now=5.0)
    for _ in range(3):
        assert not meter.spend(6.0)
    assert meter.spend(5.0 + PERIOD), "a new period"
    assert not meter.spend(6.0 + PERIOD)
    assert not meter.spend(6.0 + PERIOD)
    with pytest.raises(ConnectionFault, match="things") as fault:
        meter.spend(7.0 + PERIOD)
    assert fault.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert repr(meter) == "<Meter things 4 of 3>"


def test_an_allowance_widens_it() -> None:
    meter = Meter(1, "things", now=0.0)
    for _ in range(6):
        meter.spend(1.0, allowance=5)
    with pytest.raises(ConnectionFault):
        meter.spend(1.0, allowance=5)


def test_completed_exchanges_pay_for_resets_of_the_same_period_only() -> None:
    budget = Budget(now=0.0)
    budget.work, budget.done = 7, 3
    for _ in range(RESETS + 3):
        budget.spend_reset(1.0)
    with pytest.raises(ConnectionFault, match="ended early"):
        budget.spend_reset(1.0)
    budget.renew(PERIOD)
    assert repr(budget) == f"<Budget 0 of work, 0 done, <Meter streams ended early 0 of {RESETS}>>"
    for _ in range(RESETS):
        budget.spend_reset(PERIOD)
    with pytest.raises(ConnectionFault):
        budget.spend_reset(PERIOD)
