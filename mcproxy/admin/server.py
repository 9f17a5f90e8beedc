"""The gRPC server: where it listens, with which certificates, and how much at once.

Over TCP it always uses TLS. With `client_ca` a client must show a certificate of that CA; without it, every client that
can reach the address may do everything, so it should be a loopback one. On a UNIX socket the file's permissions guard
it. Either way gRPC itself listens on a UNIX socket that only the doorman reaches (doorman.py). Certificates are read
again when gRPC needs them and their files have changed.

Making the server takes its address, reads its certificates and starts its threads; it answers no call before `open`. So
every step that can fail has succeeded when the database is seeded, and no change comes before the seed.

Handlers run in native threads of a bounded pool: `MAX_CALLS` calls at once, of which `MAX_STREAMS` may be streams. A
call beyond that is refused at once (RESOURCE_EXHAUSTED), it doesn't wait in a queue behind its own deadline.
"""

import errno
import logging
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from mcproxy.admin.contract import MAX_REQUEST, SERVICE
from mcproxy.admin.doorman import Doorman
from mcproxy.admin.entrance import GroupError, TcpEntrance, UnixEntrance
from mcproxy.admin.errors import bind_failure
from mcproxy.admin.guard import MAX_STREAMS, Guard
from mcproxy.admin.pb import admin_pb2_grpc as pb_grpc
from mcproxy.admin.service import Service
from mcproxy.certificates import pem
from mcproxy.configuration import GrpcConfig
from mcproxy.disk import Stamp
from mcproxy.model import UNIX_PREFIX

MAX_CALLS = 16 + MAX_STREAMS  # threads, and calls at once; the database has as many connections for those not streaming
MAX_METADATA = 16 << 10  # bytes of a request's header fields
MAX_STREAMS_PER_CONNECTION = MAX_CALLS
HANDSHAKE = 3_000  # milliseconds for a TLS handshake: a silent client holds a place for no longer
IDLE = 10 * 60_000  # milliseconds after which a connection without calls is closed
STOP_GRACE = 2.0  # seconds that calls have to end when the server stops

_REMEDIES = {
    errno.ENOENT: ": make its folder, for mcproxy's user to write in, or put the socket beside the database",
    errno.EACCES: ": let mcproxy's user write in its folder",
}

log = logging.getLogger(__name__)


class AdminError(Exception):
    """The admin API can't be served. The message says what to do."""


class AdminServer:
    """A server. `open` lets it answer, `close` ends it."""

    def __init__(self, config: GrpcConfig, service: Service) -> None:
        """Listen, without answering yet. Raises AdminError."""
        self._configured = config.addr
        self._certificates: _Certificates | None = None  # over TCP
        self.address = config.addr  # with the port that was chosen, where the configuration says 0
        self._service = service
        self._closed = False
        self._entrance = _entrance(config)
        self._doorman = Doorman(self._entrance)
        self._health = health.HealthServicer(experimental_non_blocking=False)
        self._pool = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="admin")
        self._guard = Guard(hint=service.hint, on_call=self._doorman.call)
        self._server = _server(self._pool, service, self._health, self._guard)
        try:
            self._listen(config)
            self._server.start()
        except BaseException:
            self._server.stop(None)
            self._pool.shutdown()
            self._doorman.close()
            raise

    def __repr__(self) -> str:
        return f"<AdminServer {self.address}>"

    def open(self) -> None:
        """Answer from now on."""
        self._guard.open()
        self._doorman.start()
        for name in ("", SERVICE):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("admin API on %s", self.address)

    def drain(self) -> None:
        """Report NOT_SERVING: the proxy has stopped accepting connections. Calls are still answered."""
        self._health.enter_graceful_shutdown()

    def reload(self, config: GrpcConfig) -> None:
        """Use the certificates that are configured now, if it is this address still. Raises AdminError."""
        if self._certificates is not None and config.addr == self._configured:
            self._certificates.use(config)

    def close(self) -> None:
        """Let the calls end, then stop; streams end at once. A second time does nothing."""
        if self._closed:
            return
        self._closed = True
        self.drain()
        self._service.watchers.close()
        self._server.stop(STOP_GRACE).wait()
        self._pool.shutdown()
        self._doorman.close()

    def _listen(self, config: GrpcConfig) -> None:
        inner = f"{UNIX_PREFIX}{self._entrance.inner}"
        try:
            if isinstance(self._entrance, TcpEntrance):
                self._certificates = _certificates(config)
                self._server.add_secure_port(inner, _credentials(self._certificates, config))
                self.address = f"{config.addr.rpartition(':')[0]}:{self._entrance.port}"
            else:
                self._server.add_insecure_port(inner)
        except RuntimeError as error:
            raise AdminError(f"grpc: can't listen on {inner}: is TMPDIR a short path?") from error
        self._entrance.inside()


def _entrance(config: GrpcConfig) -> UnixEntrance | TcpEntrance:
    unix = config.addr.startswith(UNIX_PREFIX)
    try:
        if unix:
            return UnixEntrance(Path(config.addr.removeprefix(UNIX_PREFIX)), config.group)
        return TcpEntrance(config.addr)
    except GroupError as error:
        raise AdminError(f"grpc.group: {error}") from error
    except OSError as error:
        failure = bind_failure(config.addr, error)
        raise AdminError(f"grpc.addr: {failure}{_REMEDIES.get(error.errno or 0, '') if unix else ''}") from error


def _server(
    pool: ThreadPoolExecutor, service: Service, health_service: health.HealthServicer, guard: Guard
) -> grpc.Server:
    options = [
        ("grpc.max_receive_message_length", MAX_REQUEST),
        ("grpc.max_metadata_size", MAX_METADATA),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.max_connection_idle_ms", IDLE),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE),
    ]
    server = grpc.server(pool, interceptors=[guard], options=options, maximum_concurrent_rpcs=MAX_CALLS)
    pb_grpc.add_ProxyAdminServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    # What reflection.enable_server_reflection does, without the asynchronous half of grpc.
    reflection_service = reflection.ReflectionServicer([SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
        reflection_service, server
    )
    return server


class _Certificates:
    """Reads the files again when one has changed; if one is broken, that is logged, and the old ones stay."""

    def __init__(self, config: GrpcConfig) -> None:
        """Raises AdminError."""
        self._config = config
        self._seen: list[Stamp] | None = _stamps(config)
        self._logged = ""  # the last problem: every handshake would log it again
        self.configuration = _read(config)

    def use(self, config: GrpcConfig) -> None:
        """Use the files that are named there, whether they have changed or not. Raises AdminError.

        Whether clients must show a certificate is fixed at the start.
        """
        if bool(config.client_ca) != bool(self._config.client_ca):
            config = replace(config, client_ca=self._config.client_ca)
        _read(config)
        self._config, self._seen = config, None

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before each handshake; None: keep the present certificates."""
        try:
            config = self._config
            stamps = _stamps(config)
            if stamps == self._seen:
                return None
            self._seen = stamps
            fresh = _read(config)
        except AdminError as error:
            if str(error) != self._logged:
                log.error("the admin API keeps its old certificate: %s", error)
            self._logged = str(error)
            return None
        self._logged = ""
        log.info("the admin API has read its certificate again")
        return fresh


def _stamps(config: GrpcConfig) -> list[Stamp]:
    """Values that differ once a file has changed, or has only become readable. Raises AdminError."""
    files = (("tls_cert", config.tls_cert), ("tls_key", config.tls_key), ("client_ca", config.client_ca))
    try:
        return [pem.stamp(path, key) for key, path in files if path]
    except pem.Unusable as error:
        raise AdminError(f"grpc.{error.key}: {error}") from error


def _read(config: GrpcConfig) -> grpc.ServerCertificateConfiguration:
    try:
        pair, ca = pem.read_pair(config.tls_cert, config.tls_key), None
        pem.fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
        if config.client_ca:
            ca = pem.trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), config.client_ca, "client_ca")
    except pem.Unusable as error:
        raise AdminError(f"grpc.{error.key}: {error}") from error
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)], root_certificates=ca)


def _certificates(config: GrpcConfig) -> _Certificates:
    if not (config.tls_cert and config.tls_key):
        raise AdminError('grpc: a TCP address needs tls_cert and tls_key; or use "unix:/path"')
    return _Certificates(config)


def _credentials(certificates: _Certificates, config: GrpcConfig) -> grpc.ServerCredentials:
    return grpc.dynamic_ssl_server_credentials(
        certificates.configuration,
        certificates,  # type: ignore[arg-type]  # the stubs don't know that it may return None
        require_client_authentication=bool(config.client_ca),
    )
