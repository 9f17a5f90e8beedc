"""Completions for a word on the command line, from the running server.

A user waits with a finger on the Tab key: each call has `TIMEOUT`, each answer a bound, and failures are silent.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import output
from mcproxy.cli.client import Client, connected
from mcproxy.cli.feed import Lost, lose

TIMEOUT = 1.0  # seconds for one question to the server
MAX_CANDIDATES = 200  # more than anybody reads: another letter narrows them down
_PLAIN = re.compile(r"[A-Za-z0-9._:/\[\]%-]+").fullmatch  # names, addresses and numbers: nothing that a shell expands
MAX_LISTED = 1_000  # items of a list that the server can't narrow down: one page

Candidates = list[CompletionItem]
Complete = Callable[[click.Context, click.Parameter, str], Candidates]


def _asking(ask: Callable[[Client, click.Context, str], Iterator[CompletionItem]]) -> Complete:
    """A completion function for click, which calls it with the beginning of a word."""

    def complete(context: click.Context, _param: click.Parameter, begun: str) -> Candidates:
        # The options say which server; when one of them is wrong, this is not the place to say so.
        with contextlib.redirect_stderr(io.StringIO()), context.scope(cleanup=False):
            try:
                with connected(context.params.get("config_file"), lose, TIMEOUT) as client:
                    found = [_shown(item) for item in ask(client, context, begun) if _fits(item.value, begun)]
            except (Lost, SystemExit, click.ClickException):
                return []
        return found[:MAX_CANDIDATES]

    return complete


def _fits(value: str, begun: str) -> bool:
    """Whether a value goes on from `begun`, and may be put into a command line as it is: the server may not be ours."""
    return value.startswith(begun) and _PLAIN(value) is not None


def _shown(item: CompletionItem) -> CompletionItem:
    return CompletionItem(item.value, help=output.clean(item.help or ""))


@_asking
def hosts(client: Client, context: click.Context, begun: str) -> Iterator[CompletionItem]:
    """Host names of routes; of the listener that was named, if one was."""
    listener = context.params.get("listener") or ""
    request = pb.ListRoutesRequest(listener=listener, prefix=begun.lower(), page_size=MAX_CANDIDATES)
    for each in client.call("ListRoutes", request).routes:
        yield CompletionItem(each.route.hostname, help=f"{each.listener} to {each.route.backend}")


@_asking
def listeners(client: Client, _context: click.Context, _begun: str) -> Iterator[CompletionItem]:
    """Addresses of listeners."""
    for each in client.call("ListListeners", pb.ListListenersRequest(page_size=MAX_LISTED)).listeners:
        yield CompletionItem(each.addr)


@_asking
def connections(client: Client, _context: click.Context, _begun: str) -> Iterator[CompletionItem]:
    """Ids of the oldest live connections."""
    for each in client.call("ListConnections", pb.ListConnectionsRequest(page_size=MAX_LISTED)).connections:
        yield CompletionItem(str(each.id), help=f"{each.client} {each.route or each.sni}".rstrip())


@_asking
def rules(client: Client, _context: click.Context, begun: str) -> Iterator[CompletionItem]:
    """Values of firewall rules."""
    request = pb.ListFirewallRulesRequest(prefix=begun, page_size=MAX_CANDIDATES)
    for each in client.call("ListFirewallRules", request).rules:
        yield CompletionItem(each.value, help=output.word(pb.RuleKind.DESCRIPTOR, each.kind))


@_asking
def generations(client: Client, _context: click.Context, _begun: str) -> Iterator[CompletionItem]:
    """The newest generations."""
    seen = set[int]()
    for each in client.call("ListRevisions", pb.ListRevisionsRequest(page_size=MAX_CANDIDATES)).revisions:
        if each.generation not in seen:
            seen.add(each.generation)
            yield CompletionItem(str(each.generation), help=f"{output.moment(each.at)} {each.action}")
