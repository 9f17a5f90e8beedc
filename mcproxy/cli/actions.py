"""What the keys of `mcproxy top` do at the server: block a client, close a connection, look up a route.

Each asks first, in a dialog of the screen, and ends with a line for the person. Calls to the server wait in threads, so
the screen goes on meanwhile. Tested by tests/cli/test_top.py.
"""

import asyncio
import os
import time
from collections.abc import Awaitable
from typing import Any

from textual.app import App

from mcproxy.admin.pb import admin_pb2 as pb
from mcproxy.cli import dialogs, output
from mcproxy.cli.board import Board
from mcproxy.cli.feed import Feed, Lost
from mcproxy.cli.firewall import own_ip
from mcproxy.cli.panels import PANELS, Details
from mcproxy.cli.tables import PanelTable
from mcproxy.model import counted


class Actions:
    """The actions of one screen."""

    def __init__(self, screen: App[None], feed: Feed, board: Board, refresh: float) -> None:
        """`refresh` is how often a dialog looks at the board, in seconds."""
        self._screen = screen
        self._feed = feed
        self._board = board
        self._refresh = refresh

    def block(self, table: PanelTable) -> None:
        """Block the client of the table's row."""
        row = table.row(self._board)
        self._do(self._block("" if row is None else table.view.panel.client(row)))

    def close(self, table: PanelTable) -> None:
        """Close the connection of the table's row."""
        row = table.row(self._board)
        self._do(self._close(0 if row is None else table.view.panel.connection(row)))

    def zoom(self, table: PanelTable) -> None:
        """Show all fields of the table's row, from where it can be blocked or closed."""
        if (row := table.row(self._board)) is not None:
            self._do(self._zoom(table, row))

    def _do(self, action: Awaitable[str]) -> None:
        """Run it beside the screen, and show what has become of it."""
        screen = self._screen

        async def run() -> None:
            try:
                outcome = await action
            except Lost as lost:
                screen.notify(str(lost), severity="error", markup=False)
            else:
                if outcome:
                    screen.notify(outcome, markup=False)

        screen.run_worker(run())

    async def _zoom(self, table: PanelTable, row: Any) -> str:
        panel, view = table.view.panel, table.view

        def details() -> Details | None:
            found = view.find(self._board, time.time(), panel.key(row))
            return None if found is None else panel.details(found)

        offers = "b: block  " * bool(panel.client(row)) + "k: close  " * bool(panel.connection(row))
        zoom = dialogs.Zoom(panel.title, details, offers, self._refresh)
        if panel is PANELS["routes"]:
            self._screen.run_worker(self._look_up(zoom, row.listener, row.hostname))
        wanted = await self._screen.push_screen_wait(zoom)
        if wanted == "block":
            return await self._block(panel.client(row))
        return await self._close(panel.connection(row)) if wanted == "close" else ""

    async def _look_up(self, zoom: dialogs.Zoom, listener: str, hostname: str) -> None:
        """Show how a route is configured, too."""
        try:
            route = await asyncio.to_thread(self._feed.route, listener, hostname)
        except Lost as lost:
            zoom.add([("configured", str(lost))])
        else:
            fields = output.plain(route) if route else {"configured": "it is removed"}
            fields.pop("hostname", None)
            zoom.add([(name.replace("_", " "), _written(value)) for name, value in fields.items()])

    async def _block(self, address: str) -> str:
        if not address:
            return "go to a connection, a refusal or a client first"
        wanted = await self._screen.push_screen_wait(dialogs.Block(address))
        if wanted is None:
            return ""
        request = pb.AddFirewallRuleRequest(
            kind=pb.RULE_KIND_IP, value=address, ttl_seconds=wanted.seconds, kill=wanted.kill,
            own_ip=own_ip(os.environ), comment=self._screen.TITLE, dry_run=True,
        )  # fmt: skip
        risks = (await asyncio.to_thread(self._feed.block, request)).effect.risks
        question = f"{'; '.join(risks)}. Block {address}?"
        if risks and not await self._screen.push_screen_wait(dialogs.Confirm(question)):
            return "nothing has changed"
        request.dry_run = False
        answer = await asyncio.to_thread(self._feed.block, request)
        until = f" until {output.moment(answer.rule.expires_at)}" if answer.rule.expires_at else " permanently"
        closed = f", {counted(answer.killed, 'connection')} closed" if wanted.kill else ""
        closed += f", not by {', '.join(answer.unanswered)}" if answer.unanswered else ""
        return f"{address} is blocked{until}{closed}; `mcproxy firewall remove {address}` lets it in again"

    async def _close(self, number: int) -> str:
        if not number:
            return "go to a connection first"
        if not await self._screen.push_screen_wait(dialogs.Confirm(f"Close connection {number}?")):
            return ""
        await asyncio.to_thread(self._feed.close_connection, number)
        return f"connection {number} is closed"


def _written(value: Any) -> str:
    """A field's value; "" for one that is not set."""
    return ("yes" if value is True else str(value)) if value else ""
