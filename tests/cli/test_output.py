import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import output
from mcproxy.cli.options import INVALID
from mcproxy.messages import ConnectionInfo
from mcproxy.model import Mode
from mcproxy.net.shared import Phase
from tests.kit.commands import typed, write_config
from tests.kit.control_plane import running
from tests.kit.hostile_server import EVIL, hostile
from tests.kit.program import ROOT


def test_a_message_as_json() -> None:
    message = pb.GetStatusResponse(
        generation=2**60, listeners=[pb.ListenerStatus(addr=":443", refused_by_reason={"sni_missing": 3})]
    )
    found = output.plain(message)
    assert found["generation"] == 2**60, "a number, not a text"
    assert found["listeners"][0]["refused_by_reason"] == {"sni_missing": 3}
    assert found["geoip"] is None
    assert json.dumps(found)


def test_a_session_of_l7_does_not_look_as_if_it_ended() -> None:
    assert output.state(Phase.TERMINATING) == "proxying"
    assert {output.state(each) for each in Phase if each is not Phase.TERMINATING} < set(Phase)


def test_enums_and_json_in_the_words_of_the_commands() -> None:
    assert output.plain(pb.FirewallRule(kind=pb.RULE_KIND_COUNTRY))["kind"] == "country"
    assert output.plain(pb.Route(mode=pb.MODE_L7))["mode"] == "l7"
    event = output.plain(pb.ConnectionEvent(kind=pb.ConnectionEvent.KIND_REFUSED))
    assert (event["kind"], event["connection"]) == ("refused", None)
    revision = output.plain(pb.Revision(new_json='{"backend":"a:1"}'))
    assert (revision["new_json"], revision["old_json"]) == ({"backend": "a:1"}, None)


def test_a_pipe_gets_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_table(("HOST", "N", "ON"), [("a.b", 1, True), ("evil\n\x1b[2J\t", 2, False)], "none")
    assert capsys.readouterr().out == "host\tn\ton\na.b\t1\tyes\nevil\ufffd\ufffd[2J\ufffd\t2\tno\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (0, "0s"), (61, "1m1s"), (3600, "1h"), (90061, "1d1h"), (86400 * 365, "365d")]
)
def test_spans(seconds: float, text: str) -> None:
    assert output.span(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2 * 10**13, "20.0 TB")])
def test_amounts(count: int, text: str) -> None:
    assert output.amount(count) == text


def test_moments() -> None:
    assert output.moment(0) == "-"
    assert output.moment(1) == "1970-01-01 00:00:01Z"


def test_a_person_gets_an_aligned_table(tmp_path: Path) -> None:
    with running(tmp_path):
        shown = on_a_terminal(
            "routes", "list", "-c", str(write_config(tmp_path, f'addr = "unix:{tmp_path}/admin.sock"'))
        )
        head, *rows = [line.rstrip() for line in shown.splitlines() if line.strip()]
        assert head.split() == ["LISTENER", "HOST", "BACKEND", "MODE", "OPTIONS"]
        assert [row.split()[:2] for row in rows] == [[":443", "git.example.org"], [":443", "www.example.org"]]
        assert len({row.index("127.0.0.1") for row in rows}) == 1
        indented = on_a_terminal("routes", "list", "--json", "-c", str(tmp_path / "mcproxy.toml"))
        assert indented.count("\n") > 10


def test_a_narrow_terminal_breaks_no_value(tmp_path: Path) -> None:
    """States such as "half-closed" were folded into two lines at 80 columns."""
    client = "[2001:db8:1234:5678:9abc:def0:1234:5678]:54321"
    info = ConnectionInfo(123456, "127.0.0.1:8443", client, 1.0, "half-closed", "git.example.org", "git.example.org",
                          "127.0.0.1:3000", Mode.L4, 1500, 20)  # fmt: skip
    with running(tmp_path) as control:
        control.plane.open = [info]
        config = str(write_config(tmp_path, f'addr = "unix:{tmp_path}/admin.sock"'))
        head, row = on_a_terminal("connections", "list", "-c", config, width=80).splitlines()
        assert max(len(head), len(row)) <= 80
        assert {"123456", "half-closed", "1.5"} < set(row.split())
        assert "…" in row


def on_a_terminal(*arguments: str, width: int = 120) -> str:
    """What a command prints on a terminal of its own."""
    ours, its = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "mcproxy", *arguments],
            stdout=its,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": str(width), "TERM": "dumb"},
            timeout=60,
            check=True,
        )
        return os.read(ours, 1 << 16).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        os.close(its)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hostile(tmp_path_factory.mktemp("hostile")) as address:
        yield address


# Every command that prints what a server sends; `top` draws it, and the words of a refusal are in test_client.py.
ASKING = [
    "status", "listeners list", "listeners add :444", "listeners set :443 --max-connections 5",
    "listeners remove :443 --yes", "listeners remove :443", "routes list", "routes add a.test 127.0.0.1:1",
    "routes add a.test 127.0.0.1:1 --replace --yes", "routes set a.test --backend 127.0.0.1:2", "routes remove a.test",
    "routes history", "firewall list", "firewall add 192.0.2.1 --yes", "firewall add 192.0.2.1",
    "firewall remove 192.0.2.1", "firewall test 192.0.2.1", "connections list", "connections close 7", "watch",
    "explain --sni a.test --from 192.0.2.1", "rollback 1 --dry-run", "rollback 1 --yes", "certificates list",
    "apply FILE", "apply FILE --dry-run",
]  # fmt: skip
PLAIN = ["metrics", "export"]  # without --json


def texts(value: Any) -> list[str]:
    """All texts in a value of JSON, joined with those that are not."""
    if isinstance(value, dict | list):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in texts(each)]
    return [str(value)]


@pytest.mark.parametrize("command", [*ASKING, *(f"{each} --json" for each in ASKING), *PLAIN])
def test_what_a_server_sends_commands_no_terminal(command: str, server: str, tmp_path: Path) -> None:
    """`-c` may name a server that isn't ours; `status` printed its words as they came, and forged lines."""
    file = tmp_path / "routes.toml"
    file.write_text('[[listeners]]\naddr = ":443"\n')
    result = typed(*command.replace("FILE", str(file)).split(), "--server", server)
    assert not isinstance(result.exception, Exception), result.exception
    shown = result.stdout + result.stderr
    for line in shown.split("\n"):
        assert line.replace("\t", "").isprintable()
        assert not line.startswith("forged") or command == "metrics"  # whose text has lines of its own
    if "--json" in command and result.exit_code < INVALID:
        assert all(EVIL in texts(json.loads(line)) for line in result.stdout.splitlines()), "nothing is lost"


def test_commands_print_what_they_were_sent_by_one_function() -> None:
    """Or the next one forgets to clean it. `check` prints what it has found itself."""
    for path in (ROOT / "mcproxy" / "cli").glob("*.py"):
        if path.name != "main.py":
            assert not re.search(r'click\.echo\(f"|click\.echo\(answer', path.read_text()), path
