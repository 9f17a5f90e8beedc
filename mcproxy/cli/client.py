"""The connection to a running server, as [grpc] of its configuration file describes it.

What goes wrong ends the program with one sentence and the exit status of the contract: 3 where the server can't be
reached, 1 where it says no.
"""

import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

# The C library prints its own lines about failed handshakes, on top of our one sentence; read when it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.cli.options import FAILED, INVALID, UNREACHABLE, fail, find_config, load_config
from mcproxy.config import GrpcSection
from mcproxy.model import UNIX_PREFIX

TIMEOUT = 15.0  # seconds for one call: longer than the server lets a change wait for others
MAX_ANSWER = 16 << 20  # bytes; the longest answer is the metrics of 1,000 routes, about 1 MB
REFUSED = "mcproxy-refused"  # in the trailing metadata of what the server itself refuses (admin/guard.py)

# What the library says when it can't connect, and what to do about it.
_REMEDIES = {
    "Connection refused": "is `mcproxy server` running?",
    "No such file": "is `mcproxy server` running?",
    "Permission denied": "the socket belongs to another user: run this as root or as that user",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not of the CA in grpc.server_ca",
    "Hostname Verification": "its certificate is not for the name or address in grpc.addr",
    "CERTIFICATE_REQUIRED": "it wants a certificate: set grpc.client_cert and grpc.client_key",
    "alert": "it doesn't accept the certificate in grpc.client_cert",
    "Socket closed": "it closed the connection: check grpc.client_cert, and that this is the address of the admin API",
}


# Fields of requests, in the words of the commands.
_FIELDS = {
    "listener": "--listener",
    "listener.addr": "ADDR",
    "addr": "ADDR",
    "hostname": "HOST",
    "route.hostname": "HOST",
    "route.backend": "BACKEND",
    "value": "VALUE",
}
_MESSAGES = ("listener", "route")  # fields of requests that have fields themselves
# What their sentences call by the keys of the configuration file, in the words of the commands. A key within a
# path is none.
_OPTIONS = (
    (re.compile(r'\bmode = "(l[47])"'), r"--mode \1"),
    (re.compile(r"\b(backend_tls|proxy_protocol) = true"), r"\1"),
    (re.compile(r"(?<!\S)trusted_proxies(\.\d+)?(?=[\s,:;]|$)"), "--trusted-proxy"),
    (
        re.compile(
            r"(?<!\S)(tls_cert|tls_key|backend_tls|backend_ca|backend_server_name|proxy_protocol|send_proxy_protocol"
            r"|max_connections)(?=[\s,:;]|$)"
        ),
        lambda found: "--" + found[1].replace("_", "-"),
    ),
)


class Client:
    """Calls methods of the service by name."""

    def __init__(
        self, stub: Any, address: str, timeout: float = TIMEOUT, failed: Callable[[str, int], NoReturn] = fail
    ) -> None:
        """`failed` gets the sentence and the exit status of what goes wrong."""
        self._stub = stub
        self._failed = failed
        self._address = address
        self._timeout = timeout

    def call(self, method: str, request: Any, remedies: Mapping[str, str] | None = None) -> Any:
        """One call's answer, or the end of the program.

        `remedies` says, by how the server's sentence begins, what to add to it for whoever typed this command.
        """
        with self._failing(remedies or {}):
            return getattr(self._stub, method)(request, timeout=self._timeout)

    def stream(self, method: str, request: Any) -> Iterator[Any]:
        """A stream's messages, until the server ends it."""
        with self._failing({}):
            yield from getattr(self._stub, method)(request)

    def pages(self, method: str, request: Any, items: str) -> Iterator[Any]:
        """All items of a list, page by page as they are taken."""
        while True:
            answer = self.call(method, request)
            yield from getattr(answer, items)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    @contextmanager
    def _failing(self, remedies: Mapping[str, str]) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            self._failed(*self._failure(error, remedies))

    def _failure(self, error: Any, remedies: Mapping[str, str]) -> tuple[str, int]:
        details = error.details() or error.code().name
        if any(key == REFUSED for key, _ in error.trailing_metadata() or ()):
            # What the server finds wrong with the input is wrong usage, as if click had found it.
            remedy = next((f"; {remedy}" for start, remedy in remedies.items() if details.startswith(start)), "")
            return (
                f"mcproxy: {_typed(details)}{remedy}",
                INVALID if error.code() is grpc.StatusCode.INVALID_ARGUMENT else FAILED,
            )
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"mcproxy: the server at {self._address} doesn't answer", UNREACHABLE
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in details), details)
            return f"mcproxy: can't reach the server at {self._address}: {remedy}", UNREACHABLE
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return "mcproxy: the server is too old for this command; upgrade it", FAILED
        return f"mcproxy: {details}", FAILED


@contextmanager
def connected(given: Path | None, failed: Callable[[str, int], NoReturn] = fail) -> Iterator[Client]:
    """The server of the configuration file that was given or found."""
    path = find_config(given)
    section = load_config(path).grpc
    if section is None:
        fail(f"mcproxy: {path} has no [grpc], so its server has no admin API; add it and restart the server", INVALID)
    target = _target(section.addr)
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MAX_ANSWER)]
    if target.startswith(UNIX_PREFIX):
        channel = grpc.insecure_channel(target, options=options)
    else:
        channel = grpc.secure_channel(target, _credentials(section), options=options)
    with channel:
        yield Client(pb_grpc.ProxyAdminServiceStub(channel), section.addr, failed=failed)  # type: ignore[no-untyped-call]


def _typed(details: str) -> str:
    """The server's sentence, with the options and arguments that were typed in place of fields and keys."""
    field, colon, problem = details.partition(": ")
    if field in _MESSAGES and (sentence := _with_options(problem)) != problem:
        return sentence  # about how several of them go together
    if field in _FIELDS:
        return f"{_FIELDS[field]}{colon}{problem}"
    message, _, key = field.partition(".")
    return _with_options(f"{key}: {problem}") if message in _MESSAGES and key else details


def _with_options(sentence: str) -> str:
    for pattern, typed in _OPTIONS:
        sentence = pattern.sub(typed, sentence)
    return sentence


def _target(addr: str) -> str:
    """Where to connect: a server that listens everywhere is here too."""
    host, _, port = addr.rpartition(":")
    return {"0.0.0.0": f"127.0.0.1:{port}", "[::]": f"[::1]:{port}"}.get(host, addr)


def _credentials(section: GrpcSection) -> grpc.ChannelCredentials:
    try:
        # Without a CA of its own, that of the system: gRPC would take the one that it brings along.
        ca = section.server_ca or ssl.get_default_verify_paths().cafile
        roots = Path(ca).read_bytes() if ca else None
        key = Path(section.client_key).read_bytes() if section.client_key else None
        chain = Path(section.client_cert).read_bytes() if section.client_cert else None
    except OSError as error:
        fail(f"mcproxy: {error.filename} of [grpc] can't be read: {error.strerror}", INVALID)
    return grpc.ssl_channel_credentials(roots, key, chain)
