"""A browser before a web application of HTTP/1.1: a page with 100 resources, an upload, an event stream, a WebSocket.

Chromium, as people run it but for its window; the application is aiohttp's. Each thing that the page does says how it
went, and the page posts the list when it has all of them.
"""

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from tests.conftest import MakeProxy
from tests.kit.http2_backends import l7_listener
from tests.kit.peers import Authority, free_port, until

RESOURCES = 100
UPLOAD = 1 << 20
PAGE = """<!doctype html><title>page</title><body><script>
const said = [];
const images = [...Array(RESOURCES).keys()].map(n => new Promise((done, failed) => {
  const image = new Image();
  image.onload = () => done();
  image.onerror = () => failed(`image ${n}`);
  image.src = `/image/${n}`;
}));
const loaded = Promise.all(images).then(() => said.push("images"));
const uploaded = fetch("/upload", {method: "POST", body: new Uint8Array(UPLOAD)})
  .then(answer => answer.text()).then(text => said.push(`uploaded ${text}`));
const streamed = new Promise((done, failed) => {
  const events = new EventSource("/events");
  events.onmessage = event => { said.push(`event ${event.data}`); events.close(); done(); };
  events.onerror = () => failed("events");
});
const spoken = loaded.then(() => new Promise((done, failed) => {
  const socket = new WebSocket(`wss://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  let answers = 0;
  socket.onopen = () => { socket.send("hello"); socket.send(new Uint8Array(UPLOAD)); };
  socket.onmessage = event => {
    said.push(typeof event.data === "string" ? `heard ${event.data}` : `heard ${event.data.byteLength} bytes`);
    answers += 1;
    if (answers === 2) socket.close(1000, "enough");
  };
  socket.onclose = event => { said.push(`closed ${event.code}`); done(); };
  socket.onerror = () => failed("socket");
}));
Promise.all([loaded, uploaded, streamed, spoken])
  .catch(error => said.push(`failed: ${error}`))
  .then(() => fetch("/said", {method: "POST", body: JSON.stringify(said)}));
</script>""".replace("RESOURCES", str(RESOURCES)).replace("UPLOAD", str(UPLOAD))
# A GIF of one pixel.
IMAGE = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")


class Application:
    """The web application, on a loop of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.said: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            assert self._up.wait(30)
            yield
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def _run(self) -> None:
        app = web.Application(client_max_size=2 * UPLOAD)
        app.add_routes(
            [
                web.get("/", self._page), web.get("/image/{number}", self._image), web.get("/events", self._events),
                web.get("/socket", self._socket), web.post("/upload", self._upload), web.post("/said", self._hear),
            ]
        )  # fmt: skip
        runner = web.AppRunner(app, shutdown_timeout=0.1)  # the event stream never ends by itself
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port).start())
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _image(self, _request: web.Request) -> web.Response:
        return web.Response(body=IMAGE, content_type="image/gif")

    async def _upload(self, request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(b"data: first\n\n")
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.Event().wait()  # nothing more comes: the first one must not wait for it
        return stream

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=2 * UPLOAD)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    async def _hear(self, request: web.Request) -> web.Response:
        self.said += await request.json()
        return web.Response()


@pytest.mark.parametrize("version", ["h2", "http/1.1"])
def test_a_page_with_everything(version: str, tmp_path: Path, authority: Authority, proxy: MakeProxy) -> None:
    application = Application()
    with application.running():
        listener = l7_listener({"app.test": f"127.0.0.1:{application.port}"}, authority)
        running = proxy({"listeners": [listener]})
        command = [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--ignore-certificate-errors", "--host-resolver-rules=MAP app.test 127.0.0.1",
            f"--user-data-dir={tmp_path}", *(["--disable-http2"] if version == "http/1.1" else []),
            f"https://app.test:{running.port}/",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                until(lambda: application.said, "the page to say how it went")
            finally:
                browser.terminate()
        wanted = {"images", f"uploaded {UPLOAD}", "event first", "heard hello", f"heard {UPLOAD} bytes", "closed 1000"}
        assert set(application.said) == wanted
        until(lambda: sum('path="/image/' in line for line in running.lines) == RESOURCES, "the images' lines")
        lines = [line for line in running.lines if " request " in line and "reused=" in line]
        assert all(f"protocol={version} " in line and "backend_protocol=http/1.1" in line for line in lines)
        until(lambda: any('path="/socket"' in line for line in running.lines), "the WebSocket's line")
        (socket,) = [line for line in running.lines if 'path="/socket"' in line]
        assert f"status={200 if version == 'h2' else 101} " in socket
