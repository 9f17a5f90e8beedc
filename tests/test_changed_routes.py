"""Routes after many changes are what a dictionary would be."""

import pickle
import random
from collections import Counter
from collections.abc import Mapping

import pytest

from mcproxy.changed_routes import FEW, ChangedRoutes, changed_routes
from mcproxy.model import Backend, Route


def route(hostname: str, port: int = 3000) -> Route:
    return Route(hostname, Backend("127.0.0.1", port))


def test_many_routes_that_change_are_what_a_dictionary_would_be() -> None:
    chance = random.Random(1)
    model = {name: route(name) for name in map(str, range(FEW + 1))}
    routes: Mapping[str, Route] = dict(model)
    kinds = Counter[type]()
    for number in range(3 * FEW):
        name = str(chance.randrange(2 * FEW))
        new = route(name, 1 + number) if chance.random() < 0.7 else None
        routes = changed_routes(routes, {name: new})
        if new is None:
            model.pop(name, None)
        else:
            model[name] = new
        kinds[type(routes)] += 1
        assert len(routes) == len(model)
        assert (routes.get(name), name in routes) == (new, new is not None)
    assert dict(routes) == model == routes
    assert set(routes) == set(routes.keys()) == set(model)
    assert dict(routes.items()) == model
    assert {each.hostname for each in routes.values()} == set(model)
    assert 0 < kinds[dict] <= 3, "they are copied once for many changes"
    changed = changed_routes(routes, {"new": route("new"), "0": None})
    assert isinstance(changed, ChangedRoutes)
    with pytest.raises(KeyError):
        changed["0"]
    assert repr(changed).endswith(f"changed={len(changed.changed)}>")
    assert type(pickle.loads(pickle.dumps(changed))) is dict
    assert pickle.loads(pickle.dumps(changed)) == changed


def test_few_routes_or_many_changes_are_one_dictionary() -> None:
    few = {"a": route("a")}
    assert type(changed_routes(few, {"b": route("b")})) is dict
    many = {name: route(name) for name in map(str, range(FEW + 2))}
    changes = {f"new{name}": value for name, value in many.items()}
    assert changed_routes(many, changes) == {**many, **changes}
    assert type(changed_routes(many, changes)) is dict
