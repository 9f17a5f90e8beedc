"""Certificates of routes: what is wrong with them, in sentences."""

import errno
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mcproxy.certificates import pem
from mcproxy.certificates.judge import (
    Finding,
    ca_problem,
    coalescing,
    findings,
    known,
    route_findings,
    survey,
)
from mcproxy.certificates.pem import Certificate, Unreadable
from mcproxy.model import Backend, Mode, Route
from tests.certificates.conftest import Issue
from tests.kit.certificate_files import BORN, DIES, Disk

DAY = 86_400.0


def certificate(*names: str, path: str = "x.pem") -> Certificate:
    return Certificate(path, names, BORN.timestamp(), DIES.timestamp(), "")


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


def test_two_files_that_are_not_there_are_both_named(issue: Issue, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem"), str(tmp_path / "absent.key")
    with pytest.raises(
        Unreadable, match=r"absent.pem can't be read: No such.*; and .*absent.key can't be read: No such"
    ):
        pem.load(*absent)
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
    loaded = pem.load(*issue())
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
        (DIES.timestamp(), True, "x.pem expired on 2026-04-01 00:00:00Z; renew it"),
        (BORN.timestamp() - 1, True, "x.pem is not valid before 2026-01-01 00:00:00Z"),
        (DIES.timestamp() - 13.5 * DAY, False, "x.pem expires on 2026-04-01 00:00:00Z, in 13.5 days"),
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
