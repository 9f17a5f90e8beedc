"""Looks at the backend of a route that was added or changed, to find faults before clients do.

The route is in force either way. A backend may well be started after its route is made, so this only warns.
"""

from dataclasses import dataclass

from mcproxy.admin.plane import DataPlane
from mcproxy.messages import PlaneBusy
from mcproxy.model import Mode, Route

SECONDS = 2.0  # for the look: a person waits for the answer, and a backend's silence takes a second to be sure of


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look has found."""

    warnings: tuple[str, ...] = ()  # the faults that clients will find
    http: str = ""  # what an l7 backend speaks


def look(plane: DataPlane, route: Route) -> Seen:
    """Look at a route's backend."""
    try:
        found = plane.look(route, SECONDS)
    except PlaneBusy as error:
        return Seen((f"the backend was not looked at: {error}",))
    refused = "" if route.mode is Mode.L7 else "clients will be refused: "
    warnings = tuple(f"{refused}{step.detail}" for step in found.steps if not step.passed)
    last = found.steps[-1]
    return Seen(warnings, last.detail if last.passed and route.mode is Mode.L7 else "")
