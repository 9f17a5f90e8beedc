"""The checks of declared fields: whatever the file may have, the admin API may have, and with the same message."""

from typing import Any

import pytest
from pydantic import ValidationError

from mcproxy import diagnosis
from mcproxy.config import ListenerSection, RouteSection
from mcproxy.model import LISTENER_FIELDS, ROUTE_FIELDS, Mode
from mcproxy.settings import MAX_COUNT, Field, Kind
from mcproxy.validity import Invalid, judged

TEXTS = [
    "", "a.test", "Bücher.example.", "no name", "a..test", "*.test", ":443", "127.0.0.1:80", "[::1]:0", "h:99999",
    "unix:/run/a.sock", "unix:", "/etc/a.pem", "/etc/\0", "192.0.2.0/24", "192.0.2.1/33", "2001:DB8::/32", "edge1",
    "ed ge",
]  # fmt: skip
NUMBERS = [-1, 0, 1, 64, 65_535, 65_536, MAX_COUNT, MAX_COUNT + 1]
ROUTE = {
    "hostname": "a.test", "backend": "b.test:1", "mode": Mode.L7, "tls_cert": "/c.pem", "tls_key": "/k.pem",
    "backend_tls": True,
}  # fmt: skip


def of_file(section: Any, keys: dict[str, Any]) -> Any:
    """What the configuration file's model makes of keys: the value, or where and what is wrong."""
    try:
        read = section.model_validate(keys)
    except ValidationError as error:
        (_, message), *_ = diagnosis.problems(error, section)
        return tuple(error.errors(include_url=False)[0]["loc"]), message
    return {name: str(value) if name == "backend" else value for name, value in read.fields().items()}


def of_api(declared: tuple[Field, ...], keys: dict[str, Any]) -> Any:
    whole = {field.name: field.default for field in declared if field.has_default} | keys
    try:
        read = judged(declared, whole)
    except Invalid as error:
        return tuple(error.location), str(error)
    return {name: str(value) if name == "backend" else value for name, value in read.items()}


def values(field: Field) -> list[Any]:
    match field.kind:
        case Kind.COUNT:
            return NUMBERS
        case Kind.SWITCH:
            return [True, False]
        case Kind.WORD:
            words: Any = field.type
            return list(words)
        case Kind.NETWORKS | Kind.NODES:
            return [(), tuple(TEXTS), *((text, "192.0.2.0/24", "b", "a", "b") for text in TEXTS)]
    return TEXTS


@pytest.mark.parametrize("field", ROUTE_FIELDS, ids=lambda field: field.name)
def test_a_route_is_judged_alike_in_the_file_and_in_the_api(field: Field) -> None:
    for value in values(field):
        keys = {**ROUTE, field.name: value}
        assert of_api(ROUTE_FIELDS, keys) == of_file(RouteSection, keys), value


@pytest.mark.parametrize("field", LISTENER_FIELDS, ids=lambda field: field.name)
def test_a_listener_is_judged_alike_in_the_file_and_in_the_api(field: Field) -> None:
    for value in values(field):
        for trusting in ({}, {"proxy_protocol": True, "trusted_proxies": ("10.0.0.0/8",)}):
            keys = {"addr": ":443", **trusting, field.name: value}
            assert of_api(LISTENER_FIELDS, keys) == of_file(ListenerSection, keys), value
