"""Routing: the one place where a server name becomes a route.

Matching is exact, and both sides are normalised already (notation/name.py), so it is one look into a dictionary: no
wildcard, no default, nothing that a name could fall through to.
"""

from collections.abc import Mapping

from mcproxy.model import Reason, Refused, Route


def find(routes: Mapping[str, Route], server_name: str) -> Route:
    """The route of a normalised name. Raises Refused(ROUTE_UNKNOWN)."""
    route = routes.get(server_name)
    if route is None:
        raise Refused(Reason.ROUTE_UNKNOWN, f"no route for {server_name} on this listener")
    return route
