"""What happens to a fleet, a little of each. `python -m tests.kit.fleet_faults` does it for longer, and does more."""

import pytest

from tests.kit.network import available
from tests.kit.program import report_of

pytestmark = [
    pytest.mark.xdist_group("fleet"),
    pytest.mark.skipif(not available(), reason="needs root and namespaces"),
]

SCENES = ("writers", "kills", "failover")
MUTATIONS = 20


def test_nothing_acknowledged_is_lost_and_all_nodes_agree() -> None:
    chosen = [word for name in SCENES for word in ("--scene", name)]
    report = report_of("fleet_faults", *chosen, "--mutations", MUTATIONS, "--kills", 1)
    assert report["writers"]["mutations"] == 2 * MUTATIONS
    assert report["kills"]["acknowledged"] >= 6
    assert report["failover"]["lost"] >= 10
