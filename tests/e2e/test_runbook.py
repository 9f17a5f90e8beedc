"""RUNBOOK.md: every command in it runs, in its order, and prints what the page says; and every alert has its page."""

import re
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from tests.kit.pages import matches, steps
from tests.kit.postgres import postgres_server
from tests.kit.program import ROOT
from tests.kit.runbook_machine import Machine

RUNBOOK = (ROOT / "RUNBOOK.md").read_text()


def test_every_command_prints_what_the_page_says() -> None:
    failures = []
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server())
        # pytest's folders are too deep for the path of a UNIX socket
        machine = stack.enter_context(closing(Machine(Path(tempfile.mkdtemp()), database)))
        for step in steps(RUNBOOK):
            output = machine.run(step.command)
            if not matches(step.text, output):
                failures.append(f"RUNBOOK.md:{step.line}: $ {step.command}\n{output}{machine.log()}")
    assert not failures, "\n".join(failures)


def test_there_are_commands() -> None:
    assert len(steps(RUNBOOK)) > 35
    assert {"mcproxy", "systemctl", "journalctl"} <= {step.command.split()[0] for step in steps(RUNBOOK)}


def test_every_alert_has_its_page() -> None:
    pages = re.findall(r"^## (?:Incident: )?(.+)$", RUNBOOK, re.MULTILINE)
    named = re.findall(r'RUNBOOK\.md, "(.+)"', (ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert len(named) == 17
    for name in named:
        assert any(page.lower().startswith(name.lower()) for page in pages), name
