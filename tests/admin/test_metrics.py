import re

from mcproxy import __version__
from mcproxy.admin import metrics
from mcproxy.admin.plane import (
    CertificateStatus,
    GeoipStatus,
    ListenerStatus,
    PlaneStatus,
    RouteCounters,
    State,
)
from mcproxy.model import End, Reason
from mcproxy.table import Table
from tests.control_plane import RULES, SEED

STATUS = PlaneStatus(
    State.DRAINING,
    1000.5,
    [ListenerStatus(":443", True, 2, 10, {Reason.BLOCKED_IP: 3}, {End.CLOSED: 5}, 100, 2**53 + 2)],
    [CertificateStatus(":443", "a.example.org", "/c.pem", 5000.0)],
    GeoipStatus("/geo.mmdb", 7.0),
)
TABLE = Table.build(SEED, RULES, 42)
_SAMPLE = re.compile(
    r'mcproxy_[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})? [0-9.e+]+'
)


def rendered(*routes: RouteCounters) -> list[str]:
    return metrics.render(STATUS, routes, TABLE, 1).splitlines()


def test_every_line_is_of_the_format() -> None:
    lines = rendered(RouteCounters(":443", 'we"ird\\name\n', 1, 2, 0, 3, 4))
    kinds: dict[str, str] = {}
    for line in lines:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in kinds, "each family once"
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            assert _SAMPLE.fullmatch(line), line
            assert re.match(r"[a-z_]+", line)[0] in kinds, "after its type"  # type: ignore[index]
    assert all(kind == "counter" for name, kind in kinds.items() if name.endswith("_total"))


def test_the_numbers() -> None:
    lines = rendered(RouteCounters(":443", "git.example.org", 1, 2, 1, 3, 4))
    for line in (
        f'mcproxy_info{{version="{__version__}"}} 1',
        "mcproxy_start_time_seconds 1000.5",
        "mcproxy_draining 1",
        "mcproxy_generation 42",
        'mcproxy_firewall_rules{kind="cidr"} 1',
        "mcproxy_watchers 1",
        "mcproxy_geoip_build_time_seconds 7",
        'mcproxy_certificate_not_after_seconds{listener=":443",hostname="a.example.org"} 5000',
        'mcproxy_connections{listener=":443"} 2',
        'mcproxy_connections_total{listener=":443"} 10',
        'mcproxy_refused_total{listener=":443",reason="blocked_ip"} 3',
        'mcproxy_ended_total{listener=":443",end="closed"} 5',
        'mcproxy_bytes_total{listener=":443",direction="sent"} 9007199254740994',
        'mcproxy_route_connections_total{listener=":443",hostname="git.example.org"} 2',
        'mcproxy_route_refused_total{listener=":443",hostname="git.example.org"} 1',
    ):
        assert line in lines


def test_series_have_a_bound_and_the_rest_is_summed_up() -> None:
    many = [RouteCounters(":443", f"h{i}.example.org", 1, i, 1, 2, 3) for i in range(metrics.MAX_ROUTES + 10)]
    lines = [line for line in rendered(*many) if line.startswith("mcproxy_route_connections_total")]
    assert len(lines) == metrics.MAX_ROUTES + 1
    assert lines[0].startswith(
        f'mcproxy_route_connections_total{{listener=":443",hostname="h{len(many) - 1}.example.org"}}'
    )
    assert lines[-1] == f'mcproxy_route_connections_total{{listener="",hostname="(other)"}} {sum(range(10))}'
