"""TLS contexts: what they allow, that sessions stay within their route, and that reloading never takes one away."""

import datetime as dt
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from mcproxy.certificates.acme.order import Kept, Order
from mcproxy.certificates.contexts import MAX_RESERVED, SPARE_CONTEXTS, TICKET_KEY_SECONDS, Contexts, client_context
from mcproxy.certificates.pem import Pair, described, read_pair
from mcproxy.model import Backend, BackendProtocol, Mode, Reason, Refused, Route, Tls
from tests.kit.peers import Authority

LISTENER = "127.0.0.1:443"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def route(name: str, pair: tuple[Path, Path], **more: str) -> Route:
    return Route(name, Backend("127.0.0.1", 1), Mode.L7, str(pair[0]), str(pair[1]), **more)  # type: ignore[arg-type]


def shake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """A whole handshake in memory, and what the server sends after it; returns the client."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    asking = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    waiting: list[ssl.SSLObject] = [asking, serving]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    serving.write(b"hello")
    assert asking.read() == b"hello"  # with it, a ticket of TLS 1.3
    with pytest.raises(ssl.SSLWantReadError):
        serving.unwrap()  # or OpenSSL would drop the session from its cache
    return asking


def client_of(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    return context


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "cert.pem", tmp_path / "cert.key"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_resumes_within_its_route(version: ssl.TLSVersion, authority: Authority) -> None:
    contexts = Contexts(("h2", "http/1.1"))
    one = route("one.test", authority.pair("one.test"))
    context = client_of(authority, version)
    first = shake(contexts.server(LISTENER, one), context, "one.test")
    assert not first.session_reused
    again = shake(contexts.server(LISTENER, one), context, "one.test", first.session)
    assert again.session_reused


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tickets", [True, False])
def test_no_session_resumes_across_routes(
    version: ssl.TLSVersion, tickets: bool, tmp_path: Path, authority: Authority
) -> None:
    """CVE-2025-23419: one certificate for both names; by ticket and by session id; another name, another listener."""
    ca = trustme.CA()
    shared = ca.issue_cert("one.test", "two.test")
    shared.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    both = (tmp_path / "both.pem", tmp_path / "both.pem")
    contexts = Contexts(("http/1.1",))
    one, two = route("one.test", both), route("two.test", both)
    context = client_of(authority, version)
    ca.configure_trust(context)
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    first = shake(contexts.server(LISTENER, one), context, "one.test")
    assert not shake(contexts.server(LISTENER, two), context, "two.test", first.session).session_reused
    other_listener = contexts.server("[::1]:443", one)
    assert not shake(other_listener, context, "one.test", first.session).session_reused
    assert shake(contexts.server(LISTENER, one), context, "one.test", first.session).session_reused


@pytest.mark.parametrize("name", ["two.test", None])
def test_another_name_than_the_routes_ends_the_handshake(name: str | None, authority: Authority) -> None:
    server = Contexts(()).server(LISTENER, route("one.test", authority.pair("one.test")))
    context = authority.client_context()
    context.check_hostname = False
    with pytest.raises(ssl.SSLError):
        shake(server, context, name)


@pytest.mark.parametrize("key", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
def test_either_kind_of_key_and_only_good_ciphers(key: trustme.KeyType, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.issue_cert("one.test", key_type=key).private_key_and_cert_chain_pem.write_to_path(tmp_path / "one.pem")
    server = Contexts(("h2", "http/1.1")).server(LISTENER, route("one.test", (tmp_path / "one.pem",) * 2))
    context = ssl.create_default_context()
    ca.configure_trust(context)
    context.set_alpn_protocols(["http/1.1", "h2"])
    for version in VERSIONS:
        context.minimum_version = context.maximum_version = version
        assert shake(server, context, "ONE.test").selected_alpn_protocol() == "h2"
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    for weak in ("AES128-GCM-SHA256", "ECDHE+AES+SHA256:!AESGCM"):  # no forward secrecy; no authenticated encryption
        context.set_ciphers(weak)
        with pytest.raises(ssl.SSLError):
            shake(server, context, "one.test")


def test_the_client_chooses_among_good_ciphers(authority: Authority) -> None:
    server = Contexts(()).server(LISTENER, route("one.test", authority.pair("one.test")))
    for wanted in ("CHACHA20", "AESGCM"):
        context = client_of(authority, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"ECDHE+{wanted}:ECDHE+CHACHA20:ECDHE+AESGCM")
        chosen = shake(server, context, "one.test").cipher()
        assert chosen is not None
        assert wanted in chosen[0].replace("AES256-GCM", "AESGCM").replace("-POLY1305", "")


def test_tls_1_1_is_refused(authority: Authority) -> None:
    server = Contexts(()).server(LISTENER, route("one.test", authority.pair("one.test")))
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    assert server.options & ssl.OP_NO_RENEGOTIATION


def reload(contexts: Contexts) -> list[str]:
    fresh = contexts.read_again()
    contexts.take(fresh)
    return list(fresh.problems)


def copy(pair: tuple[Path, Path], to: tuple[Path, Path]) -> None:
    for source, target in zip(pair, to, strict=True):
        shutil.copy(source, target)


def test_reloading_replaces_what_changed_and_nothing_else(authority: Authority, pair: tuple[Path, Path]) -> None:
    copy(authority.pair("one.test"), pair)
    contexts = Contexts(())
    one = route("one.test", pair)
    before = contexts.server(LISTENER, one)
    assert reload(contexts) == []
    assert contexts.server(LISTENER, one) is before
    fresh = trustme.CA().issue_cert("one.test", "two.test")
    fresh.cert_chain_pems[0].write_to_path(pair[0])
    fresh.private_key_pem.write_to_path(pair[1])
    assert contexts.server(LISTENER, one) is before, "a file that changed counts from the reload on"
    assert reload(contexts) == []
    assert contexts.server(LISTENER, one) is not before
    ((key, certificate),) = contexts.certificates()
    assert key == (LISTENER, "one.test")
    assert certificate.names == ("one.test", "two.test")


@pytest.mark.parametrize("broken", ["", "junk"])
def test_a_broken_file_keeps_the_old_certificate(broken: str, authority: Authority, pair: tuple[Path, Path]) -> None:
    copy(authority.pair("one.test"), pair)
    contexts = Contexts(())
    one = route("one.test", pair)
    before = contexts.server(LISTENER, one)
    pair[0].write_text(broken)
    (problem,) = reload(contexts)
    assert problem.startswith(f"one.test: {pair[0]} holds no certificate chain in PEM form")
    assert problem.endswith("stays in use")
    assert contexts.server(LISTENER, one) is before


def test_a_route_without_a_usable_certificate_is_refused(authority: Authority, pair: tuple[Path, Path]) -> None:
    copy((authority.pair("one.test")[0], authority.pair("two.test")[1]), pair)
    contexts = Contexts(())
    with pytest.raises(Refused, match="is not the key of") as refused:
        contexts.server(LISTENER, route("one.test", pair))
    assert refused.value.reason is Reason.CERTIFICATE_UNUSABLE
    copy(authority.pair("one.test"), pair)
    assert contexts.server(LISTENER, route("one.test", pair)), "the next connection tries again"


def test_a_route_with_other_files_gets_another_context(authority: Authority) -> None:
    contexts = Contexts(())
    before = contexts.server(LISTENER, route("one.test", authority.pair("one.test")))
    assert contexts.server(LISTENER, route("one.test", authority.pair("two.test"))) is not before


def test_what_is_held_counts_whatever_the_files_are_by_now(authority: Authority, pair: tuple[Path, Path]) -> None:
    copy(authority.pair("one.test"), pair)
    contexts = Contexts(())
    one = route("one.test", pair, backend_ca=str(authority.path))
    assert contexts.held(LISTENER, one) is None
    assert not contexts.trusts(one.backend_ca)
    contexts.server(LISTENER, one)
    contexts.client(one)
    pair[0].unlink()
    held = contexts.held(LISTENER, one)
    assert held is not None
    assert held.names == ("one.test",)
    assert contexts.trusts(one.backend_ca)
    assert contexts.held(LISTENER, route("one.test", authority.pair("two.test"))) is None, "it has other files"
    assert contexts.held("[::1]:443", one) is None


def test_ticket_keys_live_a_day(authority: Authority, pair: tuple[Path, Path]) -> None:
    copy(authority.pair("one.test"), pair)
    now = [1000.0]
    contexts = Contexts((), clock=lambda: now[0])
    one = route("one.test", pair)
    first = contexts.server(LISTENER, one)
    now[0] += TICKET_KEY_SECONDS + 1
    second = contexts.server(LISTENER, one)
    assert second is not first
    pair[1].unlink()
    now[0] += TICKET_KEY_SECONDS + 1
    assert contexts.server(LISTENER, one) is second


def test_contexts_of_routes_that_are_gone_are_forgotten(authority: Authority) -> None:
    contexts = Contexts(())
    pair = authority.pair("one.test")
    for i in range(SPARE_CONTEXTS + 1):
        contexts.server(LISTENER, route(f"n{i}.test", pair))
    contexts.prune(lambda key: key[1] == "n7.test")
    assert [key for key, _ in contexts.certificates()] == [(LISTENER, "n7.test")]


def test_backends_are_verified(authority: Authority, tmp_path: Path) -> None:
    contexts = Contexts(())
    to_backend = contexts.client(Route("one.test", Backend("127.0.0.1", 1), backend_ca=str(authority.path)))
    server = authority.server_context("b.test")
    server.set_alpn_protocols(["http/1.1", "h2"])
    assert shake(server, to_backend, "b.test").selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, to_backend, "other.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, client_context(""), "b.test")
    with pytest.raises(Refused, match=r"backend_ca: .*absent can't be read: No such file") as refused:
        contexts.client(Route("one.test", Backend("127.0.0.1", 1), backend_ca=str(tmp_path / "absent")))
    assert refused.value.reason is Reason.CERTIFICATE_UNUSABLE


@pytest.mark.parametrize(
    ("wanted", "spoken", "chosen"),
    [
        (BackendProtocol.AUTO, ["h2", "http/1.1"], "h2"),
        (BackendProtocol.AUTO, ["http/1.1"], "http/1.1"),
        (BackendProtocol.H2, ["http/1.1", "h2"], "h2"),
        (BackendProtocol.HTTP1, ["h2", "http/1.1"], "http/1.1"),
    ],
)
def test_a_backend_is_offered_what_its_route_wants(
    wanted: BackendProtocol, spoken: list[str], chosen: str, authority: Authority
) -> None:
    route = Route("one.test", Backend("127.0.0.1", 1), backend_ca=str(authority.path), backend_protocol=wanted)
    server = authority.server_context("b.test")
    server.set_alpn_protocols(spoken)
    contexts = Contexts(())
    assert shake(server, contexts.client(route), "b.test").selected_alpn_protocol() == chosen
    assert contexts.towards(route) is contexts.client(route)


def test_a_broken_ca_keeps_the_old_one(authority: Authority, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(authority.path, ca)
    contexts = Contexts(())
    leads_there = Route("one.test", Backend("127.0.0.1", 1), backend_ca=str(ca))
    before = contexts.client(leads_there)
    ca.write_text("junk")
    (problem,) = reload(contexts)
    assert problem.startswith(f"backend_ca: {ca} holds no CA certificate in PEM form: it has no line")
    assert problem.endswith("; the CAs that were loaded stay in use")
    assert contexts.client(leads_there) is before
    shutil.copy(authority.path, ca)
    assert reload(contexts) == []
    assert contexts.client(leads_there) is not before


@pytest.mark.parametrize(
    ("names", "days", "says"), [(["other.test"], 9, "is for other.test"), (["one.test"], -1, "expired on")]
)
def test_a_certificate_that_clients_would_refuse_replaces_none_that_they_take(
    names: list[str], days: int, says: str, authority: Authority, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    copy(authority.pair("one.test"), pair)
    contexts = Contexts(())
    before = contexts.server(LISTENER, route("one.test", pair))
    now = dt.datetime.now(dt.UTC)
    bad = trustme.CA().issue_cert(
        *names, not_before=now - dt.timedelta(days=10), not_after=now + dt.timedelta(days=days)
    )
    bad.cert_chain_pems[0].write_to_path(pair[0])
    bad.private_key_pem.write_to_path(pair[1])
    (problem,) = reload(contexts)
    assert says in problem
    assert problem.endswith("stays in use")
    assert contexts.server(LISTENER, route("one.test", pair)) is before


def kept(name: str, pair: Pair | None, challenge: Pair | None = None) -> Kept:
    return Kept(Order(name), pair, described(pair) if pair else None, challenge)


def test_a_route_of_acme_has_what_is_kept_for_its_name(authority: Authority) -> None:
    contexts, asked = Contexts(("h2",)), Route("one.test", Backend("127.0.0.1", 1), Mode.L7, tls=Tls.ACME)
    for given, words in ((None, "nobody orders one"), (kept("one.test", None), "its order is due")):
        if given is not None:
            contexts.keep(given)
        with pytest.raises(Refused, match=words) as refused:
            contexts.server(LISTENER, asked)
        assert refused.value.reason is Reason.CERTIFICATE_PENDING
    first, second = (read_pair(*map(str, authority.pair(each))) for each in ("one.test", "two.test"))
    contexts.keep(kept("one.test", first))
    context = contexts.server(LISTENER, asked)
    assert contexts.server(LISTENER, asked) is context
    shake(context, client_of(authority, VERSIONS[1]), "one.test")
    contexts.keep(kept("one.test", first, None))
    assert contexts.server(LISTENER, asked) is context, "another state of its order is no other certificate"
    contexts.keep(kept("one.test", second))
    assert contexts.server(LISTENER, asked) is not context
    assert contexts.files() == set()
    assert not contexts.read_again().read
    held = contexts.held(LISTENER, asked)
    assert held is not None
    assert held.names == ("two.test",)
    contexts.forget("one.test")
    with pytest.raises(Refused):
        contexts.server(LISTENER, asked)


def test_a_route_that_changes_between_files_and_acme_never_has_the_others(authority: Authority) -> None:
    contexts, files = Contexts(("h2",)), route("one.test", authority.pair("one.test"))
    acme = Route("one.test", Backend("127.0.0.1", 1), Mode.L7, tls=Tls.ACME)
    of_files = contexts.server(LISTENER, files)
    contexts.keep(kept("one.test", read_pair(*map(str, authority.pair("one.test")))))
    of_acme = contexts.server(LISTENER, acme)
    assert of_acme is not of_files
    assert contexts.server(LISTENER, files) not in {of_files, of_acme}


def test_a_challenge_is_answered_while_it_is_expected(authority: Authority) -> None:
    contexts, acme = Contexts(("h2",)), Route("one.test", Backend("127.0.0.1", 1), Mode.L7, tls=Tls.ACME)
    pair = read_pair(*map(str, authority.pair("one.test")))
    for given in (kept("one.test", None), kept("one.test", None, pair), kept("one.test", pair)):
        contexts.keep(given)
        if given.challenge is not None:
            assert contexts.challenge(acme) is contexts.challenge(acme)
            of_files = route("one.test", authority.pair("one.test"))  # of another listener, which the CA asks
            assert contexts.challenge(of_files) is contexts.challenge(acme)
        else:
            with pytest.raises(Refused, match=r"no order for one\.test waits for a challenge") as refused:
                contexts.challenge(acme)
            assert refused.value.reason is Reason.CHALLENGE_UNEXPECTED


def test_a_pair_that_is_there_serves_until_another_one_even_if_no_client_has_asked_for_it(
    authority: Authority, pair: tuple[Path, Path]
) -> None:
    """Regression: the first connection read the files, so that a route whose key had gone before it served nobody."""
    copy(authority.pair("one.test"), pair)
    contexts, one = Contexts(()), route("one.test", pair)
    contexts.reserve([(LISTENER, one), (LISTENER, route("two.test", (pair[0], pair[0])))])
    assert contexts.reserved(LISTENER, one) == (reserved := read_pair(*map(str, pair)))
    assert contexts.held(LISTENER, one) is None, "the files come first, if they are good"
    pair[1].unlink()
    server = contexts.server(LISTENER, one)
    shake(server, authority.client_context(), "one.test")
    assert (contexts.held(LISTENER, one), contexts.reserved(LISTENER, one)) == (described(reserved), None)
    assert contexts.files() == {str(each) for each in pair}, "another key is noticed"
    with pytest.raises(Refused):
        contexts.server(LISTENER, route("two.test", (pair[0], pair[0])))


def test_good_files_come_before_the_reserve_and_others_before_those_that_clients_refuse(
    authority: Authority, pair: tuple[Path, Path]
) -> None:
    for name, is_taken in (("one.test", True), ("two.test", False)):
        copy(authority.pair("one.test"), pair)
        contexts, one = Contexts(()), route("one.test", pair)
        contexts.reserve([(LISTENER, one)])
        before = contexts.reserved(LISTENER, one)
        assert before is not None
        copy(authority.pair(name), pair)
        pair[1].write_text(f"{pair[1].read_text()}\n")
        contexts.server(LISTENER, one)
        assert (contexts.held(LISTENER, one) != described(before)) is is_taken


def test_a_reserve_is_held_without_cryptography(authority: Authority) -> None:
    """Each worker has one from its start, and may never see an l7 connection."""
    script = (
        "import sys\n"
        "from mcproxy.certificates.contexts import Contexts\n"
        "from mcproxy.model import Backend, Mode, Route\n"
        f"one = Route('one.test', Backend('127.0.0.1', 1), Mode.L7, *{tuple(map(str, authority.pair('one.test')))})\n"
        "contexts = Contexts(())\n"
        "contexts.reserve([(':443', one)])\n"
        "print(contexts.reserved(':443', one) is not None, 'cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_no_more_than_the_latest_pairs_are_in_reserve(authority: Authority) -> None:
    contexts = Contexts(())
    files = authority.pair("one.test")
    routes = [(LISTENER, route(f"r{number}.test", files)) for number in range(MAX_RESERVED + 1)]
    contexts.reserve(routes)
    assert contexts.reserved(*routes[0]) is None
    assert contexts.reserved(*routes[1]) is contexts.reserved(*routes[-1]), "routes that share files share the pair"
