"""The application for aiohttp."""

from aiohttp import WSMsgType, web

from tests.kit.apps import COOKIES, FIRST, HELLO, LARGE, LAST, TAG, going


async def hello(request: web.Request) -> web.Response:
    """Answer /hello."""
    answer = web.Response(body=HELLO, content_type="text/plain", headers={"X-Host": request.headers["Host"]})
    for name, value in COOKIES:
        answer.headers.add(name, value)
    return answer


async def echo(request: web.Request) -> web.Response:
    """Answer /echo."""
    length = request.headers.get("Content-Length", "-")
    return web.Response(body=await request.read(), content_type="text/plain", headers={"X-Length": length})


async def cached(request: web.Request) -> web.Response:
    """Answer /cached."""
    if request.headers.get("If-None-Match") == TAG:
        return web.Response(status=304, headers={"ETag": TAG})
    return web.Response(body=HELLO, content_type="text/plain", headers={"ETag": TAG})


async def large(_request: web.Request) -> web.Response:
    """Answer /large."""
    return web.Response(body=LARGE, content_type="text/plain")


async def events(request: web.Request) -> web.StreamResponse:
    """Answer /events."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(FIRST)
    await going()
    await answer.write(LAST)
    await answer.write_eof()
    return answer


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Answer /ws."""
    made = web.WebSocketResponse(max_msg_size=0)
    await made.prepare(request)
    async for message in made:
        if message.type is WSMsgType.TEXT:
            await made.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await made.send_bytes(message.data)
    return made


def init(_arguments: list[str]) -> web.Application:
    """The application; `python -m aiohttp.web` calls this."""
    app = web.Application(client_max_size=1 << 30)
    routes = {"/hello": hello, "/cached": cached, "/large": large, "/events": events, "/ws": websocket}
    app.add_routes([web.get(path, handler) for path, handler in routes.items()])
    app.add_routes([web.post("/echo", echo)])
    return app
