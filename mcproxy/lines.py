"""Log lines of connections and requests: values in, text or JSON out.

Nothing that a client sends or an operator configures can forge a line or a field: host names have passed normalisation,
protocol names and details are escaped to printable ASCII, and values that are not one plain word are quoted.
"""

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal

from mcproxy.model import Connection, Exchanges, Origin, Reason, host_port

MAX_LOGGED_PROTOCOLS: Final = 8  # that are shown: clients offer two or three, a hello has room for thousands
MAX_HOST: Final = 300  # bytes of an authority that is cached: the longest name, and a port
EMPTY: Final = '""'
MAX_LOGGED: Final = 2048  # bytes of a path and the like: longer ones would make the log the target
KEPT: Final = MAX_LOGGED + 1  # as many show that there are more; a cache must not hold paths of 64 KiB

Format = Literal["text", "json"]
RequestLines = Callable[
    [Exchanges, float], list[str]
]  # exchanges that have just ended, and when: seconds since the epoch

_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")  # printable ASCII but the blank, quotation marks, "=" and the backslash
_VERSIONS: Final = {0x0300: "ssl3", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}


@lru_cache(maxsize=1)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=1024)
def version_names(versions: tuple[int, ...]) -> tuple[str, ...]:
    """TLS versions as people say them."""
    return tuple(_VERSIONS.get(version, f"0x{version:04x}") for version in versions)


def protocol_names(alpn: tuple[bytes, ...]) -> tuple[str, ...]:
    """The first ALPN protocols in printable ASCII, without blanks and commas."""
    return _escaped(alpn[:MAX_LOGGED_PROTOCOLS])


@lru_cache(maxsize=1024)
def _escaped(alpn: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(
        "".join(chr(c) if 0x20 < c < 0x7F and c not in b',"\\=' else f"\\x{c:02x}" for c in protocol)
        for protocol in alpn
    )


_in_json: Final = json.JSONEncoder().encode  # json.dumps takes twice as long to say the same


def _quoted(text: str) -> str:
    """In quotation marks, in printable ASCII."""
    return _in_json(text).replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is


@lru_cache(maxsize=1024)
def _value(text: str) -> str:
    """A configured value, quoted unless it is one plain word; "-" for an empty one."""
    return text if _PLAIN.fullmatch(text) else _quoted(text) if text else "-"


def _joined(names: tuple[str, ...]) -> str:
    return ",".join(names) or "-"


def _level(c: Connection) -> str:
    """A load balancer's check every few seconds is for those who look for it."""
    return "debug" if c.reason is Reason.PROBE else "info"


def connection_text(c: Connection) -> str:
    """One line: time, level, then key=value; "-" for an empty value."""
    host, port = c.client
    client = host_port(host, port)
    detail = f" detail={_quoted(c.detail)}" if c.detail else ""
    return (
        f"{timestamp(c.started + c.duration)} {_level(c)} connection id={c.id} listener={_value(c.listener)} "
        f"client={client} sni={c.sni or '-'} route={_value(c.route)} mode={c.mode or '-'} "
        f"backend={_value(str(c.backend or ''))} "
        f"verdict={c.verdict} reason={c.reason} end={c.end} received={c.received} sent={c.sent} "
        f"duration={c.duration:.3f} tls={_joined(version_names(c.versions))} alpn={_joined(protocol_names(c.alpn))} "
        f"ech={'yes' if c.ech else 'no'}{detail}\n"
    )


def connection_fields(c: Connection) -> dict[str, object]:
    """The fields of the JSON line and of the admin API."""
    host, port = c.client
    return {
        "time": timestamp(c.started + c.duration),
        "level": _level(c),
        "event": "connection",
        "id": c.id,
        "listener": c.listener,
        "client": host,
        "client_port": port,
        "sni": c.sni,
        "route": c.route,
        "mode": c.mode,
        "backend": str(c.backend or ""),
        "verdict": c.verdict,
        "reason": c.reason,
        "end": c.end,
        "received_bytes": c.received,
        "sent_bytes": c.sent,
        "duration": round(c.duration, 6),
        "tls_versions": version_names(c.versions),
        "alpn": protocol_names(c.alpn),
        "ech": c.ech,
        "detail": c.detail,
    }


def connection_json(c: Connection) -> str:
    """One JSON object on one line, in ASCII."""
    return json.dumps(connection_fields(c)) + "\n"


CONNECTION_LINE: dict[Format, Callable[[Connection], str]] = {"text": connection_text, "json": connection_json}


def _shown(raw: bytes) -> str:
    """A client's text, quoted, shortened, in printable ASCII."""
    text = raw[:MAX_LOGGED].decode("latin-1") + ("..." if len(raw) > MAX_LOGGED else "")
    return _quoted(text)


_often: Final = lru_cache(maxsize=256)(_shown)


_often_quoted: Final = lru_cache(maxsize=256)(_quoted)  # for reasons, which are short, and repeat in a flood


def _often_shown(raw: bytes) -> str:
    """Like `_shown`, cached, for methods and hosts, which repeat; long ones are not kept."""
    return _often(raw) if len(raw) < MAX_HOST else _shown(raw)


@lru_cache(maxsize=1024)
def _asked_text(method: bytes, authority: bytes, path: bytes) -> str:
    return f"method={_often_shown(method)} authority={_often_shown(authority)} path={_shown(path)}"


@lru_cache(maxsize=1024)
def _asked_json(method: bytes, authority: bytes, path: bytes) -> str:
    words = {"method": method, "authority": authority, "path": path}
    return json.dumps({key: raw[:MAX_LOGGED].decode("latin-1") for key, raw in words.items()})[1:-1]


def requests_text(origin: Origin) -> RequestLines:
    """One line for each: time, level, then key=value. All exchanges of one read share one time."""
    host, port = origin.client
    client = host_port(host, port)
    first = f" info request id={origin.connection} stream="
    second = f" protocol={origin.protocol} listener={_value(origin.listener)} client={client} "
    second += f"route={_value(origin.route)} "

    def lines(exchanges: Exchanges, now: float) -> list[str]:
        begin = timestamp(now) + first
        return [
            f"{begin}{e.id}{second}"
            f"{_asked_text(e.method[:KEPT], e.request.authority[:KEPT], e.request.path[:KEPT])} status={e.status} "
            f'end="{e.end}" received={e.received} sent={e.sent} duration={e.ended - e.started:.3f} '
            f"backend_protocol={(way := e.backend_protocol) or '-'} reused={'true' if way and e.reused else 'false'}"
            f"{'' if e.grpc_status is None else f' grpc_status={e.grpc_status}'}"
            f"{f' detail={_often_quoted(e.why)}' if e.why else ''}\n"
            for e in exchanges
        ]

    return lines


def requests_json(origin: Origin) -> RequestLines:
    """One JSON object on one line for each, in ASCII; what a client wrote is read as Latin-1."""
    host, port = origin.client
    first = f'", "level": "info", "event": "request", "id": {origin.connection}, "stream": '
    second = {
        "protocol": origin.protocol, "listener": origin.listener, "client": host, "client_port": port,
        "route": origin.route,
    }  # fmt: skip
    middle = f", {json.dumps(second)[1:-1]}, "

    def lines(exchanges: Exchanges, now: float) -> list[str]:
        begin = f'{{"time": "{timestamp(now)}{first}'
        return [
            f"{begin}{e.id}{middle}"
            f"{_asked_json(e.method[:KEPT], e.request.authority[:KEPT], e.request.path[:KEPT])}, "
            f'"status": {e.status}, "end": "{e.end}", "received_bytes": {e.received}, "sent_bytes": {e.sent}, '
            f'"duration": {e.ended - e.started:.6f}, "backend_protocol": "{(way := e.backend_protocol)}", '
            f'"reused": {"true" if way and e.reused else "false"}, '
            f'"grpc_status": {"null" if e.grpc_status is None else e.grpc_status}, '
            f'"detail": {_often_quoted(e.why) if e.why else EMPTY}}}\n'
            for e in exchanges
        ]

    return lines


REQUEST_LINES: dict[Format, Callable[[Origin], RequestLines]] = {"text": requests_text, "json": requests_json}
