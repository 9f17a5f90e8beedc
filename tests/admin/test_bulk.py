from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from mcproxy.admin import bulk
from mcproxy.admin.errors import InvalidField, InvalidFields, Refusal, TooMany
from mcproxy.admin.paging import PAGE
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import is_temporary, table_values
from mcproxy.model import FirewallRule, Listener, RuleKind
from mcproxy.table import Table
from tests.kit.apply_requests import request
from tests.kit.control_plane import route
from tests.kit.tables import tables

LISTENER = pb.Listener(addr=":443")
ROUTE = pb.ListedRoute(listener=":443", route=pb.Route(hostname="a.example.org", backend="127.0.0.1:1"))


def problems(*parts: pb.Values) -> list[str]:
    with pytest.raises(InvalidFields) as caught:
        bulk.received(request(*parts))
    return str(caught.value).splitlines()


@settings(deadline=None)
@given(tables())
def test_what_is_exported_can_be_applied(table: Table) -> None:
    permanent = {key: value for key, value in table_values(table).items() if not is_temporary(value)}
    parts = [
        pb.Values(listeners=each.listeners, routes=each.routes, rules=[r for r in each.rules if not r.expires_at])
        for each in bulk.exported(table)
    ]
    assert bulk.received(request(*parts)).values == permanent


def test_everything_is_exported_in_pages() -> None:
    routes = [route(f"r{i}.example.org") for i in range(2 * PAGE + 1)]
    rules = [FirewallRule(RuleKind.IP, "192.0.2.1"), FirewallRule(RuleKind.IP, "192.0.2.2", 5.0)]
    parts = list(bulk.exported(Table.build([(Listener(":443"), routes)], rules)))
    assert [len(each.routes) for each in parts] == [0, PAGE, PAGE, 1, 0]
    assert [each.expires_at for each in parts[-1].rules] == [0.0, 5.0]


def test_an_empty_table_is_exported_as_one_empty_part() -> None:
    assert list(bulk.exported(Table())) == [pb.Values()]


EXAMPLE = 'a host name, such as "www.example.org"'


def test_every_problem_is_found_with_its_place() -> None:
    bad = pb.ListedRoute(listener=":443", route=pb.Route(hostname="-", backend="127.0.0.1:1"))
    elsewhere = pb.ListedRoute(listener=":444", route=ROUTE.route)
    assert problems(
        pb.Values(listeners=[LISTENER, pb.Listener(addr="443")], routes=[ROUTE, bad]),
        pb.Values(routes=[ROUTE, elsewhere, pb.ListedRoute(route=ROUTE.route)]),
        pb.Values(
            rules=[
                pb.FirewallRule(value="192.0.2.1"),
                pb.FirewallRule(kind=pb.RULE_KIND_IP, value="192.0.2.1", expires_at=5.0),
                pb.FirewallRule(kind=pb.RULE_KIND_COUNTRY, value="UK"),
            ]
        ),
    ) == [
        'listeners[1].addr: "443" has no colon; write ":443"',
        'routes[1].hostname: "-" has a label that begins or ends with a hyphen; write ' + EXAMPLE,
        "routes[2]: the route a.example.org on :443 is also routes[0]",
        'routes[3].listener: there is no listener ":444" before it in the request',
        'routes[4].listener: there is no listener "" before it in the request',
        "rules[0].kind: must be ip, cidr or country",
        "rules[1].expires_at: only permanent rules can be applied: add this one with AddFirewallRule",
        'rules[2].value: "UK" is not assigned in ISO 3166-1; did you mean "GB"?',
    ]


def test_problems_of_fields_together_have_the_place_of_the_value() -> None:
    l7 = pb.Route(hostname="a.example.org", backend="127.0.0.1:1", mode=pb.MODE_L7)
    (problem,) = problems(pb.Values(listeners=[LISTENER], routes=[pb.ListedRoute(listener=":443", route=l7)]))
    assert problem.startswith('routes[0]: mode = "l7"')


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_request_that_was_cut_short_is_refused(count: int) -> None:
    """A client that dies may end the stream as one that is done does; with prune, the rest would be removed."""
    with pytest.raises(InvalidField, match=rf"{count} values were announced and 2 came"):
        bulk.received(request(pb.Values(listeners=[LISTENER], routes=[ROUTE]), count=count))


@pytest.mark.parametrize("messages", [[], [pb.ApplyRequest(values=pb.Values(listeners=[LISTENER]))]])
def test_a_request_begins_with_its_options(messages: list[pb.ApplyRequest]) -> None:
    with pytest.raises(Refusal, match="options: are required"):
        bulk.received(messages)


def test_a_request_has_a_bound() -> None:
    rule = pb.FirewallRule(kind=pb.RULE_KIND_COUNTRY, value="AQ")
    page = pb.Values(rules=[rule] * 1000)
    taken = 0

    def messages() -> Iterator[pb.ApplyRequest]:
        nonlocal taken
        yield pb.ApplyRequest(options=pb.ApplyOptions(values=1 << 31))
        while True:
            taken += 1000
            yield pb.ApplyRequest(values=page)

    with pytest.raises(TooMany, match="at most 250000 values and 64 MiB"):
        bulk.received(messages())
    assert taken <= bulk.MAX_VALUES + 1000
