"""Conflicts within a seed: a duplicate name or address, a port that two listeners of one node need.

`find` examines the document as it was read, so that conflicts are reported together with all other problems. A value
that does not parse conflicts with nothing; it is reported elsewhere.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from mcproxy.notation import address
from mcproxy.notation.name import normalise

_REMEDY = "remove one of the two"


def find(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The key of each conflict, and what it is."""
    by_port: dict[int, dict[str, int]] = {}
    nodes = {i: _names(listener.get("nodes")) for i, listener in _tables(document, "listeners")}
    for i, listener in _tables(document, "listeners"):
        if addr := _parsed(address.parse_listen, listener.get("addr")):
            others = by_port.setdefault(address.split_host_port(addr)[1], {})
            if addr in others:
                yield f"listeners[{i}].addr", f"{addr} is also listeners[{others[addr]}]; {_REMEDY}"
            elif other := clash(addr, [each for each, j in others.items() if meet(nodes[i], nodes[j])]):
                both = f"{addr} and {other} (listeners[{others[other]}])"
                yield f"listeners[{i}].addr", f"{both} can't both be listened on; {_REMEDY}"
            others.setdefault(addr, i)
        names: dict[str, int] = {}
        for j, route in _tables(listener, "routes"):
            hostname = _parsed(normalise, route.get("hostname"))
            if hostname and (first := names.setdefault(hostname, j)) != j:
                yield f"listeners[{i}].routes[{j}].hostname", f"{hostname} is also routes[{first}]; {_REMEDY}"


def _tables(document: dict[str, Any], key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    found = document.get(key)
    for i, each in enumerate(found if isinstance(found, list | tuple) else ()):
        if isinstance(each, dict):
            yield i, each


def _names(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list | tuple) else []


def meet(nodes: Collection[str], others: Collection[str]) -> bool:
    """True if some node has two listeners that name these nodes; none named is every node."""
    return not nodes or not others or not set(nodes).isdisjoint(others)


def _parsed(parse: Callable[[str], str], text: object) -> str:
    try:
        return parse(text) if isinstance(text, str) else ""
    except ValueError:
        return ""


def clash(addr: str, others: Collection[str]) -> str | None:
    """The one of the others, all of the same port, that can't be bound beside it: ":PORT" takes every address."""
    host, port = address.split_host_port(addr)
    if not port:
        return None
    if not host:
        return next(iter(others), None)
    ipv6 = ":" in host
    if host in {"::", "0.0.0.0"}:
        return next((other for other in others if other.startswith("[") == ipv6 or other.startswith(":")), None)
    wider = (f":{port}", f"[::]:{port}" if ipv6 else f"0.0.0.0:{port}")
    return next((other for other in wider if other in others), None)
