import json
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from mcproxy.messages import ConnectionEvent, ConnectionInfo, EventKind
from mcproxy.model import End, Mode, Reason
from tests.kit.commands import shell
from tests.kit.peers import DEADLINE
from tests.kit.program import bounded

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


def test_the_worker_of_a_connection_is_listed_where_there_are_several(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.workers = 2
        control.plane.open = [replace(INFO, id=701, started_at=2.0), replace(INFO, id=902)]
        rows = user.rows("connections", "list")
        assert [row[:3] for row in rows] == [["902", "2", ":443"], ["701", "1", ":443"]], "the oldest one first"
        assert [each["worker"] for each in user.json("connections", "list")] == [2, 1]
        control.plane.workers = 1
        assert user.json("connections", "list")[0]["worker"] == 0


def test_closing_names_those_that_are_not_there(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.open = [replace(INFO, id=number) for number in (7, 9)]
        result = user.run("connections", "close", 7, 8, 9, 10)
        assert result.exit_code == 1
        assert result.stdout == "closed connection 7\nclosed connection 9\n"
        assert result.stderr == "".join(
            f"mcproxy: there is no connection {number}: it may have ended\n" for number in (8, 10)
        )
        many = range(11, 2500)
        control.plane.open = [replace(INFO, id=number) for number in many]
        assert user.ok("connections", "close", *many).count("closed") == len(many), "more than one call takes"
        assert "Missing argument" in user.fails(2, "connections", "close")


def test_lists_are_filtered(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control):
        control.plane.open = [INFO, replace(INFO, id=8, client="192.0.3.9:5", route="", sni="x.example.org")]

        def ids(*options: str) -> list[int]:
            return [each["id"] for each in user.json("connections", "list", *options)]

        assert ids() == [7, 8]
        assert ids("--route", "git.example.org") == [7]
        assert ids("--route", "x.example.org", "--client", "192.0.3.0/24", "--listener", ":443") == [8]
        assert '--client: "192.0.2" is not a network' in user.fails(2, "connections", "list", "--client", "192.0.2")
        assert "there is no listener :1;" in user.fails(1, "connections", "list", "--listener", ":1")


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


def test_watching_refusals_of_one_network(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control), watching(user.config, "--refused", "--client", "192.0.2.0/24") as process:
        assert control.plane.subscribed.wait(DEADLINE)
        other = replace(EVENTS[1], connection=replace(INFO, client="198.51.100.1:5"))
        for event in (EVENTS[0], other, EVENTS[1]):
            control.plane.sinks[0](event)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("00:00:02 refused  #7 192.0.2.9:5 ")


def test_watching_as_json_until_the_server_ends_it(tmp_path: Path) -> None:
    with shell(tmp_path) as (user, control), watching(user.config, "--json") as process:
        assert control.plane.subscribed.wait(DEADLINE)
        control.plane.sinks[0](EVENTS[1])
        assert process.stdout is not None
        event = json.loads(process.stdout.readline())
        assert (event["kind"], event["reason"], event["connection"]["id"]) == ("refused", "sni_missing", 7)
        control.server.close()
        assert process.wait(DEADLINE) == 0
