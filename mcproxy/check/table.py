"""Checks the table that a start would load: its routes' files, loops, rules that can't work."""

import time
from collections.abc import Iterator

from mcproxy.certificates import judge
from mcproxy.certificates.acme import keeper, order
from mcproxy.check.found import Found, warning
from mcproxy.check.loaded import Loaded
from mcproxy.configuration import Config
from mcproxy.model import Tls, counted
from mcproxy.policy.loops import LOOP, OwnListeners


def check_table(config: Config, loaded: Loaded) -> Iterator[Found]:
    """Everything that is wrong with a table, each with its key or row."""
    yield from _check_certificates(loaded)
    yield from _check_acme(config, loaded)
    yield from _check_loops(loaded)
    countries = loaded.table.firewall.countries
    if countries and not config.firewall.geoip_db:
        rules = counted(len(countries), "rule")
        yield Found("firewall.geoip_db", f"is required by the database's country rules ({rules}); or remove them")


def _check_certificates(loaded: Loaded) -> Iterator[Found]:
    for addr, listener in loaded.table.listeners.items():
        for hostname, finding in judge.survey(listener.routes.values(), time.time()):
            yield Found(loaded.route(addr, hostname, finding.key), finding.message, finding.problem)


def _check_acme(config: Config, loaded: Loaded) -> Iterator[Found]:
    """What ordering certificates lacks, once: it is the same for each route."""
    routes = [(addr, each) for addr, table in loaded.table.listeners.items() for each in table.routes.values()]
    ordered = [(addr, each.hostname) for addr, each in routes if each.tls is Tls.ACME]
    if not ordered:
        return
    place, others = loaded.route(*ordered[0], "tls"), len(ordered) - 1
    more = f" (and {counted(others, 'other route')})" if others else ""
    if missing := keeper.missing(configured=config.acme is not None):
        yield Found(place, f"{missing}{more}")
    if blocked := order.kept_out(loaded.table.firewall):
        yield warning(place, f"{blocked}: an order fails if one of them is blocked{more}")


def _check_loops(loaded: Loaded) -> Iterator[Found]:
    ours = OwnListeners(loaded.table.listeners)
    for addr, listener in loaded.table.listeners.items():
        for route in listener.routes.values():
            if taken := ours.reached_by(route.backend):
                yield Found(loaded.route(addr, route.hostname, "backend"), LOOP.format(route.backend, taken))
