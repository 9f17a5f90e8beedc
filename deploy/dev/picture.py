"""The README's picture of `mcproxy top`: the real program before two real backends, with clients of all kinds.

    python deploy/dev/picture.py deploy/dev/top.svg

Takes a minute. Nothing in the picture is made up but the clients, who live in 127.0.0.0/8.
"""

import asyncio
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from mcproxy.cli.client import connected
from mcproxy.cli.feed import Feed, lose
from mcproxy.cli.top import Top

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # tests/ has the backends and the hellos

from tests.kit.peers import Backend, client_hello  # noqa: E402

SECONDS = 60  # a whole minute of history
SIZE = (156, 42)  # characters
ROUTES = {"git.example.org": 9, "www.example.org": 14, "mail.example.org": 4}  # and their weight
CHAT = "chat.example.org"  # whose clients stay
CLIENTS = 6  # threads

CONFIG = """\
database.path = "mcproxy.db"
grpc.addr = "unix:{folder}/admin.sock"
firewall.blocked_cidrs = ["127.66.0.0/16"]

[[listeners]]
addr = "127.0.0.1:{port}"
routes = [{routes}]
"""


def answer(connection: socket.socket) -> None:
    """As much as a page of some site."""
    if connection.recv(65536):
        connection.sendall(bytes(random.choice((4_000, 40_000, 400_000))))


def chat(connection: socket.socket) -> None:
    """A word now and then, for as long as the client likes."""
    connection.settimeout(None)
    while connection.recv(65536):
        connection.sendall(bytes(500))


def one(port: int, choice: random.Random) -> None:
    """One client: most are fine, some are blocked, lost or no TLS at all."""
    kind = choice.random()
    network = 66 if kind < 0.04 else choice.choice((0, 1, 1, 7, 7, 7, 23))
    source = (f"127.{network}.0.{choice.randint(1, 9)}", 0)
    name = choice.choices(list(ROUTES), list(ROUTES.values()))[0] if kind > 0.08 else "old.example.org"
    with socket.create_connection(("127.0.0.1", port), 5, source) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n" if 0.08 < kind < 0.1 else client_hello(name))
        with suppress(OSError):
            while client.recv(1 << 20):
                continue


def load(port: int, over: threading.Event) -> None:
    """Clients one after the other, in waves."""
    choice = random.Random(threading.get_ident())
    while not over.is_set():
        with suppress(OSError):
            one(port, choice)
        over.wait(choice.expovariate(6 + 5 * (int(time.monotonic() / 4) % 4)))


async def photograph(feed: Feed, target: Path) -> None:
    """Let the screen run for a minute, then keep it, with no font that it would have to fetch."""
    screen = Top(feed)
    async with screen.run_test(size=SIZE) as pilot:
        await asyncio.sleep(SECONDS)
        await pilot.pause()
        picture = screen.export_screenshot(title="mcproxy top")
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    await asyncio.to_thread(target.write_text, picture)


def main() -> int:
    """Run it all."""
    target = Path(sys.argv[1])
    target.parent.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    backend, talk = Backend(answer), Backend(chat)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mcproxy.toml"
        targets = {**dict.fromkeys(ROUTES, backend.address), CHAT: talk.address}
        routes = ", ".join(f'{{ hostname = "{name}", backend = "{to}" }}' for name, to in targets.items())
        config.write_text(CONFIG.format(folder=folder, port=port, routes=routes))
        command = [sys.executable, "-m", "mcproxy", "server", "-c", str(config)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            while "started, generation" not in server.stdout.readline():
                continue
            threading.Thread(target=server.stdout.read, daemon=True).start()
            over = threading.Event()
            threads = [threading.Thread(target=load, args=(port, over)) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            idle = [socket.create_connection(("127.0.0.1", port), 5, (f"127.0.4.{i}", 0)) for i in range(1, 9)]
            for each in idle:
                each.sendall(client_hello(CHAT))
            feed = Feed(lambda: connected(config, lose))
            try:
                asyncio.run(photograph(feed, target))
            finally:
                feed.close()
                over.set()
                for thread in threads:
                    thread.join()
                for each in idle:
                    each.close()
                server.terminate()
    backend.close()
    talk.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
