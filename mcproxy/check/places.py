"""Obstacles to a start on this machine: folders, the admin socket, addresses, descriptors."""

import errno
import os
import resource
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from mcproxy.admin import entrance
from mcproxy.check import ports
from mcproxy.check.found import Found, warning
from mcproxy.check.loaded import Loaded
from mcproxy.configuration import Config
from mcproxy.model import UNIX_PREFIX, counted
from mcproxy.net.shared import CONNECTION_DESCRIPTORS, RESERVED_DESCRIPTORS
from mcproxy.store import postgres, snapshot, sqlite
from mcproxy.store.acme import open_to_others

RAISE = "raise LimitNOFILE of the unit, or the hard limit (ulimit -Hn)"
FEW_CLIENTS = 100  # connections that a process should have room for, at least
BESIDE = "put the socket beside the database, where mcproxy's user may write"

Running = Callable[[], Collection[str] | None]  # the listeners of a server that answers at [grpc]; None: none does


def check_places(config: Config) -> Iterator[Found]:
    """Obstacles to making the database and the socket."""
    if config.database.url is not None and (lacking := postgres.missing()):
        yield Found("database.url", lacking)
    database, key = config.database.file, config.database.key
    if database.is_dir():
        yield Found(key, f"{database} is a folder; name a file in it")
    else:
        yield from _check_folder(key, Path(os.path.realpath(database)).parent)
        if database.exists() and not os.access(database, os.R_OK | os.W_OK):
            yield Found(key, f"{database} can't be read and written by this user: give it to mcproxy's (chown)")
        yield from _check_privacy(config)
    if config.grpc and config.grpc.addr.startswith(UNIX_PREFIX):
        path = Path(os.path.realpath(config.grpc.addr.removeprefix(UNIX_PREFIX)))
        yield from _check_socket(path)
        if config.grpc.group:
            yield from _check_way(path, config.grpc.group)


def _check_privacy(config: Config) -> Iterator[Found]:
    """Where ACME has its keys: a database that others may use and that the start can't correct, and its snapshots."""
    if config.acme is None:
        return
    mine, database = os.geteuid(), config.database.file
    found = [each for each in sqlite.exposed(database) if mine not in (0, each.stat().st_uid)]
    if found := [*found, *snapshot.exposed(database)]:
        yield warning(config.database.key, open_to_others(found))


def _check_socket(path: Path) -> Iterator[Found]:
    if path.exists() and not path.is_socket():
        yield Found("grpc.addr", f"{path} exists and is not a socket; name another path, or remove it")
    elif path.parent.parent == Path("/run") and not path.parent.exists():  # RuntimeDirectory
        made = f"there is no {path.parent} yet: systemd makes it at the start"
        yield warning("grpc.addr", f"{made}; without systemd, {BESIDE}")
    else:
        yield from _check_folder("grpc.addr", path.parent)


def _check_way(path: Path, group: str) -> Iterator[Found]:
    """Check that the members of a group can reach the socket: they must be able to pass every folder above it."""
    try:
        gid = entrance.group_id(group)
    except entrance.GroupError:
        return  # files.py has it
    for folder in path.parents:
        if folder.is_dir() and not _may_pass(folder.stat(), gid):
            remedy = f"chgrp {group} {folder} && chmod g+x {folder}"
            yield warning("grpc.group", f"its members can't pass the folder {folder}: {remedy}")


def _may_pass(folder: os.stat_result, gid: int) -> bool:
    return bool(folder.st_mode & (stat.S_IXGRP if folder.st_gid == gid else stat.S_IXOTH))


def _check_folder(key: str, folder: Path) -> Iterator[Found]:
    if not folder.is_dir():
        yield Found(key, f"there is no folder {folder}: make it, for mcproxy's user to write in")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Found(key, f"this user can't write in the folder {folder}")


def check_addresses(config: Config, loaded: Loaded | None, running: Running) -> Iterator[Found]:
    """Addresses that can't be listened on, but for those that a running server of ours has."""
    wanted = {addr: loaded.listener(addr) for addr in loaded.table.listeners} if loaded else {}
    if config.grpc and not config.grpc.addr.startswith(UNIX_PREFIX):
        wanted[config.grpc.addr] = "grpc.addr"
    failures = {addr: number for addr in wanted if (number := ports.failure(addr))}
    ours = running() if errno.EADDRINUSE in failures.values() else None
    for addr, number in failures.items():
        is_ours = ours is not None and (addr in ours or wanted[addr] == "grpc.addr")
        if not (is_ours and number == errno.EADDRINUSE):
            found = _unavailable(wanted[addr], addr, number)
            lacks_it = config.database.url is not None and wanted[addr] != "grpc.addr"  # a node starts without it
            yield warning(found.key, found.message) if lacks_it else found


def _unavailable(key: str, addr: str, number: int) -> Found:
    failure = f"can't listen on {addr}"
    if number == errno.EACCES:
        return warning(key, f"this user {failure}: ports below 1024 need CAP_NET_BIND_SERVICE, which the units give")
    if number == errno.EADDRNOTAVAIL:
        return Found(key, f"{failure}: this machine has no such address")
    if number != errno.EADDRINUSE:
        return Found(key, f"{failure}: {os.strerror(number)}")
    return warning(key, _in_use(failure, addr))


def _in_use(failure: str, addr: str) -> str:
    """Name the program that uses it. Only a warning: this server may be about to replace that program."""
    holders = ports.holders(addr)
    names = {each.name for each in holders}
    if not holders:
        return f"{failure}: in use by another user's program, which is fine if that is mcproxy or its socket"
    if names == {ports.SERVICE_MANAGER}:
        return f"systemd listens on {addr}, which is fine if that is mcproxy.socket"
    who = f"{failure}: in use by {', '.join(map(str, holders))}"
    if names == {ports.OURS}:
        return f"{who}, which doesn't answer at [grpc] of this file"
    return f"{who}; stop that before the start, or change the address"


def check_descriptors(config: Config) -> Iterator[Found]:
    """Check that this user may open enough descriptors for clients, and for `max_connections`."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        yield from few_descriptors(hard)
        yield from _check_most(config.proxy.max_connections, hard)


def _check_most(connections: int, limit: int) -> Iterator[Found]:
    needed = CONNECTION_DESCRIPTORS * connections + RESERVED_DESCRIPTORS
    if connections and needed > limit:
        many = f"{connections} connections need {needed} descriptors, and the limit here is {limit}"
        yield warning("proxy.max_connections", f"{many}; {RAISE}")


def few_descriptors(limit: int) -> Iterator[Found]:
    """Warn if a process with so many descriptors serves hardly a client: each worker has as many, and the reserve."""
    room = max(0, limit - RESERVED_DESCRIPTORS) // CONNECTION_DESCRIPTORS
    if room < FEW_CLIENTS:
        clients = counted(room, "connection") if room else "no connection"
        reserve = (
            f"the limit of {limit} file descriptors leaves room for {clients}: {RESERVED_DESCRIPTORS} are reserved"
        )
        yield warning("proxy.max_connections", f"{reserve} for the server itself; {RAISE}")
