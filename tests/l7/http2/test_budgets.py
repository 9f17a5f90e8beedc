import pytest

from mcproxy.l7.http2.budgets import Budget
from mcproxy.l7.meters import PERIOD, Loop
from mcproxy.wire.http2 import ConnectionFault


def test_completed_exchanges_pay_for_resets_of_the_same_period_only() -> None:
    budget = Budget(now=0.0)
    budget.work, budget.done = 7, 3
    for _ in range(Loop.RESETS.limit + 3):
        budget.spend_reset(1.0)
    with pytest.raises(ConnectionFault, match="ended early"):
        budget.spend_reset(1.0)
    budget.renew(PERIOD)
    assert repr(budget) == f"<Budget 0 of work, 0 done, <Meter streams ended early 0 of {Loop.RESETS.limit}>>"
    for _ in range(Loop.RESETS.limit):
        budget.spend_reset(PERIOD)
    with pytest.raises(ConnectionFault):
        budget.spend_reset(PERIOD)
