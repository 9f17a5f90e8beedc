"""Jobs at their intervals, by a clock that the test winds."""

from mcproxy.net.jobs import Jobs


def test_each_runs_at_its_own_interval() -> None:
    jobs, ran = Jobs(), list[str]()
    jobs.every(2.0, lambda: ran.append("two"))
    jobs.every(0.0, lambda: ran.append("always"))
    for now in (10.0, 11.0, 12.5, 14.0, 14.5):
        jobs.step(now)
        ran.append("|")
    assert " ".join(ran) == "two always | always | two always | always | two always |"
    assert repr(jobs) == "<Jobs 2>"
