"""A worker's desk: each request has an answer, and events are reported while somebody watches."""

from mcproxy import messages
from mcproxy.desk import Reporter
from mcproxy.messages import ConnectionEvent, EventKind, Request
from mcproxy.model import Backend, Connection, End, Mode, Reason
from tests.conftest import MakeProxy, listener

CONNECTION = Connection(
    7, 1000.0, 2.5, ":443", ("2001:db8::1", 5), "a.b", (), (), False, "a.b", "l4", Backend("127.0.0.1", 1),
    Reason.OK, "", 10, 20, End.CLOSED,
)  # fmt: skip


def test_each_request_has_an_answer(proxy: MakeProxy) -> None:
    """A request that nobody answers would only be found when an operator asks it."""
    desk = proxy({"listeners": [listener({})]}).app.data.desk
    asked = {each for each in vars(messages).values() if isinstance(each, type) and issubclass(each, Request)}
    assert asked - {Request} == set(desk.requests)


def test_events_are_reported_while_somebody_watches() -> None:
    events: list[ConnectionEvent] = []
    reporter = Reporter(events.append)
    reporter.ended(CONNECTION)
    reporter.watched = True
    reporter.ended(CONNECTION)
    reporter.ended(CONNECTION._replace(end=End.REFUSED, reason=Reason.SNI_MISSING, mode="", backend=None))
    reporter.watched = False
    reporter.ended(CONNECTION)
    closed, refused = events
    assert (closed.kind, closed.at, closed.connection.client) == (EventKind.CLOSED, 1002.5, "[2001:db8::1]:5")
    assert (closed.connection.received, closed.connection.sent, closed.connection.mode) == (10, 20, Mode.L4)
    assert (refused.kind, refused.reason, refused.connection.backend) == (EventKind.REFUSED, "sni_missing", "")
    assert refused.connection.mode is None
