"""Real programs on either side: curl and h2load as clients, nghttpd and nginx as backends."""

import hashlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcproxy.l7.core import ExchangeEnd
from tests.kit.http2_peer import HOST
from tests.kit.l7_proxy import Server
from tests.kit.peers import Authority, free_port, until

NGHTTPD, H2LOAD, CURL = (shutil.which(name) or name for name in ("nghttpd", "h2load", "curl"))
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
BIG = bytes(range(256)) * 16_384  # 4 MiB
NGINX_CONF = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} http2; root {folder}/www; keepalive_requests 50; }}
}}
"""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=["nghttpd", "nginx"])
def served(
    request: pytest.FixtureRequest, nothing_left: None, tmp_path: Path, authority: Authority
) -> Iterator[Server]:
    """A server of ours before a real one, which serves /small and /big; nginx says GOAWAY every 50 requests."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "small").write_bytes(b"small")
    (tmp_path / "www" / "big").write_bytes(BIG)
    port = free_port()
    if request.param == "nghttpd":
        command = [NGHTTPD, "--no-tls", "-d", str(tmp_path / "www"), "-a", "127.0.0.1", str(port)]
    else:
        (tmp_path / "nginx.conf").write_text(NGINX_CONF.format(folder=tmp_path, port=port))
        command = [NGINX, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: listens(port), f"{request.param} to listen")
    server = Server(authority, port)
    yield server
    server.close()
    program.terminate()
    program.wait()


def curl(server: Server, authority: Authority, path: str, *options: str) -> bytes:
    done = subprocess.run(
        [
            *(CURL, "--silent", "--show-error", "--http2", "--max-time", "20", "--cacert", str(authority.path)),
            *("--resolve", f"{HOST}:{server.port}:127.0.0.1", *options, f"https://{HOST}:{server.port}{path}"),
        ],
        capture_output=True,
        check=True,
    )
    return done.stdout


def test_curl_gets_what_is_there(served: Server, authority: Authority) -> None:
    assert curl(served, authority, "/small") == b"small"
    assert hashlib.sha256(curl(served, authority, "/big")).digest() == hashlib.sha256(BIG).digest()
    head = curl(served, authority, "/big", "--head")
    assert head.startswith(b"HTTP/2 200")
    assert b"content-length: %d" % len(BIG) in head
    assert curl(served, authority, "/none", "--write-out", "%{http_code}", "--output", "/dev/null") == b"404"
    until(lambda: len(served.records) == 4, "4 records")
    assert [(s.status, s.sent) for s in served.records][:3] == [(200, 5), (200, len(BIG)), (200, 0)]


def test_curl_that_says_what_it_may_not(served: Server, authority: Authority) -> None:
    assert curl(served, authority, "/small", "--header", "X-Forwarded-For: 10.0.0.1") == b"small"
    code = ("--write-out", "%{http_code}", "--output", "/dev/null")
    assert curl(served, authority, "/small", "--header", "Host: other.test", *code) == b"421"


@pytest.mark.parametrize(("clients", "streams"), [(1, 1), (5, 10), (1, 100)])
def test_h2load_loses_nothing(served: Server, request: pytest.FixtureRequest, clients: int, streams: int) -> None:
    """With nginx it gets about 50 answers a connection: h2load doesn't repeat what GOAWAY refused."""
    count = 1_000
    command = [H2LOAD, "-n", str(count), "-c", str(clients), "-m", str(streams)]
    url = f"https://{HOST}:{served.port}/small"
    done = subprocess.run(
        [*command, f"--connect-to=127.0.0.1:{served.port}", url], capture_output=True, check=True, text=True, timeout=60
    )
    totals = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    assert totals is not None

    # h2load resets its connections once it has all answers: whether it has the last ones nobody can know then.
    answered = {ExchangeEnd.DONE.value, ExchangeEnd.CLIENT_GONE.value}

    def done_count() -> int:
        return sum(s.end in answered for s in served.records)

    until(lambda: done_count() >= int(totals[1]), "the last record, which is made after its answer is sent")
    assert done_count() == int(totals[1])
    assert {s.end for s in served.records} <= {*answered, ExchangeEnd.REFUSED.value}
    assert int(totals[1]) + int(totals[2]) == count
    assert int(totals[1]) >= (50 * clients if "nginx" in request.node.name else count)
