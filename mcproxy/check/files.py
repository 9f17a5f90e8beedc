"""Checks the files, and the group, that the configuration names. A start checks them first, too."""

import ssl
from collections.abc import Iterator

from mcproxy.admin import entrance
from mcproxy.certificates import pem
from mcproxy.check.found import Found
from mcproxy.configuration import Config
from mcproxy.geoip import GeoIP, GeoIPError


def check_files(config: Config) -> Iterator[Found]:
    """Of the GeoIP database, of [acme] and of [grpc]; those of routes are the table's."""
    if config.firewall.geoip_db:
        try:
            GeoIP.open(config.firewall.geoip_db).close()
        except GeoIPError as error:
            yield Found("firewall.geoip_db", str(error))
    if config.acme:
        yield from _check_ca("acme.ca", config.acme.ca)
    if config.grpc:
        yield from _check_pair("grpc.tls", config.grpc.tls_cert, config.grpc.tls_key)
        yield from _check_pair("grpc.client", config.grpc.client_cert, config.grpc.client_key)
        yield from _check_ca("grpc.client_ca", config.grpc.client_ca)
        yield from _check_ca("grpc.server_ca", config.grpc.server_ca)
        yield from _check_group(config.grpc.group)


def _check_group(group: str) -> Iterator[Found]:
    try:
        if group:
            entrance.group_id(group)
    except entrance.GroupError as error:
        yield Found("grpc.group", str(error))


def _check_pair(prefix: str, certificate: str, private_key: str) -> Iterator[Found]:
    if not certificate:
        return
    try:
        pem.load(certificate, private_key)
    except pem.Unusable as error:
        yield Found(prefix + error.key.removeprefix("tls"), str(error))


def _check_ca(key: str, path: str) -> Iterator[Found]:
    if not path:
        return
    try:
        pem.trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)
    except pem.Unusable as error:
        yield Found(key, str(error))
