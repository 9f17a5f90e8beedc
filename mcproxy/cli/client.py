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
from types import MappingProxyType
from typing import Any, NoReturn

# The C library prints its own lines about failed handshakes, on top of our one sentence; read when it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from google.protobuf.message import Message

from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.cli.options import FAILED, INVALID, UNREACHABLE, fail, find_config, load_config
from mcproxy.config import GrpcSection
from mcproxy.model import UNIX_PREFIX

TIMEOUT = 15.0  # seconds for one call: longer than the server lets a change wait for others
MAX_ANSWER = 16 << 20  # bytes; the longest answer is the metrics of 1,000 routes, about 1 MB
# In the trailing metadata of what the server itself refuses (admin/guard.py), and what that is about. A server from
# before the second shows its sentences as they are.
REFUSED = "mcproxy-refused"
ABOUT = "mcproxy-about"
EXISTS = grpc.StatusCode.ALREADY_EXISTS
MISSING = grpc.StatusCode.NOT_FOUND

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


# Fields of requests that are no option of that name, in the words of the commands.
_TYPED = {
    "listener": "--listener",
    "listener.addr": "ADDR",
    "listener.trusted_proxies": "--trusted-proxy",
    "addr": "ADDR",
    "hostname": "HOST",
    "route.hostname": "HOST",
    "route.backend": "BACKEND",
    "value": "VALUE",
}

Remedies = Mapping[tuple[grpc.StatusCode, str], str]  # by the status of a refusal and what it is about
_NO_REMEDIES: Remedies = MappingProxyType({})


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

    def call(self, method: str, request: Any, remedies: Remedies = _NO_REMEDIES) -> Any:
        """One call's answer, or the end of the program.

        `remedies` says what to add to the server's sentence for whoever typed this command.
        """
        with self._failing(request, remedies):
            return getattr(self._stub, method)(request, timeout=self._timeout)

    def stream(self, method: str, request: Any) -> Iterator[Any]:
        """A stream's messages, until the server ends it."""
        with self._failing(request, {}):
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
    def _failing(self, request: Message, remedies: Remedies) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            self._failed(*self._failure(error, request, remedies))

    def _failure(self, error: Any, request: Message, remedies: Remedies) -> tuple[str, int]:
        details = error.details() or error.code().name
        told = dict(error.trailing_metadata() or ())
        if REFUSED in told:
            about = told.get(ABOUT, "")
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                # What the server finds wrong with the input is wrong usage, as if click had found it.
                return f"mcproxy: {_typed(details, about, request)}", INVALID
            remedy = remedies.get((error.code(), about))
            return f"mcproxy: {details}; {remedy}" if remedy else f"mcproxy: {details}", FAILED
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


def _typed(details: str, field: str, request: Message) -> str:
    """The server's sentence about a field of the request, with what was typed in place of the field's name."""
    problem = details.removeprefix(f"{field}: ")
    whole = request.DESCRIPTOR.fields_by_name.get(field)
    if whole is not None and whole.message_type is not None:
        return _about_several(problem, field, [each.name for each in whole.message_type.fields])
    return f"{_option(field)}: {problem}" if field else details


def _about_several(sentence: str, message: str, names: list[str]) -> str:
    """A sentence about how fields of one message go together, which quotes no paths.

    'mode = "l7" terminates TLS, so it needs tls_cert' is of --mode l7 and --tls-cert.
    """
    options = {name: option for name in names if (option := _option(f"{message}.{name}")).startswith("--")}
    setting = re.compile(rf'\b({"|".join(options)})\b(?: = (?:true|"(\w+)"))?')
    return setting.sub(lambda found: " ".join(filter(None, (options[found[1]], found[2]))), sentence)


def _option(field: str) -> str:
    """What was typed for a field; one of a list is meant with its number behind."""
    message, _, name = field.partition(".")
    name = name.partition(".")[0]
    path = f"{message}.{name}" if name else message
    return _TYPED.get(path) or ("--" + name.replace("_", "-") if name else field)


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
