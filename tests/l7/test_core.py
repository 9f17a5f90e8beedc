"""Both kinds of HTTP can be driven."""

import pytest

from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.core import Core
from mcproxy.l7.relay.relay import Relay


def elsewhere(_host: bytes) -> bool:
    return False


@pytest.mark.parametrize(
    "core",
    [
        Relay("a.test", "192.0.2.1", elsewhere, 0.0),
        Bridge("http/1.1", "a.test", "192.0.2.1", elsewhere, 0.0),
    ],
)
def test_a_core_has_all_that_its_driver_asks_for(core: Core) -> None:
    asked = {*Core.__annotations__, *(name for name in vars(Core) if not name.startswith("_"))}
    assert not {name for name in asked if not hasattr(core, name)}
    assert not core.ending
    assert (core.take_for_client(), core.take_for_backend(), core.take_ended()) == ((), (), [])
