"""The counters as Prometheus text.

The format is 0.0.4 of https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from collections.abc import Iterable, Iterator, Sequence

from mcproxy import __version__
from mcproxy.admin.plane import ListenerStatus, PlaneStatus, RouteCounters
from mcproxy.table import Table

# Routes with series of their own, those with the most connections; the others together are hostname="(other)". A
# scraper keeps every series that it ever saw: 100,000 of them are not worth their cost.
MAX_ROUTES = 1_000

Sample = tuple[str, float]  # labels, value


def render(status: PlaneStatus, routes: Sequence[RouteCounters], table: Table, watchers: int) -> str:
    """All metrics."""
    lines: list[str] = []
    for name, kind, text, samples in (
        *_server(status, table, watchers),
        *_listeners(status.listeners),
        *_routes(_shown(routes)),
    ):
        lines.append(f"# HELP mcproxy_{name} {text}")
        lines.append(f"# TYPE mcproxy_{name} {kind}")
        lines += [f"mcproxy_{name}{labels} {value:.17g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


Family = tuple[str, str, str, list[Sample]]  # name, type, help


def _labels(**labels: str) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _server(status: PlaneStatus, table: Table, watchers: int) -> Iterator[Family]:
    yield "info", "gauge", "The version that runs.", [(_labels(version=__version__), 1)]
    yield "start_time_seconds", "gauge", "When it started, in seconds since the epoch.", [("", status.started_at)]
    yield "draining", "gauge", "Whether it takes no more connections.", [("", status.state == "draining")]
    yield "generation", "gauge", "The generation of the table in force.", [("", table.generation)]
    firewall = table.firewall
    rules = {"ip": len(firewall.ips), "cidr": len(firewall.cidrs), "country": len(firewall.countries)}
    counts = [(_labels(kind=kind), float(count)) for kind, count in rules.items()]
    yield "firewall_rules", "gauge", "Firewall rules.", counts
    yield "watchers", "gauge", "Open streams of connection events.", [("", watchers)]
    if status.geoip.path:
        text = "When the GeoIP database was built, in seconds since the epoch."
        yield "geoip_build_time_seconds", "gauge", text, [("", status.geoip.built_at)]
    if status.certificates:
        ends = [(_labels(listener=c.listener, hostname=c.hostname), c.not_after) for c in status.certificates]
        yield "certificate_not_after_seconds", "gauge", "When the certificate ends, in seconds since the epoch.", ends


def _listeners(listeners: Iterable[ListenerStatus]) -> Iterator[Family]:
    rows = [(each, {"listener": each.addr}) for each in listeners]
    yield "connections", "gauge", "Open connections.", [(_labels(**at), each.connections) for each, at in rows]
    total = [(_labels(**at), float(each.accepted)) for each, at in rows]
    yield "connections_total", "counter", "Connections accepted.", total
    refused = [(_labels(**at, reason=why), float(n)) for each, at in rows for why, n in each.refused.items()]
    yield "refused_total", "counter", "Connections refused, by reason.", refused
    ended = [(_labels(**at, end=how), float(n)) for each, at in rows for how, n in each.ended.items()]
    yield "ended_total", "counter", "Connections ended, by how they did.", ended
    received = [(_labels(**at, direction="received"), float(each.received)) for each, at in rows]
    sent = [(_labels(**at, direction="sent"), float(each.sent)) for each, at in rows]
    yield "bytes_total", "counter", "Bytes received from clients and sent to them.", received + sent


def _routes(routes: Sequence[RouteCounters]) -> Iterator[Family]:
    rows = [(each, {"listener": each.listener, "hostname": each.hostname}) for each in routes]
    now = [(_labels(**at), float(each.connections)) for each, at in rows]
    yield "route_connections", "gauge", "Open connections of a route.", now
    total = [(_labels(**at), float(each.accepted)) for each, at in rows]
    yield "route_connections_total", "counter", "Connections that asked for a route.", total
    refused = [(_labels(**at), float(each.refused)) for each, at in rows]
    yield "route_refused_total", "counter", "Of these, connections that didn't reach the backend.", refused
    received = [(_labels(**at, direction="received"), float(each.received)) for each, at in rows]
    sent = [(_labels(**at, direction="sent"), float(each.sent)) for each, at in rows]
    yield "route_bytes_total", "counter", "Bytes of a route received from clients and sent to them.", received + sent


def _shown(routes: Sequence[RouteCounters]) -> list[RouteCounters]:
    busiest = sorted(routes, key=lambda each: (-each.accepted, each.listener, each.hostname))
    shown, rest = busiest[:MAX_ROUTES], busiest[MAX_ROUTES:]
    if rest:
        shown.append(
            RouteCounters(
                listener="",
                hostname="(other)",
                connections=sum(each.connections for each in rest),
                accepted=sum(each.accepted for each in rest),
                refused=sum(each.refused for each in rest),
                received=sum(each.received for each in rest),
                sent=sum(each.sent for each in rest),
            )
        )
    return shown
