"""What backends speak, as it is remembered, doubted and looked at again."""

from collections.abc import Iterator
from dataclasses import replace

import gevent
import pytest
from gevent.event import Event

from mcproxy.l7.sockets.backends import MAX_ROUTES, Backends
from mcproxy.l7.sockets.probe import Answer
from mcproxy.model import Backend, BackendProtocol, Listener, Mode, Reason, Refused, Route
from mcproxy.table import Live, Table
from tests.kit.hub import pass_rounds

pytestmark = pytest.mark.usefixtures("main_hub", "nothing_left")

ROUTE = Route("a.test", Backend("127.0.0.1", 9), Mode.L7, "a.pem", "a.key")
KEY = (":443", "a.test")
H2, HTTP1 = Answer("h2", "SETTINGS"), Answer("http/1.1", "closed")


class Looks:
    """Looks that find what the test says, and wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self.answer: Answer | Exception = H2
        self.gate = Event()
        self.gate.set()
        self.backends = Backends(Live(Table()))

    def look(self, _route: Route) -> Answer:
        self.count += 1
        self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def find(self, route: Route = ROUTE) -> str:
        """As a session does."""
        return self.backends.find(KEY, route, self.look, gevent.spawn)

    def version(self) -> str:
        """What is remembered, without a look."""
        spoken = self.backends.spoken(KEY, ROUTE)
        return spoken.version if spoken is not None else ""


@pytest.fixture
def looks() -> Iterator[Looks]:
    made = Looks()
    yield made
    made.gate.set()
    gevent.sleep(0)


def test_it_is_found_once_and_remembered(looks: Looks) -> None:
    assert (looks.version(), looks.backends.last(KEY, ROUTE)) == ("", "http/1.1")
    assert [looks.find(), looks.find()] == ["h2", "h2"]
    assert (looks.count, looks.version(), looks.backends.last(KEY, ROUTE)) == (1, "h2", "h2")
    spoken = looks.backends.spoken(KEY, ROUTE)
    assert spoken
    assert (spoken.how, spoken.at > 0, repr(looks.backends)) == ("SETTINGS", True, "<Backends routes=1>")


def test_all_that_ask_meanwhile_wait_for_one_look(looks: Looks) -> None:
    looks.gate.clear()
    asking = [gevent.spawn(looks.find) for _ in range(3)]
    pass_rounds()
    assert (looks.count, [each.ready() for each in asking]) == (1, [False] * 3)
    looks.gate.set()
    gevent.joinall(asking)
    assert [each.get() for each in asking] == ["h2"] * 3


def test_a_look_does_not_end_with_the_session_that_began_it(looks: Looks) -> None:
    looks.gate.clear()
    first, second = gevent.spawn(looks.find), gevent.spawn(looks.find)
    pass_rounds()
    first.kill()
    looks.gate.set()
    assert (second.get(), looks.count) == ("h2", 1)


def test_what_is_doubted_is_looked_at_again_and_holds_until_then(looks: Looks) -> None:
    looks.find()
    looks.backends.doubt(KEY, ROUTE)
    assert looks.version() == "h2"
    looks.answer = HTTP1
    assert (looks.find(), looks.find(), looks.count) == ("http/1.1", "http/1.1", 2)


def test_nothing_can_be_doubted_that_is_unknown(looks: Looks) -> None:
    looks.backends.doubt(KEY, ROUTE)
    assert looks.version() == ""


def test_a_backend_that_is_away_stays_what_it_was(looks: Looks) -> None:
    looks.find()
    looks.backends.doubt(KEY, ROUTE)
    looks.answer = Refused(Reason.BACKEND_REFUSED, "no")
    for count in (2, 3):  # each that asks looks again
        with pytest.raises(Refused, match="no"):
            looks.find()
        assert (looks.count, looks.version()) == (count, "h2")
    looks.answer = HTTP1
    assert looks.find() == "http/1.1"


def test_a_connection_may_say_it(looks: Looks) -> None:
    looks.find()
    looks.backends.doubt(KEY, ROUTE)
    looks.backends.found(KEY, ROUTE, HTTP1)
    assert (looks.find(), looks.count) == ("http/1.1", 1)


@pytest.mark.parametrize(("wanted", "version"), [(BackendProtocol.H2, "h2"), (BackendProtocol.HTTP1, "http/1.1")])
def test_where_the_route_decides_nothing_is_looked_at(wanted: BackendProtocol, version: str, looks: Looks) -> None:
    route = replace(ROUTE, backend_protocol=wanted)
    looks.backends.found(KEY, route, Answer("h2", "ALPN"))
    looks.backends.doubt(KEY, route)
    assert (looks.find(route), looks.backends.last(KEY, route), looks.count) == (version, version, 0)
    assert looks.backends.spoken(KEY, route) is None


def test_a_route_that_changes_is_another_one(looks: Looks) -> None:
    looks.find()
    changed = replace(ROUTE, backend=Backend("127.0.0.1", 10))
    assert looks.backends.spoken(KEY, changed) is None
    looks.backends.doubt(KEY, changed)
    looks.answer = HTTP1
    assert (looks.find(changed), looks.count) == ("http/1.1", 2)
    assert looks.backends.spoken(KEY, ROUTE) is None


def test_routes_that_are_gone_are_forgotten() -> None:
    listener = Listener(":443")
    backends = Backends(Live(Table.build([(listener, [ROUTE])])))

    def note(name: str) -> None:
        backends.found((":443", name), replace(ROUTE, hostname=name), H2)

    note("a.test")
    for number in range(MAX_ROUTES):
        note(f"n{number}.test")
    assert repr(backends) == "<Backends routes=2>"
    assert backends.spoken(KEY, ROUTE)
