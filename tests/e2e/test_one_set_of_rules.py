"""One set of rules for requests: what HTTP/1.1 and HTTP/2 can both say comes to the same at the backend.

The table is tests/kit/request_rules.py; each case runs in memory, through both cores, and over TLS through the program.
Two readers of one request that disagree are how requests are smuggled and how a client works with one protocol only.
"""

import pytest
from hpack import Decoder

from mcproxy.l7.bridge.bridge import Bridge
from mcproxy.l7.core import Core
from mcproxy.l7.relay.relay import Relay
from mcproxy.wire import http2
from mcproxy.wire.http2 import PREFACE
from tests.kit.http2_peer import Cutter
from tests.kit.inbox import Inbox
from tests.kit.request_rules import (
    HOST,
    ONE_REFUSAL,
    RULES,
    Passed,
    Recorder,
    Rule,
    http2_message,
    status_of,
    status_of_http1,
)

NOW = 100.0
ADDRESS = "192.0.2.7"
Outcome = tuple[Passed | None, int | None]  # what the backend got, and the status that the client got
TUNNELS = {101, 200}


class Rig:
    """A core in memory, with a recording backend."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._client = Inbox(core.receive_from_client)
        self._backend = Inbox(core.receive_from_backend)
        self.recorder = Recorder()
        self.got = b""

    def send(self, data: bytes) -> None:
        """Send as the client, and carry everything to its end."""
        core = self._core
        self._client.in_turns(data, NOW)
        while True:
            if core.wants_dial:
                core.dialling()
            answer = self.recorder.receive(core.take_for_backend())
            self.got += core.take_for_client()
            if not answer:
                return
            self._backend.in_turns(answer, NOW)


def leads_here(host: bytes) -> bool:
    return host.removesuffix(b".") == HOST


def through_http1(rule: Rule) -> Outcome:
    rig = Rig(Bridge(HOST.decode(), ADDRESS, leads_here, NOW))
    rig.send(rule.http1)
    return next(iter(rig.recorder.seen.values()), None), status_of_http1(rig.got)


def through_http2(rule: Rule) -> Outcome:
    rig = Rig(Relay(HOST.decode(), ADDRESS, leads_here, NOW))
    rig.send(PREFACE + http2.settings([]))
    rig.send(http2.SETTINGS_ACK + http2_message(rule, 1))
    decoder = Decoder()
    statuses = [status_of(frame, decoder) for frame in Cutter().feed(rig.got) if frame.stream_id == 1]
    return rig.recorder.seen.get(1), next((status for status in statuses if status is not None), None)


def check(expected: Passed | int, outcome: Outcome) -> None:
    seen, status = outcome
    if isinstance(expected, Passed):
        assert seen == expected
        assert status in (TUNNELS if expected.protocol else {200})
    else:
        assert status in (ONE_REFUSAL if expected in ONE_REFUSAL else {expected})


@pytest.mark.parametrize("name", [rule.name for rule in RULES.values() if rule.http1])
def test_http1(name: str) -> None:
    check(RULES[name].expected, through_http1(RULES[name]))


@pytest.mark.parametrize("name", [rule.name for rule in RULES.values() if rule.head])
def test_http2(name: str) -> None:
    check(RULES[name].of_http2, through_http2(RULES[name]))
