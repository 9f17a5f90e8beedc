"""Real TLS clients reach the backend of the name that they ask for, and no byte is changed on the way."""

import ssl
import subprocess

import pytest

from tests.conftest import MakeBackend, MakeProxy, listener
from tests.kit.peers import DEADLINE, Authority, client_hello, connect, echo, read_all, says, tls

NAMES = ("one.test", "two.test", "three.test")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_python_ssl_reaches_each_name(
    version: ssl.TLSVersion, authority: Authority, backend: MakeBackend, proxy: MakeProxy
) -> None:
    routes = {name: backend(tls(authority.server_context(name), says(name))).address for name in NAMES}
    running = proxy({"listeners": [listener(routes)]})
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    for name in (*NAMES, "ONE.test", "two.TEST."):
        with context.wrap_socket(connect(running.port), server_hostname=name.rstrip(".")) as client:
            assert client.version() == version.name.replace("_", ".")
            client.sendall(b"?")
            assert name.lower().rstrip(".").encode() in read_all(client)
    assert running.connection(sni="three.test")["end"] == "closed"


def test_curl_reaches_each_name(authority: Authority, backend: MakeBackend, proxy: MakeProxy) -> None:
    routes = {name: backend(tls(authority.server_context(name), says(name))).address for name in NAMES}
    running = proxy({"listeners": [listener(routes)]})
    for name in NAMES:
        where = ["--connect-to", f"{name}:443:127.0.0.1:{running.port}", f"https://{name}/"]
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", authority.path, *where],
            capture_output=True, text=True, timeout=DEADLINE, check=True,
        )  # fmt: skip
        assert done.stdout == f"{name}\n"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_sees_the_backends_own_certificate(
    version: str, authority: Authority, backend: MakeBackend, proxy: MakeProxy
) -> None:
    routes = {name: backend(tls(authority.server_context(name), says(name))).address for name in NAMES}
    running = proxy({"listeners": [listener(routes)]})
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", "-servername", "two.test", version,
         "-verify_hostname", "two.test", "-verify_return_error", "-CAfile", authority.path, "-quiet"],
        input="GET / HTTP/1.0\r\n\r\n", capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("two.test\n"), done.stderr


def test_the_stream_is_not_modified(backend: MakeBackend, proxy: MakeProxy) -> None:
    running = proxy({"listeners": [listener({"echo.test": backend(echo).address})]})
    stream = client_hello("echo.test", alpn=("h2", "http/1.1")) + bytes(range(256)) * 100
    with connect(running.port) as client:
        client.sendall(stream)
        client.shutdown(1)
        assert read_all(client) == stream
    line = running.connection(sni="echo.test")
    assert (line["received"], line["sent"], line["end"]) == (str(len(stream)), str(len(stream)), "closed")
    assert line["alpn"] == "h2,http/1.1"
    assert "1.3" in line["tls"]
