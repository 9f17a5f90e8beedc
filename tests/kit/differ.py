"""Runs the cases of the differential harness through every program, and lays the outcomes side by side.

An outcome is what the client saw and, behind "->", what the backend received. A program differs if its outcome isn't
among the most frequent ones of the other programs.
"""

import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.kit import differ_client as client
from tests.kit.differ_backend import said
from tests.kit.differ_case import Case
from tests.kit.differ_peers import LIMIT, NAME, Peer
from tests.kit.pace import within

SETTLED = 0.3  # seconds for a backend to write down what a client has already heard of
NOT_ABLE = "n/a"
OURS = "mcproxy"
MOST_AT_ONCE = 32  # timed cases: they wait, all together


@dataclass(frozen=True)
class Row:
    """A case and what came of it, by program."""

    case: Case
    outcomes: dict[str, str]

    @property
    def usual(self) -> set[str]:
        """The outcomes that most of the other programs have in common."""
        counts = Counter(self.alike(text) for name, text in self.outcomes.items() if name != OURS and text != NOT_ABLE)
        most = max(counts.values(), default=0)
        return {text for text, count in counts.items() if count == most}

    @property
    def differs(self) -> bool:
        return self.alike(self.outcomes[OURS]) not in self.usual

    @property
    def same_for_all(self) -> bool:
        """Whether no program differs from mcproxy."""
        return len({self.alike(text) for text in self.outcomes.values() if text != NOT_ABLE}) == 1

    def alike(self, outcome: str) -> str:
        """An outcome without a server's choice of how to refuse a stream (RFC 9113, section 8.1.1)."""
        if self.case.kind == "http2":
            return re.sub(r"^(RST_STREAM|GOAWAY) \w+|^400|^closed", "refused", outcome)
        return outcome


def run(case: Case, peer: Peer) -> str:
    """The outcome of a case."""
    requests, streams = peer.http.requests, peer.raw.streams
    before = len(requests), len(streams)
    started = time.monotonic()
    port = {"stream": peer.ports.l4, "behind": peer.ports.behind}.get(case.kind, peer.ports.l7)
    if not port:
        return NOT_ABLE
    seen = _client(case, port)
    took = time.monotonic() - started
    if case.timed:
        seen = seen.removesuffix(" end")  # an idle timeout may have come in between
        seen += " at once" if took < LIMIT * 0.6 else " late"
    if case.kind in ("stream", "behind"):
        if seen.startswith("served"):
            within(lambda: len(streams) > before[1], SETTLED)
        outcome = seen if case.timed else f"{seen} -> {'; '.join(streams[before[1] :]) or '-'}"
        # How long a hello is depends on the OpenSSL that made it.
        return re.sub(rf"\b{_stream_length(case)} bytes", "all bytes", outcome)
    if case.timed or case.kind == "tls":
        return seen
    if any(isinstance(step, client.Fin) for step in case.steps):
        within(lambda: len(requests) > before[0], SETTLED)
    came = [each for each in requests[before[0] :] if each.get(":path") != client.PROBE]
    return f"{seen} -> {said(came, case.kind == 'http2')}"


def _client(case: Case, port: int) -> str:
    more = {"sni": NAME, **case.more}
    if case.kind == "http1":
        return client.http1(port, case.steps, **more)
    if case.kind == "http2":
        return client.http2(port, case.steps, **more)
    if case.kind == "tls":
        return client.tls(port, **more)
    return client.stream(port, case.steps, _stream_length(case))


def _stream_length(case: Case) -> int:
    """Bytes of the stream that a case sends, without the PROXY header."""
    sent = b"".join(step for step in case.steps if isinstance(step, bytes))
    return len(sent) - sent.find(b"\x16\x03\x01") if case.kind == "behind" else len(sent)


def run_all(cases: Sequence[Case], peers: dict[str, Peer]) -> list[Row]:
    """Quick cases one after the other in each program, the timed ones together."""
    quick = [case for case in cases if not case.timed]
    timed = [case for case in cases if case.timed]
    with ThreadPoolExecutor(len(peers)) as pool:
        columns = dict(
            zip(peers, pool.map(lambda peer: [run(case, peer) for case in quick], peers.values()), strict=True)
        )
    found = {
        (name, case.name): text for name, texts in columns.items() for case, text in zip(quick, texts, strict=True)
    }
    jobs = [(case, peer) for case in timed for peer in peers.values()]
    with ThreadPoolExecutor(MOST_AT_ONCE * len(peers)) as pool:
        for (case, peer), text in zip(jobs, pool.map(lambda job: run(*job), jobs), strict=True):
            found[peer.name, case.name] = text
    return [Row(case, {name: found[name, case.name] for name in peers}) for case in cases]


def drained(peers: dict[str, Peer], case: Case) -> Row:
    """The same while each program is asked to end: what a slow reader gets. The programs are gone afterwards."""

    def outcome(peer: Peer) -> str:
        def end() -> None:
            within(lambda: any(each.get(":path") == "/big" for each in peer.http.requests), LIMIT)
            peer.process.send_signal(peer.drain)

        peer.http.requests.clear()
        with ThreadPoolExecutor(1) as pool:
            signalled = pool.submit(end)
            seen = _client(case, peer.ports.l7)
            signalled.result()
        return seen.removesuffix(" end")

    with ThreadPoolExecutor(len(peers)) as pool:
        texts = dict(zip(peers, pool.map(outcome, peers.values()), strict=True))
    return Row(case, texts)


def lines(row: Row) -> list[str]:
    """A row of the table, for people."""
    mark = "*" if row.differs else " "
    texts = [f"      {name:8} {ascii(text)[1:-1]}" for name, text in row.outcomes.items()]
    return [f"{mark} {row.case.name}    ({row.case.why})", *texts]


def write(rows: Sequence[Row], path: Path) -> None:
    """The table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    title = "What a client sees -> what the backend receives. `*`: mcproxy differs from most of the others."
    path.write_text("\n".join([title, "", *(line for row in rows for line in lines(row))]) + "\n")
