"""Looks at the backend of a route that was added or changed, to find faults before clients do.

The route is in force either way. A backend may well be started after its route is made, so this only warns.
"""

from collections.abc import Iterator

from mcproxy.admin.plane import DataPlane
from mcproxy.messages import PlaneBusy
from mcproxy.model import Mode, Route

SECONDS = 1.0  # for the look: a person waits for the answer


def warnings(plane: DataPlane, route: Route) -> Iterator[str]:
    """The faults that clients will find at the route's backend."""
    try:
        look = plane.look(route, SECONDS)
    except PlaneBusy as error:
        yield f"the backend was not looked at: {error}"
        return
    for step in look.steps:
        if not step.passed:
            yield step.detail if route.mode is Mode.L7 else f"clients will be refused: {step.detail}"
