"""Obstacles to a start on this machine."""

import grp
import os
import resource
import socket
from collections.abc import Collection
from pathlib import Path

import pytest

from mcproxy.check.files import check_files
from mcproxy.check.loaded import load
from mcproxy.check.places import check_addresses, check_descriptors, check_places, few_descriptors
from mcproxy.configuration import Config
from mcproxy.net.shared import RESERVED_DESCRIPTORS
from tests.check.conftest import Parse
from tests.kit.peers import free_port


def test_places_that_can_not_be_written_to_are_problems(parse: Parse, tmp_path: Path) -> None:
    def told(path: str, addr: str) -> dict[str, str]:
        checked = check_places(parse({"database": {"path": path}, "grpc": {"addr": addr}}))
        return {each.key: each.message for each in checked if each.serious}

    (tmp_path / "folder").mkdir()
    assert told("folder/x.db", "unix:folder/a.sock") == {}
    missing = f"there is no folder {tmp_path}/no: make it, for mcproxy's user to write in"
    assert told("no/x.db", "unix:no/a.sock") == {"database.path": missing, "grpc.addr": missing}
    assert "is a folder" in told("folder", "unix:a.sock")["database.path"]
    deeper = "/run/mcproxy-never/deeper"
    assert told("x.db", f"unix:{deeper}/a.sock")["grpc.addr"].startswith(f"there is no folder {deeper}:")
    (tmp_path / "file").touch()
    assert told("x.db", "unix:file")["grpc.addr"].startswith(f"{tmp_path}/file exists and is not a socket")


def test_snapshots_with_keys_that_others_may_read_are_warned_of(parse: Parse, tmp_path: Path) -> None:
    copy = tmp_path / "x-20261129T014412Z.db"
    copy.touch(0o644)
    document = {"database": {"path": "x.db"}}
    assert list(check_places(parse(document))) == [], "without ACME it holds no keys"
    (found,) = check_places(parse({**document, "acme": {"accept_terms": True}}))
    assert (found.key, found.serious) == ("database.path", False)
    assert found.message.startswith(f"{copy} holds keys, and others than its owner may use it: chmod 600")


def test_a_folder_that_systemd_makes_at_the_start_is_not_missing_before(parse: Parse) -> None:
    (found,) = check_places(parse({"grpc": {"addr": "unix:/run/mcproxy-never/admin.sock"}}))
    assert not found.serious
    assert str(found) == (
        "grpc.addr: there is no /run/mcproxy-never yet: systemd makes it at the start; without systemd, put the socket "
        "beside the database, where mcproxy's user may write"
    )


def test_the_members_of_a_group_need_a_way_to_the_socket(tmp_path: Path, parse: Parse) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)

    def told() -> list[str]:
        parsed = parse({"grpc": {"addr": f"unix:{folder}/a.sock", "group": group}})
        assert not list(check_files(parsed))
        return [str(each) for each in check_places(parsed) if str(folder) in each.message and not each.serious]

    assert told() == [
        f"grpc.group: its members can't pass the folder {folder}: chgrp {group} {folder} && chmod g+x {folder}"
    ]
    folder.chmod(0o710)
    assert not told()


def addresses(parsed: Config, running: Collection[str] | None) -> list[str]:
    loaded, _ = load(parsed)
    found = check_addresses(parsed, loaded, lambda: running)
    return [f"{'' if each.serious else 'warning: '}{each}" for each in found]


def never() -> Collection[str]:
    raise AssertionError("nobody needs to be asked")


def test_addresses_that_are_free(parse: Parse) -> None:
    parsed = parse({"listeners": [{"addr": f"127.0.0.1:{free_port()}"}, {"addr": "[::1]:0"}]})
    loaded, _ = load(parsed)
    assert list(check_addresses(parsed, loaded, never)) == []


def test_an_address_that_somebody_else_has(parse: Parse) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        parsed = parse({"listeners": [{"addr": f"127.0.0.1:{free_port()}"}, {"addr": addr}]})
        for running in (None, [], ["127.0.0.1:1"]):
            (told,) = addresses(parsed, running)
            assert told.startswith(f"warning: listeners[1].addr: can't listen on {addr}: in use by ")
            assert told.endswith("); stop that before the start, or change the address")
        assert addresses(parsed, [addr]) == [], "a running server of ours has it"


def test_an_address_of_the_admin_api(parse: Parse) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        addr = f"127.0.0.1:{taken.getsockname()[1]}"
        parsed = parse({"grpc": {"addr": addr, "tls_cert": "c.pem", "tls_key": "c.pem"}})
        (told,) = addresses(parsed, None)
        assert told.startswith(f"warning: grpc.addr: can't listen on {addr}: in use by ")
        assert addresses(parsed, []) == [], "the server that answers there has it, though it has no listener"


def test_an_address_that_this_machine_has_not(parse: Parse) -> None:
    parsed = parse({"listeners": [{"addr": "192.0.2.1:443"}]})
    told = "listeners[0].addr: can't listen on 192.0.2.1:443: this machine has no such address"
    assert addresses(parsed, None) == [told]
    fleet = {"url": "postgresql://127.0.0.1:1/mcproxy", "cache": "x.db"}
    parsed = parse({"database": fleet, "listeners": [{"addr": "192.0.2.1:443"}]})
    assert addresses(parsed, None) == [f"warning: {told}"], "a node of a fleet starts without it"


def test_more_connections_than_descriptors(parse: Parse) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this user may have as many as there are")
    assert list(check_descriptors(parse({"proxy": {"max_connections": (hard - RESERVED_DESCRIPTORS) // 2}}))) == []
    assert list(check_descriptors(parse({}))) == [], "without a limit there is nothing to compare"
    (found,) = check_descriptors(parse({"proxy": {"max_connections": hard // 2}}))
    assert not found.serious
    assert (
        f"{hard // 2} connections need {hard // 2 * 2 + RESERVED_DESCRIPTORS} descriptors, and the limit here is {hard}"
        in str(found)
    )


def test_descriptors_for_hardly_a_client() -> None:
    """A server served nobody, and neither its start nor its check said so."""
    (found,) = few_descriptors(64)
    assert not found.serious
    assert "the limit of 64 file descriptors leaves room for no connection: " in str(found)
    (found,) = few_descriptors(RESERVED_DESCRIPTORS + 10)
    assert "leaves room for 5 connections: " in str(found)
    assert list(few_descriptors(RESERVED_DESCRIPTORS + 200)) == []
