"""What `mcproxy check` and a start look at beyond the file itself: what it points to, and where they will write."""

import os
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from mcproxy.admin import doorman
from mcproxy.certificates import judge
from mcproxy.config import Config
from mcproxy.document import Problem
from mcproxy.geoip import GeoIP, GeoIPError
from mcproxy.model import UNIX_PREFIX, counted
from mcproxy.store.diff import FileSeed
from mcproxy.store.errors import StoreError
from mcproxy.store.store import read_table

BESIDE = "put the socket beside the database, where mcproxy's user may write"
ONE_PROCESS = "workers = {}: this version runs one process"


def check_files(config: Config) -> Iterator[Problem]:
    """What is wrong with the files that the configuration names, but for those of the seed's routes."""
    if config.firewall.geoip_db:
        try:
            GeoIP.open(config.firewall.geoip_db).close()
        except GeoIPError as error:
            yield Problem("firewall.geoip_db", str(error))
    if config.grpc:
        yield from _check_pair("grpc.tls", config.grpc.tls_cert, config.grpc.tls_key)
        yield from _check_pair("grpc.client", config.grpc.client_cert, config.grpc.client_key)
        yield from _check_ca("grpc.client_ca", config.grpc.client_ca)
        yield from _check_ca("grpc.server_ca", config.grpc.server_ca)
        yield from _check_group(config.grpc.group)


def _check_group(group: str) -> Iterator[Problem]:
    try:
        if group:
            doorman.group_id(group)
    except doorman.GroupError as error:
        yield Problem("grpc.group", str(error))


def check_places(config: Config) -> Iterator[Problem]:
    """What would keep a start from making its database and its socket."""
    database = Path(config.database.path)
    if database.is_dir():
        yield Problem("database.path", f"{database} is a folder; name a file in it")
    else:
        yield from _check_folder("database.path", database.parent)
        if database.exists() and not os.access(database, os.R_OK | os.W_OK):
            yield Problem("database.path", f"{database} can't be read and written by this user")
    if config.grpc and config.grpc.addr.startswith(UNIX_PREFIX) and not _runtime_directory(config):
        yield from _check_folder("grpc.addr", Path(config.grpc.addr.removeprefix(UNIX_PREFIX)).parent)


def _runtime_directory(config: Config) -> Path | None:
    """The admin socket's folder, where it isn't there because systemd makes it at the start (RuntimeDirectory)."""
    folder = Path(config.grpc.addr.removeprefix(UNIX_PREFIX)).parent if config.grpc else Path()
    return folder if folder.parent == Path("/run") and not folder.exists() else None


def _check_folder(key: str, folder: Path) -> Iterator[Problem]:
    if not folder.is_dir():
        yield Problem(key, f"there is no folder {folder}: make it, for mcproxy's user to write in")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Problem(key, f"this user can't write in the folder {folder}")


def check_seed_files(config: Config) -> Iterator[Problem]:
    """What is wrong with the files of the seed's routes, which matter until the database is seeded."""
    yield from (problem for problem, serious in _check_certificates(config) if serious)


def check_warnings(config: Config) -> Iterator[Problem]:
    """What `mcproxy check` tells of beside that: it works, but not as one would wish, or not for long."""
    if config.proxy.workers != 1:
        yield Problem("proxy.workers", ONE_PROCESS.format(config.proxy.workers))
    if folder := _runtime_directory(config):
        yield Problem(
            "grpc.addr", f"there is no {folder} yet: systemd makes it at the start; without systemd, {BESIDE}"
        )
    yield from _check_way(config)
    yield from (problem for problem, serious in _check_certificates(config) if not serious)
    yield from _check_seed(config)


def _check_way(config: Config) -> Iterator[Problem]:
    """Whether the members of grpc.group can get to the socket: they must be able to pass every folder above it."""
    if not (config.grpc and config.grpc.group):
        return
    try:
        gid = doorman.group_id(config.grpc.group)
    except doorman.GroupError:
        return  # a problem, not a warning
    for folder in Path(config.grpc.addr.removeprefix(UNIX_PREFIX)).parents:
        if folder.is_dir() and not _may_pass(folder.stat(), gid):
            remedy = f"chgrp {config.grpc.group} {folder} && chmod g+x {folder}"
            yield Problem("grpc.group", f"its members can't pass the folder {folder}: {remedy}")


def _may_pass(folder: os.stat_result, gid: int) -> bool:
    return bool(folder.st_mode & (stat.S_IXGRP if folder.st_gid == gid else stat.S_IXOTH))


def _check_seed(config: Config) -> Iterator[Problem]:
    """Whether the file's listeners, routes and rules are what the database has."""
    try:
        table = read_table(Path(config.database.path))
    except (StoreError, ValueError):
        return  # there is none yet, or none that could be compared
    file = FileSeed((config.seed_listeners(table), config.seed_rules()))
    if table.generation and (found := file.differing(table)):
        differs = f"the listeners, routes and rules differ from the database in {counted(found, 'value')}"
        yield Problem("", f"{differs}; the database is in force: mcproxy diff")


def _check_certificates(config: Config) -> Iterator[tuple[Problem, bool]]:
    """What is to be told about the l7 routes' files, and whether it keeps them from working."""
    for i, section in enumerate(config.listeners):
        routes = [each.route() for each in section.routes]
        places = {route.hostname: j for j, route in enumerate(routes)}
        for hostname, finding in judge.survey(routes, time.time()):
            key = f"listeners[{i}].routes[{places[hostname]}].{finding.key}"
            yield Problem(key, finding.message), finding.problem


def _check_pair(prefix: str, certificate: str, private_key: str) -> Iterator[Problem]:
    if not certificate:
        return
    try:
        judge.tried(certificate, private_key)
    except judge.Unusable as error:
        yield Problem(prefix + error.key.removeprefix("tls"), str(error))


def _check_ca(key: str, path: str) -> Iterator[Problem]:
    if not path:
        return
    try:
        judge.trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
    except judge.Unusable as error:
        yield Problem(key, str(error))
