"""The application for WSGI: gunicorn and waitress."""

from collections.abc import Callable, Iterable
from typing import Any

from tests.kit.apps import COOKIES, HELLO, LARGE, TAG, events

Start = Callable[[str, list[tuple[str, str]]], object]


def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    """Answer one request."""
    match environ["PATH_INFO"]:
        case "/hello":
            return _whole(start, HELLO, [*COOKIES, ("X-Host", environ["HTTP_HOST"])])
        case "/echo":
            length = environ.get("CONTENT_LENGTH") or "-"
            return _whole(start, environ["wsgi.input"].read(), [("X-Length", length)])
        case "/cached" if environ.get("HTTP_IF_NONE_MATCH") == TAG:
            start("304 Not Modified", [("ETag", TAG)])
            return []
        case "/cached":
            return _whole(start, HELLO, [("ETag", TAG)])
        case "/large":
            return _whole(start, LARGE, [])
        case "/events":
            start("200 OK", [("Content-Type", "text/event-stream")])
            return events()
    start("404 Not Found", [("Content-Length", "0")])
    return []


def _whole(start: Start, body: bytes, fields: list[tuple[str, str]]) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields])
    return [body]
