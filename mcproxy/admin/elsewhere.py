"""What a change of listeners means on the nodes of a fleet: refusals without one, warnings with one."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from mcproxy.admin.errors import InvalidField
from mcproxy.admin.mutations import spread
from mcproxy.admin.writer import Writer
from mcproxy.change import Change
from mcproxy.model import Listener
from mcproxy.store.errors import StoreError

NO_FLEET = "only a fleet has nodes, and this server is in none: set database.url there, or leave it out"


def refuse_nodes(writer: Writer, field: str, listener: Listener, was: Listener | None) -> None:
    """Raise InvalidField for a listener that names nodes, unless it did before, where there are none."""
    if writer.standing is None and listener.nodes and (was is None or was.nodes != listener.nodes):
        raise InvalidField(f"{field}.nodes", NO_FLEET)


def warnings(writer: Writer, changes: Iterable[Change]) -> Sequence[str]:
    """What should be known of listeners that are new, or name other nodes: who can't listen, and who isn't there."""
    standing, spreading = writer.standing, spread(changes)
    if standing is None or not spreading:
        return ()
    unbound = (standing.unbound.get(addr) for addr in spreading)
    found = [f"this node, {standing.node}, serves without it for now: {reason}" for reason in unbound if reason]
    named = {name for listener in spreading.values() for name in listener.nodes} - {standing.node}
    unknown = named - _known(writer) if named else ()
    return [*found, *(f"the fleet has no node {name} yet: `mcproxy nodes` lists them" for name in sorted(unknown))]


def absence(writer: Writer, addr: str) -> str:
    """Why this node doesn't listen on the address of a listener; "" if it does."""
    standing, compiled = writer.standing, writer.table.listeners[addr]
    if standing is None:
        return ""
    if addr not in writer.served.listeners:
        others = ", ".join(compiled.listener.nodes)
        return f"{addr} is a listener of {others}, and this node is {standing.node}: ask there"
    return standing.unbound.get(addr, "")


def _known(writer: Writer) -> set[str]:
    with suppress(StoreError):  # the change is made; that the database is gone since is not its business
        return {each.name for each in writer.others.nodes()[0]}
    return set()
