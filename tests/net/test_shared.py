"""The shared state knows countries only with a database, and keeps descriptors in reserve."""

import resource

from mcproxy.model import Timeouts
from mcproxy.net.shared import RESERVED_DESCRIPTORS, Shared
from mcproxy.policy.limits import Limits
from mcproxy.table import Live, Table
from tests.kit.hub import HubThread


class Everywhere:
    """A database in which every address is in one country."""

    def country(self, packed: bytes) -> str:
        return "DE"


def test_countries_and_descriptors(hub: HubThread) -> None:
    def make() -> Shared:
        shared = Shared(Live(Table()), Limits(0, 0, 0, 0), Timeouts(1, 1, 1, 1), lambda _connection: None)
        shared.sweeper.close()
        return shared

    shared = hub.call(make)
    assert shared.country(bytes(4)) is None
    shared.geoip = Everywhere()  # type: ignore[assignment]
    assert shared.country(bytes(4)) == "DE"
    assert shared.max_descriptor == resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS
