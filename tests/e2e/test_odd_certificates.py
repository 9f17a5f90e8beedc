"""Certificates that OpenSSL takes are served, however odd; and what is wrong with a chain is said by `check`.

Each kind of ODD made its route unusable, with the advice to copy the file again, while nginx and HAProxy served it.
"""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.conftest import MakeProxy
from tests.kit.odd_certificates import ODD, certificate, name, write
from tests.kit.peers import Authority, connect, free_port
from tests.kit.program import environment, write_config

UNREAD = sorted(set(ODD) - {"BEGIN TRUSTED CERTIFICATE"})  # of these, cryptography reads no names


def l7(path: Path, host: str = "a.test", **more: str) -> dict[str, str]:
    return {
        "hostname": host,
        "backend": "127.0.0.1:1",
        "mode": "l7",
        "tls_cert": str(path),
        "tls_key": str(path),
        **more,
    }


def check(folder: Path, *routes: dict[str, str]) -> tuple[int, str]:
    """The status of `mcproxy check`, and what it says."""
    listeners = [{"addr": f"127.0.0.1:{free_port()}", "routes": list(routes)}]
    path = write_config(folder, {"listeners": listeners})
    command = [sys.executable, "-m", "mcproxy", "check", "-c", str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("odd", ODD)
def test_what_openssl_takes_is_served(odd: str, proxy: MakeProxy, tmp_path: Path) -> None:
    path = write(tmp_path / "odd.pem", odd, "a.test")
    running = proxy({"listeners": [{"addr": "127.0.0.1:0", "routes": [l7(path)]}]})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(connect(running.port), server_hostname="a.test") as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 502")
    status = running.app.plane.status()
    assert status.problems == []
    assert bool(status.certificates[0].unread) is (odd in UNREAD)
    addr, route = next(
        (a, r) for a, t in running.app.worker.shared.live.table.listeners.items() for r in t.routes.values()
    )
    serving = running.app.plane.would_serve(addr, route)
    assert (serving.refusal, serving.rejections) == ("", [])
    assert bool(serving.notes) is (odd in UNREAD)


def test_check_warns_of_what_it_can_not_read_and_of_nothing_else(tmp_path: Path) -> None:
    hosts = {odd: f"n{i}.test" for i, odd in enumerate(ODD)}
    status, said = check(
        tmp_path, *(l7(write(tmp_path / f"{host}.pem", odd, host), host) for odd, host in hosts.items())
    )
    assert status == 0, said
    for odd, host in hosts.items():
        told = f"{tmp_path}/{host}.pem can be used for TLS, but its names"
        assert (told in said) is (odd in UNREAD), odd
    assert "damaged" not in said
    assert "expire" not in said


def chain(path: Path, *parts: trustme.Blob) -> Path:
    for part in parts:
        part.write_to_path(str(path), append=True)
    return path


def test_check_looks_at_chains_and_cas(tmp_path: Path) -> None:
    """It was silent about all of these, and nginx's users find them by a client's complaint."""
    root = trustme.CA(organization_name="Root")
    middle = root.create_child_ca()
    other = trustme.CA(organization_name="Other")
    leaf = {name: middle.issue_cert(f"{name}.test") for name in ("good", "rooted", "mixed")}
    files = {
        name: chain(tmp_path / f"{name}.pem", leaf[name].private_key_pem, leaf[name].cert_chain_pems[0], *more)
        for name, more in {
            "good": [middle.cert_pem],
            "rooted": [middle.cert_pem, root.cert_pem],
            "mixed": [middle.cert_pem, other.cert_pem],
        }.items()
    }
    no_ca = chain(tmp_path / "no-ca.pem", leaf["good"].cert_chain_pems[0])
    routes = [l7(path, f"{name}.test") for name, path in files.items()]
    routes[0] |= {"backend_tls": True, "backend_ca": str(no_ca)}  # type: ignore[dict-item]
    status, said = check(tmp_path, *routes)
    assert status == 0, said
    lines = [line for line in said.splitlines() if "routes[" in line]
    assert [line.split("routes[")[1].split(":")[0] for line in lines] == [
        "0].backend_ca", "1].tls_cert", "2].tls_cert",
    ]  # fmt: skip
    ca, rooted, mixed = lines
    assert "no-ca.pem holds no CA: " in ca
    assert "rooted.pem holds the root Root, which clients have or don't trust: remove it" in rooted
    assert "mixed.pem holds a certificate of Other, which has issued none of the others: remove it" in mixed


def test_check_warns_of_a_leaf_without_its_intermediate(tmp_path: Path) -> None:
    path = tmp_path / "alone.pem"
    path.write_bytes(certificate("a.test", issuer=name(b"Our Intermediate")))
    status, said = check(tmp_path, l7(path))
    assert status == 0, said
    assert "alone.pem holds only the server's own certificate, and not that of Our Intermediate" in said


def test_the_authority_of_the_tests_is_a_ca(authority: Authority, tmp_path: Path) -> None:
    pair = authority.pair("a.test")
    path = chain(tmp_path / "a.pem", *map(trustme.Blob, (pair[0].read_bytes(), pair[1].read_bytes())))
    route: dict[str, object] = {**l7(path), "backend_tls": True, "backend_ca": str(authority.path)}
    _, said = check(tmp_path, route)  # type: ignore[arg-type]
    assert "backend_ca" not in said
