"""A client's fate: as the client itself sees it, and as its log line reports it."""

from tests.conftest import MakeBackend
from tests.kit.hub import knock
from tests.kit.peers import client_hello, read_all, says
from tests.kit.proxy import Proxy

HELLO = client_hello("a.test")


def routes(backend: MakeBackend) -> dict[str, str]:
    """One route, to a backend that says "here"."""
    return {"a.test": backend(says("here")).address}


def verdict(
    running: Proxy, source: str = "127.0.0.1", sends: bytes = HELLO, port: int = 0, client: str = "", host: str = ""
) -> str:
    """The reason in the line of a client from `source`, or of the `client` whom its PROXY header names.

    Reason "ok" is one who reached the backend and heard all that it says; any other got a RST and not one byte.
    """
    before = len(running.lines)  # an earlier client may have had the same port
    host = host or ("::1" if ":" in source else "127.0.0.1")
    with knock(running.app.data.door, port or running.port, sends, host, source) as sock:
        name = client or (f"[{source}]" if ":" in source else source) + f":{sock.getsockname()[1]}"
        try:
            heard = read_all(sock)
        except ConnectionResetError:
            heard = b""
            reset = True
        else:
            reset = False
    reason = running.connection(before, client=name)["reason"]
    assert (b"here\n" in heard, not heard and reset) == (reason == "ok", reason != "ok"), f"{reason}: {heard!r}"
    return reason
