"""Pebble, an ACME server for tests, with its DNS server, on ports of the loopback."""

import json
import os
import ssl
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import trustme

from tests.kit.peers import connect, free_port, until


class Pebble:
    """A running server. All names lead to 127.0.0.1."""

    def __init__(self, stack: ExitStack, folder: Path, tls_port: int, **variables: str) -> None:
        """`tls_port` is where it looks at challenges; `variables` are its own, as in PEBBLE_VA_NOSLEEP."""
        if not which("pebble") or not which("pebble-challtestsrv"):
            raise FileNotFoundError("pebble is not installed: apt-get install pebble")
        authority = trustme.CA()
        pair = authority.issue_cert("127.0.0.1")
        self.ca = folder / "pebble-ca.pem"
        self.pair = str(folder / "pebble.pem"), str(folder / "pebble.key")
        authority.cert_pem.write_to_path(str(self.ca))
        pair.cert_chain_pems[0].write_to_path(self.pair[0])
        pair.private_key_pem.write_to_path(self.pair[1])
        self.port, self._management, dns, dns_management = (free_port() for _ in range(4))
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        self._folder = folder
        self._tls_port = tls_port
        self._environment = {
            **os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "20",
            **variables,
        }  # fmt: skip
        self._dns = dns
        flags = subprocess.run(["pebble-challtestsrv", "-h"], capture_output=True, text=True, check=False).stderr
        without_doh = ["-doh", ""] if "-doh " in flags else []  # newer ones have it, and it is on
        self._run(
            stack, "dns", "pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "",
            "-https01", "", "-tlsalpn01", "", "-dns01", f"127.0.0.1:{dns}",
            "-management", f"127.0.0.1:{dns_management}", *without_doh,
        )  # fmt: skip
        self._answers(dns_management)
        self._stack = stack
        self.log = folder / "pebble.log"

    def start(self) -> "Pebble":
        """Begin to answer."""
        config = {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": self.pair[0], "privateKey": self.pair[1],
            "httpPort": free_port(), "tlsPort": self._tls_port, "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }  # fmt: skip
        path = self._folder / "pebble.json"
        path.write_text(json.dumps({"pebble": config}))
        self._process = self._run(
            self._stack, "pebble", "pebble", "-config", str(path), "-dnsserver", f"127.0.0.1:{self._dns}"
        )
        self._answers(self.port)
        return self

    def stop(self) -> None:
        """End it, with all that it knows."""
        self._process.kill()
        self._process.wait()

    def section(self) -> dict[str, object]:
        """[acme] for this server."""
        return {"directory": self.directory, "accept_terms": True, "ca": str(self.ca), "email": "admin@example.org"}

    def orders(self) -> int:
        """How many orders it has made."""
        return self.log.read_text(errors="replace").count(" orders in the db")

    def issued(self) -> int:
        """How many certificates were issued."""
        return self.log.read_text(errors="replace").count("Issued certificate serial")

    def root(self) -> bytes:
        """The certificate of the CA that it issues with, PEM."""
        context = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(f"https://127.0.0.1:{self._management}/roots/0", context=context) as answer:
            return bytes(answer.read())

    def _run(self, stack: ExitStack, log: str, *command: str) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=self._environment)
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process

    @staticmethod
    def _answers(port: int) -> None:
        def is_there() -> bool:
            try:
                connect(port).close()
            except ConnectionRefusedError:
                return False
            return True

        until(is_there, f"a server on port {port}")
