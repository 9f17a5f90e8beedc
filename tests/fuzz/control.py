"""What operators write: configuration files, host names and addresses, and the admin API's messages."""

import json
import tempfile
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError

from mcproxy import config
from mcproxy.admin import bulk, convert
from mcproxy.admin.errors import Refusal
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.configuration import Config
from mcproxy.document import ConfigError
from mcproxy.notation.name import InvalidName, normalise
from tests.fuzz.engine import Target

ROOT = Path(__file__).parent.parent.parent


@cache
def _path() -> Path:
    """A file of this process."""
    return Path(tempfile.mkdtemp(prefix="fuzz-")) / "mcproxy.toml"


def document(data: bytes) -> Hashable:
    """A file is a configuration, or every problem is said with its place; what is read can be used."""
    path = _path()
    path.write_bytes(data)
    return tuple(_outcome(read, path) for read in (config.load, config.load_seed, config.load_api))


def _outcome(read: Callable[[Path], Any], path: Path) -> Hashable:
    try:
        found = read(path)
    except ConfigError as error:
        assert error.problems, "refused without a problem"
        for problem in error.problems:
            assert problem.message.strip(), f"{problem.key} has no message"
            assert "\n" not in str(problem) and str(problem).isprintable(), f"not a line: {str(problem)!a:.300}"
        return frozenset(problem.message[:20] for problem in error.problems)
    if isinstance(found, Config):
        listeners, rules = list(found.seed_listeners()), list(found.seed_rules())
        return len(listeners), len(rules)
    return type(found).__name__


def name(data: bytes) -> Hashable:
    """Normalising a name again changes nothing; what is refused is said in a line."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = normalise(text)
    except InvalidName as error:
        assert error.fault.isascii() and error.fault.isprintable(), f"not a line: {error.fault!a}"
        return str(error.reason), len(error.fault) // 8
    assert normalise(found) == found
    assert normalise(found.upper() + ".") == found
    assert found.isascii() and len(found) <= 253
    return found.count("."), "xn--" in found


def message(data: bytes) -> Hashable:
    """A message is a value that comes back the same, or the call is refused with a field."""
    kind, rest = (data[0] if data else 0) % 6, data[1:]
    try:
        return kind, _take(kind, rest)
    except DecodeError:
        return kind, "not a message"
    except Refusal as refusal:
        assert str(refusal).strip(), "refused without a message"
        assert refusal.about or kind == 5, "refused without a field"
        return kind, refusal.about, len(str(refusal)) // 8


def _take(kind: int, data: bytes) -> Hashable:
    if kind == 0:
        route = convert.route(pb.Route.FromString(data))
        assert convert.route(convert.route_out(route)) == route
        return str(route.mode)
    if kind == 1:
        listener = convert.listener(pb.Listener.FromString(data))
        assert convert.listener(convert.listener_out(listener)) == listener
        return len(listener.trusted_proxies)
    if kind == 2:
        asked = pb.AddFirewallRuleRequest.FromString(data)
        rule = convert.rule(asked.kind, asked.value)
        out = convert.rule_out(rule)
        assert convert.rule(out.kind, out.value) == rule
        return str(rule.kind), convert.ttl(asked.ttl_seconds) == 0
    if kind == 3:
        chosen = convert.selection(pb.ConnectionFilter.FromString(data))
        return bool(chosen.listener), bool(chosen.route), chosen.clients is not None
    if kind == 4:
        mask, _, body = data.partition(b"\xff")
        message = pb.Route.FromString(body)
        base = convert.route(pb.Route(hostname="a.test", backend="127.0.0.1:1"))
        changed = convert.changed_route(base, message, FieldMask.FromString(mask))
        assert changed.hostname == base.hostname
        return str(changed.mode)
    contents = bulk.received([pb.ApplyRequest.FromString(data)])
    assert contents.values.keys() == contents.places.keys()
    return len(contents.values)


_EXAMPLE = (ROOT / "etc" / "mcproxy.toml.example").read_bytes()
_PLAIN = b"\n".join(line.split(b"#")[0].rstrip() for line in _EXAMPLE.splitlines() if line.split(b"#")[0].strip())
_CUT = _PLAIN.split(b"\n[")
DOCUMENT = Target(
    "config",
    "configuration files",
    document,
    [_PLAIN, (ROOT / "etc" / "mcproxy.toml").read_bytes(), *(b"[" * bool(i) + part for i, part in enumerate(_CUT))],
    [
        b"\n",
        b'"',
        b"'",
        b"=",
        b"[",
        b"]",
        b"[[",
        b"]]",
        b"{",
        b"}",
        b",",
        b"#",
        b"true",
        b"0",
        b"-1",
        b"1e400",
        b"nan",
        b'"5s"',
        b'"5 s"',
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xe2\x80\x9c",
        b"[[listeners]]\n",
        b"[[listeners.routes]]\n",
        b"addr = 5\n",
        b"hostname = ",
        b"backend = ",
        b'mode = "l7"\n',
        b"1979-05-27",
        b'"unix:/a"',
        b'"[::1]:1"',
        b'":443"',
        b"database",
        b"grpc",
        b"workers = ",
        b'"auto"',
        b"9" * 400,
        b"\\u0000",
        b"proxy_protocol = true\n",
    ],
)
NAME = Target(
    "name",
    "host names",
    name,
    [
        b"a.test",
        b"WWW.Example.org.",
        "bücher.example".encode(),
        b"xn--bcher-kva.example",
        b"192.0.2.1",
        b"_a._tcp.b-c.test",
        "faß.de".encode(),
        b"a" * 63 + b".test",
    ],
    [
        b".",
        b"-",
        b"_",
        b"xn--",
        "\u00df".encode(),
        "\u3002".encode(),
        "\u200d".encode(),
        "\u0130".encode(),
        "\uff41".encode(),
        b"\xff",
        b" ",
        b"0",
        b"::",
        "\u05d0".encode(),
        b"\0",
    ],
)
_ROUTE = pb.Route(hostname="a.test", backend="127.0.0.1:3000", mode=pb.MODE_L7, tls_cert="/a.pem", tls_key="/a.key")
_LISTENER = pb.Listener(addr="127.0.0.1:443", proxy_protocol=True, trusted_proxies=["10.0.0.0/8"], max_connections=5)
_VALUES = pb.Values(listeners=[_LISTENER], routes=[pb.ListedRoute(listener="127.0.0.1:443", route=_ROUTE)])
MESSAGE = Target(
    "admin",
    "messages of the admin API",
    message,
    [
        b"\0" + _ROUTE.SerializeToString(),
        b"\0" + pb.Route(hostname="a.test", backend="unix:/a").SerializeToString(),
        b"\1" + _LISTENER.SerializeToString(),
        b"\2"
        + pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_CIDR, value="10.0.0.0/8", ttl_seconds=5).SerializeToString(),
        b"\2" + pb.AddFirewallRuleRequest(kind=pb.RULE_KIND_COUNTRY, value="AQ").SerializeToString(),
        b"\3" + pb.ConnectionFilter(route="a.test", client="10.0.0.0/8", listener=":443").SerializeToString(),
        b"\4"
        + FieldMask(paths=["backend"]).SerializeToString()
        + b"\xff"
        + pb.Route(backend="b.test:1").SerializeToString(),
        b"\5" + pb.ApplyRequest(options=pb.ApplyOptions(values=2), values=_VALUES).SerializeToString(),
    ],
    [
        b"a.test",
        b"127.0.0.1:1",
        b"unix:/",
        b"\x0a\6",
        b"\x12",
        b"\x18\1",
        b"\x08",
        b"\x7f",
        b"10.0.0.0/8",
        b"::1",
        b"*",
        b"\xff",
        json.dumps("a").encode(),
        b":443",
        b"/a.pem",
    ],
)
