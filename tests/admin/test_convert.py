import pytest

from mcproxy.admin import convert
from mcproxy.admin.errors import InvalidField
from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.change import listener_key, route_key
from mcproxy.messages import ConnectionEvent, ConnectionInfo, EventKind
from mcproxy.model import Backend, End, FirewallRule, Listener, Mode, Reason, Route, RuleKind
from mcproxy.notation.duration import MAX_SECONDS

L7 = Route("a.example.org", Backend("::1", 80), Mode.L7, "/c.pem", "/k.pem", True, "/ca.pem", "b.example.org", True)


@pytest.mark.parametrize(
    "value", [L7, Route("b.example.org", Backend(path="/run/b.sock"))], ids=lambda r: str(r.hostname)
)
def test_a_route_comes_back(value: Route) -> None:
    assert convert.route(convert.route_out(value)) == value


@pytest.mark.parametrize(
    "value", [Listener(":443"), Listener("[::1]:80", True, ("10.0.0.0/8",), 5)], ids=lambda v: str(v.addr)
)
def test_a_listener_comes_back(value: Listener) -> None:
    assert convert.listener(convert.listener_out(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        FirewallRule(RuleKind.IP, "192.0.2.1"),
        FirewallRule(RuleKind.CIDR, "10.0.0.0/8"),
        FirewallRule(RuleKind.COUNTRY, "DE"),
    ],
    ids=lambda v: str(v.kind),
)
def test_a_rule_comes_back(value: FirewallRule) -> None:
    message = convert.rule_out(value)
    assert convert.rule(message.kind, message.value) == value
    assert message.expires_at == 0


def test_what_is_written_in_another_way_becomes_canonical() -> None:
    assert convert.route(pb.Route(hostname="B\u00dcCHER.Example.", backend="Git.Example:80")) == Route(
        "xn--bcher-kva.example", Backend("git.example", 80)
    )
    assert convert.rule(pb.RULE_KIND_IP, "2001:DB8:0::1").value == "2001:db8::1"
    assert convert.rule(pb.RULE_KIND_COUNTRY, "de").value == "DE"
    assert convert.listen_address("listener", "[0::1]:443") in {"[::1]:443", "[0::1]:443"}
    assert convert.listen_address("listener", "") == ""


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (pb.Route(), "route.hostname"),
        (pb.Route(hostname="a b", backend="1.1.1.1:1"), "route.hostname: .*contains"),
        (pb.Route(hostname="a.b"), "route.backend: .*HOST:PORT"),
        (pb.Route(hostname="a.b", backend="1.1.1.1:99999"), "route.backend: port 99999"),
        (pb.Route(hostname="a.b", backend="1.1.1.1:1", mode=pb.MODE_L7), "route: .*needs tls_cert and tls_key"),
        (pb.Route(hostname="a.b", backend="1.1.1.1:1", backend_tls=True), "route: .*backend_tls only works"),
        (pb.Route(hostname="a.b", backend="1.1.1.1:1", tls_cert="c.pem"), "route.tls_cert: .*absolute path"),
        (pb.Route(hostname="a.b", backend="1.1.1.1:1", mode=9), "route.mode"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_route_names_its_field(message: pb.Route, words: str) -> None:
    with pytest.raises(InvalidField, match=rf"^{words}"):
        convert.route(message)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (pb.Listener(), "listener.addr: .*HOST:PORT"),
        (pb.Listener(addr="example.org:443"), "listener.addr: .*not an IP address"),
        (pb.Listener(addr=":1", proxy_protocol=True), "listener: .*needs trusted_proxies"),
        (
            pb.Listener(addr=":1", proxy_protocol=True, trusted_proxies=["10.0.0.1/8"]),
            r"listener.trusted_proxies.0: .*host bits",
        ),
    ],
)
def test_a_bad_listener_names_its_field(message: pb.Listener, words: str) -> None:
    with pytest.raises(InvalidField, match=rf"^{words}"):
        convert.listener(message)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (pb.RULE_KIND_UNSPECIFIED, "192.0.2.1", "kind: "),
        (pb.RULE_KIND_IP, "192.0.2.0/24", "value: "),
        (pb.RULE_KIND_CIDR, "192.0.2.1/24", "value: .*did you mean"),
        (pb.RULE_KIND_COUNTRY, "UK", "value: .*GB"),
    ],
)
def test_a_bad_rule_names_its_field(kind: pb.RuleKind, value: str, words: str) -> None:
    with pytest.raises(InvalidField, match=rf"^{words}"):
        convert.rule(kind, value)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), MAX_SECONDS + 1])
def test_a_rule_lasts_a_sensible_time(seconds: float) -> None:
    with pytest.raises(InvalidField, match=r"^ttl_seconds"):
        convert.ttl(seconds)


def test_names_and_addresses_outside_messages_are_checked_too() -> None:
    with pytest.raises(InvalidField, match=r"^hostname"):
        convert.hostname("hostname", "a b")
    with pytest.raises(InvalidField, match=r"^listener"):
        convert.listen_address("listener", "nonsense")


def test_keys() -> None:
    assert convert.key_out(listener_key(":443")) == [":443"]
    assert convert.key_out(route_key(":443", "a.b")) == [":443", "a.b"]


def test_an_event_has_the_words_of_the_log() -> None:
    info = ConnectionInfo(7, ":443", "192.0.2.1:5", 1.0, "peeking")
    message = convert.event_out(
        ConnectionEvent(EventKind.REFUSED, 2.0, info, Reason.SNI_MISSING, End.REFUSED, "no server_name", 0.5),
        several=False,
    )
    assert (message.kind, message.reason, message.end) == (pb.ConnectionEvent.KIND_REFUSED, "sni_missing", "refused")
    assert (message.connection.id, message.connection.mode) == (7, pb.MODE_UNSPECIFIED)
