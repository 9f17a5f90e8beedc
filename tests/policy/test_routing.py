"""A name finds its own route or none."""

import pytest

from mcproxy.model import Backend, Reason, Refused, Route
from mcproxy.policy.routing import find

ROUTES = {name: Route(name, Backend("127.0.0.1", port)) for port, name in enumerate(["a.example", "b.a.example"], 1)}


def test_exact_name() -> None:
    assert [find(ROUTES, name) for name in ROUTES] == list(ROUTES.values())


@pytest.mark.parametrize(
    "name", ["example", "x.a.example", "a.example.", "A.EXAMPLE", "*.a.example", "a.exampl", "aa.example", "*"]
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        find(ROUTES, name)
    assert caught.value.reason is Reason.ROUTE_UNKNOWN
    assert caught.value.detail == f"no route for {name} on this listener"
