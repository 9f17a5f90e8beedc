"""The application for ASGI: uvicorn."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.kit.apps import COOKIES, FIRST, HELLO, LARGE, LAST, TAG, going

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve one request, or one WebSocket."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await _say_again(receive, send)
    else:
        await _answer(scope["path"], dict(scope["headers"]), receive, send)


async def _live(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": message["type"] + ".complete"})


async def _say_again(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        said = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **said})


async def _answer(path: str, fields: dict[bytes, bytes], receive: Receive, send: Send) -> None:
    match path:
        case "/hello":
            host = ("X-Host", fields[b"host"].decode())
            await _whole(send, 200, HELLO, [*COOKIES, host])
        case "/echo":
            length = ("X-Length", fields.get(b"content-length", b"-").decode())
            await _whole(send, 200, await _body(receive), [length])
        case "/cached" if fields.get(b"if-none-match") == TAG.encode():
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", TAG.encode())]})
            await send({"type": "http.response.body"})
        case "/cached":
            await _whole(send, 200, HELLO, [("ETag", TAG)])
        case "/large":
            await _whole(send, 200, LARGE, [])
        case "/events":
            head = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": FIRST, "more_body": True})
            await going()
            await send({"type": "http.response.body", "body": LAST})
        case _:
            await _whole(send, 404, b"", [])


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _whole(send: Send, status: int, body: bytes, fields: list[tuple[str, str]]) -> None:
    every = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields]
    encoded = [(name.encode(), value.encode()) for name, value in every]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
