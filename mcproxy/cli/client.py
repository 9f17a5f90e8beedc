"""The connection to a running server, and its errors in the words of the commands.

A failure ends the program with one sentence and an exit status: 3 if the server can't be reached, 1 if it refuses.
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
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mcproxy import disk
from mcproxy.admin.contract import ABOUT, CLAIM, REFUSED
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.cli.options import FAILED, INVALID, UNREACHABLE, fail
from mcproxy.cli.target import Sourced, Target, find_target
from mcproxy.model import MAX_CLAIM
from mcproxy.words import printable

TIMEOUT = 15.0  # seconds for one call: longer than the server lets a change wait for others
MAX_BACKOFF = 1_000  # milliseconds between two tries to connect: gRPC's own grow to two minutes
MAX_ANSWER = 16 << 20  # bytes; the longest answer is the metrics of 1,000 routes, about 1 MB
EXISTS = grpc.StatusCode.ALREADY_EXISTS
MISSING = grpc.StatusCode.NOT_FOUND
UNREADY = grpc.StatusCode.FAILED_PRECONDITION
WRONG = grpc.StatusCode.INVALID_ARGUMENT

# The library's messages when it can't connect, and our remedies; {addr} and so on name where that is set.
_REMEDIES = {
    "Connection refused": "is `mcproxy server` running?",
    "No such file": "is `mcproxy server` running?",
    "Permission denied": "the socket belongs to another user: run this as root or as that user, or set grpc.group",
    "hostname lookup error": "its host name can't be resolved: check {addr}",
    "No route to host": "there is no route to its address: check {addr}, and the network",
    "Network is unreachable": "there is no route to its address: check {addr}, and the network",
    "WRONG_VERSION_NUMBER": "it doesn't speak TLS: check that {addr} is the address of the admin API",
    "has expired": "its certificate has expired: renew it there",
    "not yet valid": "its certificate is not valid yet: check the clock here and there",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by the CA in {ca}",
    "Hostname Verification": "its certificate is not for the name or address in {addr}",
    "CERTIFICATE_REQUIRED": "it requires a certificate: set {cert} and {key}",
    "alert": "it doesn't accept the certificate in {cert}",
    "Socket closed": "it closed the connection: check {cert}, and that {addr} is the address of the admin API",
}
# The same where no CA, or no certificate of our own, is set.
_WITHOUT_CA = {"CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by a CA that this machine trusts: set {ca}"}
_WITHOUT_CERT = {
    "alert": "it requires a certificate: set {cert} and {key}",
    "Socket closed": "it closed the connection: if it requires a certificate, set {cert} and {key};"
    " check that {addr} is the address of the admin API",
}
_UNUSABLE = "Failed to create security handshaker"  # of the files that we gave to the library


# Fields of requests that are no option of that name, in the words of the commands.
_TYPED = {
    "listener": "--listener",
    "listener.addr": "ADDR",
    "listener.trusted_proxies": "--trusted-proxy",
    "listener.nodes": "--node",
    "addr": "ADDR",
    "hostname": "HOST",
    "route.hostname": "HOST",
    "route.backend": "BACKEND",
    "route.tls": "--acme",
    "value": "VALUE",
    "comment": "--comment",
    "ExplainRequest.ip": "--from",
    "ExplainRequest.sni": "--sni",
    "TestFirewallRequest.ip": "IP",
    "RollbackRequest.generation": "GENERATION",
}

Remedies = Mapping[tuple[grpc.StatusCode, str], str]  # by the status of a refusal and what it is about
# For every command that has no other.
_REMEDIES_OF_ALL: Remedies = {
    (MISSING, "route"): "`mcproxy routes list` shows those that exist",
    (MISSING, "rule"): "`mcproxy firewall list` shows those that exist",
}
NO_REMEDIES: Remedies = MappingProxyType({})
Places = Callable[[str, str], str]  # a sentence of the server and the field that it is about, in the user's words


class Client:
    """Calls methods of the service by name."""

    def __init__(
        self, stub: Any, target: Target, timeout: float = TIMEOUT, failed: Callable[[str, int], NoReturn] = fail
    ) -> None:
        """`failed` gets the sentence and the exit status of what goes wrong."""
        self._stub = stub
        self._failed = failed
        self._target = target
        self._timeout = timeout
        self._metadata = _claim(os.environ)

    def call(self, method: str, request: Any, remedies: Remedies = NO_REMEDIES) -> Any:
        """One call's answer, or the end of the program.

        `remedies` has the end of the server's sentence for this command.
        """
        with self._failing(_typed(request), remedies):
            return getattr(self._stub, method)(request, timeout=self._timeout, metadata=self._metadata)

    def stream(self, method: str, request: Any, timeout: float | None = None) -> Iterator[Any]:
        """A stream's messages, until the server ends it; `timeout` is in seconds and for all of it."""
        with self._failing(_typed(request)):
            yield from getattr(self._stub, method)(request, timeout=timeout)

    def transfer(
        self, method: str, requests: Iterator[Any], timeout: float, places: Places, remedies: Remedies = NO_REMEDIES
    ) -> Iterator[Any]:
        """The answers to a stream of requests that has an end; `places` is as for `_failing`."""
        with self._failing(places, remedies):
            yield from getattr(self._stub, method)(requests, timeout=timeout, metadata=self._metadata)

    def pages(self, method: str, request: Any, items: str) -> Iterator[Any]:
        """All items of a list, page by page as they are taken."""
        while True:
            answer = self.call(method, request)
            yield from getattr(answer, items)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    @contextmanager
    def _failing(self, places: Places, remedies: Remedies = NO_REMEDIES) -> Iterator[None]:
        """End the program if a call fails; `places` turns the server's field names into what was typed."""
        try:
            yield
        except grpc.RpcError as error:
            self._failed(*self._failure(error, places, remedies))

    def _failure(self, error: Any, places: Places, remedies: Remedies) -> tuple[str, int]:
        details = _shown(error.details() or error.code().name)
        metadata = dict(error.trailing_metadata() or ())
        if REFUSED in metadata:
            about = metadata.get(ABOUT, "")  # an older server doesn't send it: its sentences are shown as they are
            # What the server finds wrong with the input is wrong usage, as if click had found it.
            wrong = error.code() is WRONG
            sentence = places(details, about) if wrong else f"mcproxy: {details}"
            remedy = remedies.get((error.code(), about)) or _REMEDIES_OF_ALL.get((error.code(), about))
            return f"{sentence}; {remedy}" if remedy else sentence, INVALID if wrong else FAILED
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"mcproxy: the server at {self._target.addr.value} doesn't answer", UNREACHABLE
        if error.code() is grpc.StatusCode.CANCELLED:
            return f"mcproxy: the server at {self._target.addr.value} stops, and has ended this call", UNREACHABLE
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return _unreachable(self._target, details)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return "mcproxy: the server is too old for this command; upgrade it", FAILED
        return f"mcproxy: {details}", FAILED


def _shown(details: str) -> str:
    """A server's sentences, a line each; they can't command the terminal, whatever server this is."""
    return "\n".join(map(printable, details.split("\n")))


@contextmanager
def connected(
    config_file: Path | None, failed: Callable[[str, int], NoReturn] = fail, timeout: float = TIMEOUT
) -> Iterator[Client]:
    """The server that the options, the environment or the configuration file name (target.py)."""
    target = find_target(config_file)
    address = _here(target.addr.value)
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", MAX_ANSWER),
        ("grpc.max_reconnect_backoff_ms", MAX_BACKOFF),
    ]
    if target.unix:
        channel = grpc.insecure_channel(address, options=options)
    else:
        channel = grpc.secure_channel(address, _credentials(target), options=options)
    with channel:
        stub = pb_grpc.ProxyAdminServiceStub(channel)  # type: ignore[no-untyped-call]
        yield Client(stub, target, timeout, failed)


def _claim(environ: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    """The user who ran sudo, as a claim: the server can't verify it."""
    user = environ.get("SUDO_USER", "")[:MAX_CLAIM]
    return ((CLAIM, user.encode("utf-8", "replace")),) if user else ()


def _typed(request: Message) -> Places:
    """The server's sentence about a field of the request, with the option or argument instead of the field's name."""
    changed = getattr(request, "update_mask", FieldMask()).paths
    typed = {"route.backend": "--backend"} if "backend" in changed else {}  # an argument only where a route is added

    def of_field(details: str, field: str) -> str:
        problem = details.removeprefix(f"{field}: ")
        whole = request.DESCRIPTOR.fields_by_name.get(field)
        if whole is not None and whole.message_type is not None:
            sentence = _about_several(problem, field, [each.name for each in whole.message_type.fields])
        else:
            place = typed.get(field) or _TYPED.get(f"{request.DESCRIPTOR.name}.{field}") or _option(field)
            sentence = f"{place}: {problem}" if field else details
        return f"mcproxy: {sentence}"

    return of_field


def _about_several(sentence: str, message: str, names: list[str]) -> str:
    """A sentence about how fields of one message go together, which quotes no paths.

    'mode = "l7" terminates TLS, so it needs tls_cert' is of --mode l7 and --tls-cert.
    """
    options = {name: option for name in names if (option := _option(f"{message}.{name}")).startswith("--")}
    setting = re.compile(rf'\b({"|".join(options)})\b(?: = (?:true|"(\w+)"))?')

    def typed(found: re.Match[str]) -> str:
        option, word = options[found[1]], found[2]
        return option if not word or option == _dashed(word) else f"{option} {word}"

    return setting.sub(typed, sentence)


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _option(field: str) -> str:
    """The option or argument for a field; for a member of a list the field has its number."""
    message, _, name = field.partition(".")
    name = name.partition(".")[0]
    path = f"{message}.{name}" if name else message
    return _TYPED.get(path) or (_dashed(name) if name else field)


def _here(addr: str) -> str:
    """Where to connect: a server that listens everywhere is here too."""
    host, _, port = addr.rpartition(":")
    return {"0.0.0.0": f"127.0.0.1:{port}", "[::]": f"[::1]:{port}"}.get(host, addr)


def _credentials(target: Target) -> grpc.ChannelCredentials:
    # Without a CA of its own, that of the system: gRPC would take the one that it brings along.
    ca = target.ca if target.ca.value else Sourced(ssl.get_default_verify_paths().cafile or "", "the system")
    contents: list[bytes | None] = []
    problems: list[str] = []
    for file in (ca, target.key, target.cert):
        try:
            contents.append(disk.within(file.value, Path(file.value).read_bytes) if file.value else None)
        except OSError as error:
            problems.append(f"mcproxy: {file.source}: {file.value} can't be read: {error.strerror}")
    if problems:
        fail("\n".join(problems), INVALID)
    return grpc.ssl_channel_credentials(*contents)


def _unreachable(target: Target, details: str) -> tuple[str, int]:
    """The message and the exit status for the library's details of a failed connection."""
    if _UNUSABLE in details:
        return f"mcproxy: {_unusable(target)}", INVALID
    remedies = {**_REMEDIES, **({} if target.ca.value else _WITHOUT_CA), **({} if target.cert.value else _WITHOUT_CERT)}
    sources = {name: getattr(target, name).source for name in ("addr", "ca", "cert", "key")}
    remedy = next((remedy.format(**sources) for sign, remedy in remedies.items() if sign in details), details)
    return f"mcproxy: can't reach the server at {target.addr.value}: {remedy}", UNREACHABLE


def _unusable(target: Target) -> str:
    """The message that names the file that can't be used for TLS."""
    from mcproxy.certificates import pem  # noqa: PLC0415 - it takes 70 ms to load, only for a failure

    try:
        if target.ca.value:
            pem.trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), target.ca.value)
        if target.cert.value:
            pem.load(target.cert.value, target.key.value)
    except pem.Unusable as error:
        file = {"backend_ca": target.ca, "tls_key": target.key}.get(error.key, target.cert)
        return f"{file.source}: {error}"
    return f"{target.ca.source}, {target.cert.source} or {target.key.source} can't be used for TLS"
