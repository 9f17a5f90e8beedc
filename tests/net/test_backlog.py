"""The sum of what waits; what it is for is shown by tests/l7/sockets/test_drive.py."""

from mcproxy.net.backlog import MOST, Backlog


def test_it_is_full_beyond_its_bound() -> None:
    backlog = Backlog()
    seen = []
    for backlog.waiting in (0, MOST, MOST + 1, MOST):
        seen.append(backlog.is_full)
    assert seen == [False, False, True, False]
    assert repr(Backlog(9)) == "<Backlog 0 of 9>"
