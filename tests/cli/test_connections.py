import json
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from mcproxy.admin.plane import ConnectionEvent, ConnectionInfo, EventKind
from mcproxy.model import End, Mode, Reason
from tests.cli.runner import shell
from tests.control_plane import DEADLINE
from tests.program import bounded

INFO = ConnectionInfo(
    7, ":443", "192.0.2.9:5", 1.0, "relaying", "git.example.org", "git.example.org", "127.0.0.1:3000", Mode.L4, 1500, 20
)
EVENTS = [
    ConnectionEvent(EventKind.OPENED, 1.0, INFO),
    ConnectionEvent(EventKind.REFUSED, 2.0, INFO, Reason.SNI_MISSING, End.REFUSED, "no server_name"),
    ConnectionEvent(EventKind.CLOSED, 3.0, INFO, Reason.OK, End.CLOSED, "", 0.25),
]

CLOSED = (
    "00:00:03 closed   #7 192.0.2.9:5 :443 git.example.org -> 127.0.0.1:3000"
    " closed after 0.250 s, 1.5 kB up, 20 B down\n"
)


def test_list_and_close(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        assert user.rows("connections", "list") == []
        control.plane.open = [INFO]
        ((number, _, client, sni, backend, state, _, received, sent),) = user.rows("connections", "list")
        assert (number, client, sni, backend) == ("7", "192.0.2.9:5", "git.example.org", "127.0.0.1:3000")
        assert (state, received, sent) == ("relaying", "1.5 kB", "20 B")
        assert user.json("connections", "list")[0]["mode"] == "l4"
        control.plane.open = [replace(INFO, state="terminating")]
        assert user.rows("connections", "list")[0][5] == "proxying"
        assert user.json("connections", "list")[0]["state"] == "terminating", "as the admin API has it"
        control.plane.open = [INFO]
        assert user.ok("connections", "close", 7) == "closed connection 7\n"
        assert user.fails(1, "connections", "close", 8) == "mcproxy: there is no connection 8: it may have ended"


def watching(config: Path, *options: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    return bounded(sys.executable, "-m", "mcproxy", "watch", "-c", config, *options)


def test_watching_until_interrupted(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control), watching(user.config) as process:
        assert control.plane.subscribed.wait(DEADLINE)
        for event in EVENTS:
            control.plane.sinks[0](event)
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in EVENTS] == [
            "00:00:01 opened   #7 192.0.2.9:5 :443 git.example.org -> 127.0.0.1:3000\n",
            "00:00:02 refused  #7 192.0.2.9:5 :443 git.example.org -> 127.0.0.1:3000 sni_missing no server_name\n",
            CLOSED,
        ]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_watching_as_json_until_the_server_ends_it(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control), watching(user.config, "--json") as process:
        assert control.plane.subscribed.wait(DEADLINE)
        control.plane.sinks[0](EVENTS[1])
        assert process.stdout is not None
        event = json.loads(process.stdout.readline())
        assert (event["kind"], event["reason"], event["connection"]["id"]) == ("refused", "sni_missing", 7)
        control.server.close()
        assert process.wait(DEADLINE) == 0
