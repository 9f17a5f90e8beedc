"""Asks backends what they speak: only when that is asked for, because it takes time and connects to them."""

from typing import NamedTuple

from mcproxy.check.found import Found, warning
from mcproxy.check.loaded import Loaded
from mcproxy.look.alone import look_at_all
from mcproxy.model import Mode


class Heard(NamedTuple):
    """The result of a look at one backend."""

    place: str  # of the route's backend, in the file or the database
    said: str  # what the backend speaks; "" if it can't be used
    found: Found | None  # a backend may be down now and up later: a warning


def look_at_backends(loaded: Loaded) -> list[Heard]:
    """Connect to the backend of each l7 route, for no client. Returns one result for each, in their order."""
    routes = [
        (addr, route)
        for addr, listener in loaded.table.listeners.items()
        for route in listener.routes.values()
        if route.mode is Mode.L7
    ]
    heard = []
    for (addr, route), step in zip(routes, look_at_all(route for _, route in routes), strict=True):
        place = loaded.route(addr, route.hostname, "backend")
        said = f"{route.backend} speaks {step.detail}" if step.passed else ""
        heard.append(Heard(place, said, None if step.passed else warning(place, step.detail)))
    return heard
