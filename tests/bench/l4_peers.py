"""The proxies that the stage l4 compares, all with the same job: pass the raw stream of a.test on, on one core.

Each maker writes a configuration into the folder, and returns the command. A line for each connection goes to
/dev/null; Traefik and the Go router write none.
"""

from pathlib import Path

from tests.bench.peers import ROUTER, Job, Maker, envoy_with, mcproxy

MOST = 20_000  # connections
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def haproxy(job: Job) -> list[str]:
    (job.folder / "haproxy.cfg").write_text(
        f"global\n nbthread {job.workers}\n maxconn {MOST // 2 - 1000}\n maxpipes 100\n"
        "defaults\n mode tcp\n timeout client 1m\n timeout server 1m\n timeout connect 5s\n"
        " log stdout format raw local0\n option tcplog\n"
        f"frontend f\n bind 127.0.0.1:{job.port}\n tcp-request inspect-delay 5s\n"
        " tcp-request content accept if { req.ssl_hello_type 1 }\n use_backend b if { req.ssl_sni -i a.test }\n"
        f"backend b\n option splice-auto\n server s 127.0.0.1:{job.backend}\n"
    )
    return ["haproxy", "-f", f"{job.folder}/haproxy.cfg"]


def nginx(job: Job) -> list[str]:
    load = f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""
    (job.folder / "proxy.conf").write_text(
        f"{load} daemon off; master_process off; error_log /dev/null crit;\n"
        f"pid {job.folder}/proxy.pid; events {{ worker_connections {MOST}; }} worker_rlimit_nofile {MOST};\n"
        "stream {\n log_format line '$remote_addr $ssl_preread_server_name $status $bytes_sent $session_time';\n"
        f" access_log /dev/null line; map $ssl_preread_server_name $to {{ a.test 127.0.0.1:{job.backend}; }}\n"
        f" server {{ listen 127.0.0.1:{job.port} backlog=4096; ssl_preread on; proxy_pass $to; }} }}\n"
    )
    return ["nginx", "-p", str(job.folder), "-c", f"{job.folder}/proxy.conf"]


def envoy(job: Job) -> list[str]:
    kinds = "type.googleapis.com/envoy.extensions"
    (job.folder / "envoy.yaml").write_text(f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {job.port} }} }}
    listener_filters:
    - name: sni
      typed_config: {{ "@type": {kinds}.filters.listener.tls_inspector.v3.TlsInspector }}
    filter_chains:
    - filter_chain_match: {{ server_names: [a.test] }}
      filters:
      - name: pass
        typed_config:
          "@type": {kinds}.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: p
          cluster: b
          access_log:
          - name: file
            typed_config: {{ "@type": {kinds}.access_loggers.file.v3.FileAccessLog, path: /dev/null }}
  clusters:
  - name: b
    connect_timeout: 5s
    circuit_breakers: {{ thresholds: [{{ max_connections: {MOST} }}] }}
    load_assignment:
      cluster_name: b
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {job.backend} }} }} }}
""")
    return envoy_with(job)


def traefik(job: Job) -> list[str]:
    (job.folder / "routes.yaml").write_text(
        "tcp:\n  routers:\n"
        "    a: { rule: 'HostSNI(`a.test`)', service: b, entryPoints: [e], tls: { passthrough: true } }\n"
        f"  services:\n    b: {{ loadBalancer: {{ servers: [ {{ address: '127.0.0.1:{job.backend}' }} ] }} }}\n"
    )
    (job.folder / "traefik.yaml").write_text(
        f"entryPoints: {{ e: {{ address: '127.0.0.1:{job.port}' }} }}\nlog: {{ level: ERROR }}\n"
        f"providers: {{ file: {{ filename: {job.folder}/routes.yaml }} }}\nglobal: {{ sendAnonymousUsage: false }}\n"
    )
    return ["env", f"GOMAXPROCS={job.workers}", "traefik", f"--configfile={job.folder}/traefik.yaml"]


def go(job: Job) -> list[str]:
    router = str(ROUTER.absolute())
    return ["env", f"GOMAXPROCS={job.workers}", router, f"127.0.0.1:{job.port}", f"127.0.0.1:{job.backend}"]


MAKERS: dict[str, Maker] = {
    "mcproxy": mcproxy, "mcproxy-compiled": mcproxy, "haproxy": haproxy, "nginx": nginx, "envoy": envoy,
    "traefik": traefik, "go": go,
}  # fmt: skip
