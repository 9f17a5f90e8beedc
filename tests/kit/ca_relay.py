"""A server between mcproxy and Pebble: it passes requests on, and a test may act before one and after its answer.

What Pebble can't do is answered here: renewal information, rate limits. And a test learns exactly when something is
asked: it may kill the server before the CA hears of it, or when the CA has done it and nobody has heard.
"""

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.kit.pebble import Pebble
from tests.kit.peers import DEADLINE

_HOP = {"connection", "content-length", "transfer-encoding"}


class Asked(NamedTuple):
    """A request."""

    kind: str  # the first part of its path, as Pebble names it: "order-plz", "chalZ"
    path: str
    payload: Any  # of a signed one; None: it only reads


class Answer(NamedTuple):
    """An answer."""

    status: int
    fields: dict[str, str]
    body: bytes


class Cut(Exception):
    """Close the connection without an answer."""


class CARelay:
    """The server. `before` returns an answer in place of the CA's, or None; `after` may change the CA's."""

    def __init__(self, stack: ExitStack, pebble: Pebble) -> None:
        self.before: Callable[[Asked], Answer | None] = lambda _asked: None
        self.after: Callable[[Asked, Answer], Answer] = lambda _asked, answer: answer
        self.passed: list[Asked] = []  # on to the CA
        self._created: list[Asked] = []  # of those, what the CA made: it refuses some nonces, and is asked again
        self._pebble = pebble
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    answer = relay._answer(self.command, self.path, dict(self.headers), self._body())
                except Cut:
                    self.close_connection = True
                    return
                self.send_response_only(answer.status)
                for name, value in answer.fields.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                self.do_GET()

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pebble.pair)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)

    def section(self) -> dict[str, object]:
        """[acme] for this server."""
        return {**self._pebble.section(), "directory": f"{self.url}/dir"}

    def ordered(self, hostname: str) -> int:
        """How many orders for a name the CA has made."""
        return sum(each.kind == "order-plz" and hostname in json.dumps(each.payload) for each in self._created)

    def _answer(self, method: str, path: str, fields: dict[str, str], body: bytes) -> Answer:
        asked = Asked(path.split("/")[1], path, _payload(body))
        if (own := self.before(asked)) is not None:
            return own
        self.passed.append(asked)
        context = ssl.create_default_context(cafile=str(self._pebble.ca))
        ca = http.client.HTTPSConnection("127.0.0.1", self._pebble.port, timeout=DEADLINE, context=context)
        try:
            ca.request(method, path, body or None, fields)  # with the Host of this server, which Pebble's links have
            found = ca.getresponse()
            answer = Answer(found.status, dict(found.getheaders()), found.read())
        except OSError:  # it is away
            raise Cut from None
        finally:
            ca.close()
        if answer.status == HTTPStatus.CREATED:
            self._created.append(asked)
        return self.after(asked, answer)


def _payload(body: bytes) -> Any:
    """What a signed request says (RFC 7515, appendix C)."""
    if not body:
        return None
    text = json.loads(body)["payload"]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) if text else None
