"""Country databases: written here, read, broken in every way, and rewritten under the reader."""

import fcntl
import gc
import os
import random
import stat
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import maxminddb
import pytest

from mcproxy import geoip
from mcproxy.geoip import Copy, GeoIP, GeoIPError
from mcproxy.policy.networks import pack
from tests.kit.geoip_files import located, write_database
from tests.kit.hub import messages

NETWORKS = {
    "1.0.0.0/24": located("AU"),
    "192.0.2.0/25": located("DE"),
    "192.0.2.128/25": located("FR"),
    "203.0.113.0/24": {"registered_country": {"iso_code": "NL"}},
    "198.51.100.0/24": {"country": {"iso_code": "BE"}, "registered_country": {"iso_code": "NL"}},
    "2001:db8::/32": located("SE"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_database(tmp_path / "country.mmdb", NETWORKS)


Open = Callable[[Path], GeoIP]


@pytest.fixture(params=[True, False], ids=["c", "python"])
def opens(request: pytest.FixtureRequest) -> Open:
    """Opens a database by either reader."""
    return partial(GeoIP.open, in_c=request.param)


def descriptors() -> set[str]:
    return set(map(str, Path("/proc/self/fd").iterdir()))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:geoip")


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("1.0.0.1", "AU"),
        ("192.0.2.127", "DE"),
        ("192.0.2.128", "FR"),
        ("::ffff:192.0.2.128", "FR"),
        ("203.0.113.9", "NL"),
        ("198.51.100.9", "BE"),
        ("2001:db8:5::1", "SE"),
        ("192.0.3.0", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("2001:db9::1", None),
    ],
)
def test_country(opens: Open, path: Path, address: str, code: str | None) -> None:
    assert opens(path).country(pack(address)) == code


def test_agrees_with_the_networks_that_were_written(opens: Open, tmp_path: Path) -> None:
    chance = random.Random(7)
    written = {
        f"{a}.{chance.randrange(256)}.{chance.randrange(256)}.0/24": f"{chance.choice('ABC')}X" for a in range(1, 200)
    }
    opened = opens(write_database(tmp_path / "x.mmdb", {net: located(code) for net, code in written.items()}))
    for network, code in written.items():
        edge = ip_network(network)
        assert opened.country(edge[0].packed) == opened.country(edge[-1].packed) == code
        assert opened.country(ip_address(int(edge[-1]) + 1).packed) == written.get(f"{edge[-1] + 1}/24")


def test_knows_its_origin(path: Path) -> None:
    opened = GeoIP.open(str(path))
    assert opened.path == path
    assert opened.kind == "Test-Country"
    assert opened.built_at == maxminddb.open_database(path).metadata().build_epoch
    assert repr(opened) == f"<GeoIP {path} Test-Country built_at={opened.built_at} failed=0>"


def test_an_ipv4_database_knows_no_ipv6_country(opens: Open, tmp_path: Path) -> None:
    opened = opens(write_database(tmp_path / "v4.mmdb", {"192.0.2.0/24": located("DE")}, ip_version=4))
    assert opened.country(pack("192.0.2.1")) == "DE"
    assert opened.country(pack("2001:db8::1")) is None
    assert opened.failed == 0


def test_one_small_network_is_country_data_enough(opens: Open, tmp_path: Path) -> None:
    for network in ("100.64.77.3/32", "2001:db8:1:2::/64"):
        opened = opens(write_database(tmp_path / "one.mmdb", {network: located("DE")}))
        assert opened.country(ip_network(network)[0].packed) == "DE"


def test_rewritten_in_place_while_open(opens: Open, path: Path) -> None:
    opened = opens(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(os.urandom(size))
        file.flush()
        assert [opened.country(pack(address)) for address in ("1.0.0.1", "192.0.2.1")] == ["AU", "DE"]
        file.truncate(0)
    assert opened.country(pack("2001:db8::1")) == "SE"
    path.unlink()
    assert opened.country(pack("192.0.2.200")) == "FR"
    assert opened.failed == 0


def test_a_file_that_changes_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def appended_meanwhile(descriptor: int) -> os.stat_result:
        answer = real(descriptor)
        with path.open("ab") as file:
            file.write(b"\0")
        return answer

    monkeypatch.setattr(os, "fstat", appended_meanwhile)
    with pytest.raises(GeoIPError, match="is being written; try again"):
        GeoIP.open(path)


def test_neither_descriptor_nor_mapping_is_left(path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mmdb"
    broken.write_bytes(b"\xff" * 4096 + path.read_bytes()[-400:])
    gc.collect()
    before, mapped = descriptors(), mappings()
    opened = GeoIP.open(path)
    assert descriptors() == before
    assert mappings() == mapped + 1
    del opened
    assert mappings() == mapped
    for bad in (tmp_path / "missing", tmp_path, broken):
        with pytest.raises(GeoIPError):
            GeoIP.open(bad)
    gc.collect()
    assert descriptors() == before
    assert mappings() == mapped


def test_closed(opens: Open, path: Path) -> None:
    opened = opens(path)
    assert opened.country(pack("1.0.0.1")) == "AU"
    opened.close()
    opened.close()
    assert opened.country(pack("1.0.0.1")) is None
    assert opened.failed == 0
    assert repr(opened).endswith(" closed>")


def test_the_copy_is_sealed(path: Path) -> None:
    descriptor = geoip._sealed(path.read_bytes())
    assert descriptor is not None
    try:
        for change in (lambda: os.pwrite(descriptor, b"x", 0), lambda: os.ftruncate(descriptor, 0)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(descriptor)


def refuse(*_arguments: object) -> int:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize(("module", "name"), [(os, "memfd_create"), (fcntl, "fcntl")])
def test_a_sandbox_without_anonymous_files_gets_the_python_reader(
    path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    before = descriptors()
    monkeypatch.setattr(module, name, refuse)
    opened = GeoIP.open(path)
    assert isinstance(opened._reader, maxminddb.Reader)
    assert opened.country(pack("1.0.0.1")) == "AU"
    assert descriptors() == before


def test_answers_are_remembered_within_bounds(path: Path) -> None:
    opened = GeoIP(path, maxminddb.open_database(path), most_cached=16)
    for number in range(1000):
        opened.country(number.to_bytes(4, "big"))
    cached = opened._cached
    assert cached.cache_info().currsize == 16  # type: ignore[attr-defined]


# Broken files: each is refused with a sentence of its own.


def missing(path: Path) -> Path:
    return path / "nowhere"


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def content(data: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return make


def huge(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(geoip.MAX_BYTES + 1)
    return path


def network_operators(path: Path) -> Path:
    return write_database(path, {"192.0.2.0/24": {"autonomous_system_number": 64496}}, kind="Test-ASN")


def odd_records(path: Path) -> Path:
    return write_database(path, {"192.0.2.0/24": {"country": "DE"}, "1.0.0.0/24": {"country": {"iso_code": 49}}})


def no_records(path: Path) -> Path:
    return write_database(path, {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "does not exist; download"),
        (directory, "is not a regular file; name the .mmdb file itself"),
        (pipe, "is not a regular file"),
        (huge, "is larger than any country database; correct the path"),
        (content(b""), "is empty"),
        (content(b"\x1f\x8b" + bytes(500)), "is compressed; unpack it"),
        (content(b"<html>404</html>" * 99), "is not a MaxMind DB"),
        (content(b"\xab\xcd\xefMaxMind.com"), "is damaged; download it again"),
        (content(bytes(500) + b"\xab\xcd\xefMaxMind.com" + bytes(500)), "is damaged"),
        (network_operators, 'has no country data .its type is "Test-ASN".'),
        (odd_records, "has no country data"),
        (no_records, "has no country data"),
    ],
)
def test_a_file_that_is_no_country_database(
    opens: Open, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path / "file")
    with pytest.raises(GeoIPError, match=message) as caught:
        opens(path)
    assert str(caught.value).startswith(f"{path} ")


def test_a_symbolic_link_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(GeoIPError, match="can't be read"):
        GeoIP.open(tmp_path / "loop")


def test_no_permission(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.chmod(stat.S_IWUSR)
    if os.geteuid() == 0:  # whom permissions don't bind
        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(GeoIPError, match="give the user that runs mcproxy permission"):
        GeoIP.open(path)


def test_cut_short_anywhere(opens: Open, path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    cut = tmp_path / "cut.mmdb"
    for length in {*range(0, len(whole), len(whole) // 50), *range(len(whole) - 40, len(whole))}:
        cut.write_bytes(whole[:length])
        with pytest.raises(GeoIPError, match=r"is empty|is not a MaxMind DB|is damaged"):
            opens(cut)


def damaged(whole: bytes, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(chance.choice([1, 2, 30])):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        yield bytes(broken)


def test_damage_is_found_on_opening_or_costs_only_the_country(opens: Open, path: Path, tmp_path: Path) -> None:
    broken, refused = tmp_path / "broken.mmdb", 0
    for data in damaged(path.read_bytes(), seed=11):
        broken.write_bytes(data)
        try:
            opened = opens(broken)
        except GeoIPError:
            refused += 1
            continue
        for network in NETWORKS:
            code = opened.country(ip_network(network)[1].packed)
            assert code is None or isinstance(code, str)
    assert 0 < refused < 150


@pytest.mark.parametrize("whole", [{7: "DE"}, {"country": [{"iso_code": {b"x": 1}}]}])
def test_keys_that_are_no_text_are_damage(path: Path, monkeypatch: pytest.MonkeyPatch, whole: object) -> None:
    monkeypatch.setattr(maxminddb.Reader, "get", lambda *_: whole)
    with pytest.raises(GeoIPError, match=r"is damaged; download it again .a key is not a string."):
        GeoIP.open(path)


def test_damage_behind_the_probes_is_counted_and_harms_nobody(path: Path) -> None:
    class Damaged:
        metadata = maxminddb.open_database(path).metadata

        def get(self, _address: str) -> None:
            raise maxminddb.InvalidDatabaseError("bad data")

    opened = GeoIP(path, Damaged())  # type: ignore[arg-type]
    with messages() as logged:
        assert [opened.country(pack("1.0.0.1")) for _ in range(3)] == [None] * 3
    (told,) = logged
    assert told.endswith("is damaged: some addresses have no country; download it again (bad data)")
    assert opened.failed == 3
    assert "failed=3" in repr(opened)


@pytest.mark.parametrize("in_c", [True, False], ids=["c", "python"])
def test_a_copy_is_opened_without_the_disk(path: Path, in_c: bool) -> None:
    before = descriptors()
    copy = Copy.make(path)
    path.unlink()
    opened = [GeoIP.of(copy, in_c) for _ in range(2)]
    copy.close()
    assert descriptors() == before
    assert [each.country(pack("1.0.0.1")) for each in opened] == ["AU", "AU"]
    assert (opened[0].path, opened[0].kind) == (path, "Test-Country")
    for each in opened:
        each.close()


def test_a_broken_database_has_no_copy(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    before = descriptors()
    with pytest.raises(GeoIPError, match="download it again"):
        Copy.make(path)
    assert descriptors() == before
