"""The application for Python's http.server: `python -m tests.kit.apps.stdlib PORT`."""

import sys
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.kit.apps import COOKIES, HELLO, LARGE, TAG, events


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer GET."""
        match self.path:
            case "/hello":
                self._whole(200, HELLO, [*COOKIES, ("X-Host", self.headers["Host"])])
            case "/cached" if self.headers.get("If-None-Match") == TAG:
                self.send_response(304)
                self.send_header("ETag", TAG)
                self.end_headers()
            case "/cached":
                self._whole(200, HELLO, [("ETag", TAG)])
            case "/large":
                self._whole(200, LARGE, [])
            case "/events":
                self._stream(events())
            case _:
                self._whole(404, b"", [])

    do_HEAD = do_GET  # noqa: N815 - as the base class names it

    def do_POST(self) -> None:
        """Answer POST."""
        length = self.headers.get("Content-Length")
        body = b"".join(self._chunks()) if length is None else self.rfile.read(int(length))
        self._whole(200, body, [("X-Length", length or "-")])

    def _chunks(self) -> Iterable[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _whole(self, status: int, body: bytes, fields: Iterable[tuple[str, str]]) -> None:
        self.send_response(status)
        for field in (("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields):
            self.send_header(*field)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, pieces: Iterable[bytes]) -> None:
        """An answer that the end of the connection ends."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
