"""Certificates of routes: what is wrong with them, in sentences."""

import errno
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    KeySerializationEncryption,
    NoEncryption,
)

from mcproxy.certificates.judge import (
    Certificate,
    Finding,
    Unreadable,
    Unusable,
    ca_problem,
    coalescing,
    fill,
    findings,
    known,
    load,
    route_findings,
    survey,
    tried,
    trust,
)
from mcproxy.model import Backend, Mode, Route
from tests.kit.certificate_files import BORN, DIES, Disk, Key, write_pair

DAY = 86_400.0
Issue = Callable[..., tuple[str, str]]


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    def make(
        *names: str, key: Key | None = None, encryption: KeySerializationEncryption | None = None
    ) -> tuple[str, str]:
        return write_pair(tmp_path, names, key or ec.generate_private_key(ec.SECP256R1()), encryption or NoEncryption())

    return make


def certificate(*names: str, path: str = "x.pem") -> Certificate:
    return Certificate(path, names, BORN.timestamp(), DIES.timestamp(), "")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_good_pair(kind: str, issue: Issue) -> None:
    key: Key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    paths = issue("one.test", "*.TWO.test", key=key)
    loaded = load(*paths)
    assert loaded.names == ("one.test", "*.two.test")
    assert (loaded.not_before, loaded.not_after) == (BORN.timestamp(), DIES.timestamp())
    assert not list(findings(loaded, "one.test", BORN.timestamp()))
    assert load(*paths).digest == loaded.digest


def test_another_key_is_told(issue: Issue, tmp_path: Path) -> None:
    _chain, key = issue("one.test")
    Path(key).rename(tmp_path / "first.key")
    other_chain, _ = issue("one.test")
    with pytest.raises(Unusable, match=r"first\.key is not the key of .*chain\.pem"):
        load(other_chain, str(tmp_path / "first.key"))


def test_an_encrypted_key_is_told(issue: Issue) -> None:
    with pytest.raises(Unusable, match=r"key\.pem is encrypted; store it without a passphrase"):
        load(*issue("one.test", encryption=BestAvailableEncryption(b"secret")))


def test_files_that_are_none(issue: Issue, tmp_path: Path) -> None:
    chain, key = issue("one.test")
    with pytest.raises(Unusable, match=r"absent\.pem can't be read: No such file or directory; check its path"):
        load(str(tmp_path / "absent.pem"), key)
    junk = tmp_path / "junk.pem"
    for content in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        junk.write_bytes(content)
        with pytest.raises(Unusable, match=r"junk\.pem holds no certificate chain"):
            load(str(junk), key)
        with pytest.raises(Unusable, match=r"junk\.pem holds no private key"):
            load(chain, str(junk))
    junk.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(Unusable, match="larger than 1 MiB"):
        load(str(junk), key)


@pytest.mark.parametrize(
    ("content", "certificate", "key"),
    [
        (b" \n", "it is empty; write it again", "it is empty; write it again"),
        (b"junk", "it has no line -----BEGIN CERTIFICATE-----;", "it has no line -----BEGIN PRIVATE KEY-----;"),
        (b"\x30\x82\x01\x02", "it is binary (DER); convert it", "it is binary (DER); convert it"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "what it holds is damaged or of an unknown kind; copy it again from where it was issued (error parsing",
            "it holds a block CERTIFICATE instead; is this the right file?",
        ),
        (
            b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
            "it holds a block EC PRIVATE KEY instead; is this the right file?",
            "what it holds is damaged or of an unknown kind; copy it again from where it was issued (",
        ),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "it holds a block CERTIFICATE REQUEST instead; is this the right file?",
            "it holds a block CERTIFICATE REQUEST instead; is this the right file?",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_plainly(
    content: bytes, certificate: str, key: str, issue: Issue, tmp_path: Path
) -> None:
    good_chain, good_key = issue("one.test")
    junk = tmp_path / "junk.pem"
    junk.write_bytes(content)
    for pair, named, says in (
        ((str(junk), good_key), "tls_cert", f"{junk} holds no certificate chain in PEM form: {certificate}"),
        ((good_chain, str(junk)), "tls_key", f"{junk} holds no private key in PEM form: {key}"),
    ):
        with pytest.raises(Unusable) as caught:
            load(*pair)
        assert caught.value.key == named
        assert str(caught.value).startswith(says)
        assert "https://" not in str(caught.value)


def test_a_key_that_openssl_thinks_too_short_is_told_before_anybody_connects(issue: Issue) -> None:
    chain, key = issue("one.test", key=rsa.generate_private_key(65537, 1024))
    assert load(chain, key).names == ("one.test",)
    with pytest.raises(Unusable, match=r"key is too short to be safe; .* \(OpenSSL: ee key too small\)"):
        tried(chain, key)
    ((_, finding),) = survey([l7("one.test", (chain, key))], BORN.timestamp())
    assert finding.problem


def test_what_openssl_does_not_take_is_told_of_servers_and_clients_alike(issue: Issue, tmp_path: Path) -> None:
    chain, key = issue("one.test")
    other = Path(key).rename(tmp_path / "other.key")
    issue("one.test")
    with pytest.raises(Unusable) as caught:
        fill(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), chain, str(other))
    says = "have them issued anew (OpenSSL: key values mismatch)"
    assert str(caught.value) == f"{chain} and {other} can't be used: {says}"
    assert not isinstance(caught.value, Unreadable)


def l7(hostname: str, pair: tuple[str, str], **more: str) -> Route:
    return Route(hostname, Backend("127.0.0.1", 1), Mode.L7, *pair, **more)  # type: ignore[arg-type]


def test_the_file_of_a_backends_ca_is_judged_too(issue: Issue, tmp_path: Path) -> None:
    pair = issue("a.test")
    ca = tmp_path / "ca.pem"
    route = l7("a.test", pair, backend_ca=str(ca))

    def told() -> list[tuple[bool, str, str]]:
        return [
            (finding.problem, finding.key, str(finding))
            for finding in route_findings(route, known(route), BORN.timestamp())
        ]

    assert told() == [(True, "backend_ca", f"{ca} can't be read: No such file or directory; check its path")]
    for content, says in (
        (b"", "it is empty; write it again"),
        (b"junk", "it has no line -----BEGIN CERTIFICATE-----; is this the right file?"),
        (Path(pair[1]).read_bytes(), "it holds a block PRIVATE KEY instead; is this the right file?"),
    ):
        ca.write_bytes(content)
        assert told() == [(True, "backend_ca", f"{ca} holds no CA certificate in PEM form: {says}")]
    ca.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    ((_, _, message),) = told()
    assert "what it holds is damaged" in message
    ca.write_bytes(Path(pair[0]).read_bytes())
    assert told() == []


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("bits", [1024, 2048])
def test_files_that_have_not_changed_are_only_looked_at_be_they_good_or_bad(
    bits: int, issue: Issue, tmp_path: Path, disk: Disk
) -> None:
    (tmp_path / "ca.pem").write_text("junk")
    pair = issue("a.test", key=rsa.generate_private_key(65537, bits))
    route = l7("a.test", pair, backend_ca=str(tmp_path / "ca.pem"))
    first = list(survey([route], BORN.timestamp()))
    assert [finding.key for _, finding in first] == (["tls_cert"] if bits == 1024 else []) + ["backend_ca"]
    disk.calls.clear()
    assert list(survey([route], BORN.timestamp())) == first
    assert disk.calls == {("stat", "chain.pem"): 1, ("stat", "key.pem"): 1, ("stat", "ca.pem"): 1}


@pytest.mark.parametrize(
    ("call", "number"),
    [("stat", errno.EACCES), ("stat", errno.EIO), ("open", errno.EACCES), ("open", errno.EMFILE)],
)
def test_a_file_that_could_not_be_read_is_read_again(call: str, number: int, issue: Issue, disk: Disk) -> None:
    chain, key = issue("a.test")
    route = l7("a.test", (chain, key), backend_ca=chain)
    disk.fails = {(call, chain): number, (call, key): number}
    read = known(route)
    assert isinstance(read, Finding)
    assert (read.problem, read.key) == (True, "tls_cert")
    assert read.message.startswith(f"{chain} can't be read: {os.strerror(number)}; ")
    assert read.message == f"{ca_problem(chain)}; and {ca_problem(key)}", "both of the pair"
    del disk.fails[call, chain]
    read = known(route)
    assert isinstance(read, Finding)
    assert read.key == "tls_key"
    disk.fails.clear()
    assert isinstance(known(route), Certificate)
    assert ca_problem(chain) == ""


def test_a_file_that_is_gone_is_not_remembered_by_what_it_held(issue: Issue) -> None:
    chain, key = issue("a.test")
    route = l7("a.test", (chain, key))
    assert isinstance(known(route), Certificate)
    Path(chain).rename(chain + ".away")
    assert isinstance(known(route), Finding)
    assert "can't be read: No such file or directory; check its path" in ca_problem(chain)


def test_a_file_rewritten_in_place_with_its_old_time_is_read_again(issue: Issue) -> None:
    chain, key = issue("a.test")
    good = Path(chain).read_bytes()
    before = Path(chain).stat()
    route = l7("a.test", (chain, key))

    def write(content: bytes) -> None:
        old = Path(chain).stat()
        while Path(chain).stat().st_ctime_ns == old.st_ctime_ns:  # the kernel's clock for files ticks slowly
            Path(chain).write_bytes(content)
            os.utime(chain, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (Path(chain).stat().st_mtime_ns, Path(chain).stat().st_size) == (before.st_mtime_ns, before.st_size)

    write(b"#" * len(good))
    assert isinstance(known(route), Finding)
    assert "holds no CA certificate" in ca_problem(chain)
    write(good)
    assert isinstance(known(route), Certificate)
    assert ca_problem(chain) == ""


def test_openssl_may_fail_to_read_what_was_just_read(issue: Issue, tmp_path: Path) -> None:
    class Busy:
        def load_verify_locations(self, _path: str) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    chain, key = issue("a.test")
    with pytest.raises(Unreadable, match="Too many open files") as caught:
        trust(Busy(), chain)  # type: ignore[arg-type]
    assert caught.value.key == "backend_ca"
    absent = str(tmp_path / "absent")
    with pytest.raises(Unreadable, match=f"{absent} or {key} can't be read: No such file or directory; check its path"):
        fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), absent, key)


def test_two_files_that_are_not_there_are_both_named(issue: Issue, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem"), str(tmp_path / "absent.key")
    with pytest.raises(
        Unreadable, match=r"absent.pem can't be read: No such.*; and .*absent.key can't be read: No such"
    ):
        tried(*absent)
    found = known(l7("a.test", absent))
    assert isinstance(found, Finding)
    assert found.message.count("can't be read") == 2
    chain, _ = issue("a.test")
    found = known(l7("a.test", (chain, absent[1])))
    assert isinstance(found, Finding)
    assert found.key == "tls_key"


def test_a_survey_tells_of_a_backends_ca_beside_the_certificate(issue: Issue, tmp_path: Path) -> None:
    route = l7("a.test", issue("b.test"), backend_ca=str(tmp_path / "absent"))
    assert [(name, finding.key) for name, finding in survey([route], BORN.timestamp())] == [
        ("a.test", "tls_cert"), ("a.test", "backend_ca"),
    ]  # fmt: skip


def test_the_common_name_is_no_name(issue: Issue) -> None:
    loaded = load(*issue())
    assert loaded.names == ()
    (finding,) = findings(loaded, "common.test", BORN.timestamp())
    assert finding.problem
    assert "is for no host name at all, not for common.test" in finding.message


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("one.test", True), ("two.test", False), ("a.wild.test", True), ("a.b.wild.test", False), ("wild.test", False),
        ("test", False), ("*.wild.test", True),
    ],
)  # fmt: skip
def test_wildcards_cover_one_label(name: str, covered: bool) -> None:
    assert certificate("one.test", "*.wild.test").covers(name) is covered


@pytest.mark.parametrize(
    ("at", "problem", "says"),
    [
        (DIES.timestamp(), True, "x.pem expired on 2026-04-01 00:00 UTC; renew it"),
        (BORN.timestamp() - 1, True, "x.pem is not valid before 2026-01-01 00:00 UTC"),
        (DIES.timestamp() - 13.5 * DAY, False, "x.pem expires on 2026-04-01 00:00 UTC, in 13.5 days"),
    ],
)
def test_dates(at: float, problem: bool, says: str) -> None:
    (finding,) = findings(certificate("one.test"), "one.test", at)
    assert finding.problem is problem
    assert str(finding).startswith(says)


def test_fourteen_days_are_enough() -> None:
    assert not list(findings(certificate("one.test"), "one.test", DIES.timestamp() - 14 * DAY))


def test_certificates_that_cover_each_others_names() -> None:
    routes = {
        "a.test": certificate("a.test", "b.test", path="ab.pem"),
        "b.test": certificate("b.test", path="b.pem"),
        "c.wild.test": certificate("*.wild.test", path="wild.pem"),
        "d.wild.test": certificate("*.wild.test", path="wild.pem"),
        "e.f.wild.test": certificate("e.f.wild.test", path="e.pem"),
    }
    told = {hostname: str(finding) for hostname, finding in coalescing(routes, routes)}
    assert set(told) == {"a.test", "c.wild.test", "d.wild.test"}
    assert told["a.test"].startswith("ab.pem, the certificate of a.test, also covers b.test: browsers")
    assert "also covers d.wild.test:" in told["c.wild.test"]


def test_both_directions_are_told_of_one_route_each_once_and_naming_both() -> None:
    both = {"a.test": certificate("a.test", "b.test"), "b.test": certificate("b.test", "a.test", "c.test")}
    for about in both:
        told = {hostname: str(finding) for hostname, finding in coalescing(both, [*both, "c.test"], about)}
        assert set(told) == {"a.test", "b.test"}
        assert "the certificate of a.test, also covers b.test:" in told["a.test"]
        assert "the certificate of b.test, also covers a.test" in told["b.test"]
    assert "covers a.test, c.test:" in told["b.test"], "of the route itself, all that its certificate covers"
    one_way = {**both, "b.test": certificate("b.test")}
    assert [hostname for hostname, _ in coalescing(one_way, one_way, "b.test")] == ["a.test"]
    assert not list(coalescing(one_way, [*one_way, "x.test"], "x.test")), "what is between others is not told"


def test_an_l4_route_is_covered_too() -> None:
    l7 = {"a.test": certificate("a.test", "*.wild.test", "raw.wild.test", "*.", path="a.pem")}
    for about in ("", "a.test", "raw.wild.test"):
        ((hostname, finding),) = coalescing(l7, ["a.test", "raw.wild.test", "deep.raw.wild.test"], about)
        assert (hostname, finding.problem, finding.lasting) == ("a.test", False, True)
        assert str(finding) == (
            "a.pem, the certificate of a.test, also covers raw.wild.test: browsers will send requests for it over a"
            " connection to a.test and be answered 421 first; give a.test a certificate of its own"
        )


def test_thousands_that_share_a_wildcard_are_told_of_quickly() -> None:
    wild = certificate("*.wild.test")
    names = [f"n{i}.wild.test" for i in range(5000)]
    told = [str(finding) for _, finding in coalescing(dict.fromkeys(names, wild), names)]
    assert len(told) == 5000
    assert all(len(text) < 500 and " and 4994 more" in text for text in told)


def test_many_names_are_not_all_listed() -> None:
    names = tuple(f"n{i}.test" for i in range(8))
    ((hostname, finding), *_) = coalescing({name: certificate(*names) for name in names}, names)
    assert hostname == "n0.test"
    assert "n1.test, n2.test, n3.test, n4.test, n5.test and 2 more" in str(finding)


def test_a_survey_tells_everything_of_a_listener(issue: Issue, tmp_path: Path) -> None:
    chain, key = issue("a.test", "b.test")
    backend = Backend("127.0.0.1", 1)
    routes = [
        Route("a.test", backend, Mode.L7, chain, key),
        Route("b.test", backend, Mode.L7, chain, key),
        Route("c.test", backend, Mode.L7, str(tmp_path / "absent"), key),
        Route("d.test", backend),
        Route("e.test", backend),
    ]
    told = list(survey(routes, DIES.timestamp()))
    assert [(name, finding.problem) for name, finding in told] == [
        ("a.test", True), ("b.test", True), ("c.test", True), ("a.test", False), ("b.test", False),
    ]  # fmt: skip
    assert "expired" in str(told[0][1])
    assert "absent can't be read" in str(told[2][1])
    assert "also covers b.test" in str(told[3][1])
