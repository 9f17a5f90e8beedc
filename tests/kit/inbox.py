"""What one side has sent to a core, until it is taken: offered again and again, as the drive does."""

from collections.abc import Callable

from mcproxy.l7.core import Turn


class Inbox:
    """One side's bytes, before a core's `receive_from_client` or `receive_from_backend`."""

    def __init__(self, receive: Callable[[bytes, Turn, float], int]) -> None:
        self._receive = receive
        self.pending = b""

    def one_turn(self, data: bytes, now: float) -> bool:
        """Offer it behind what is pending. Whether the turn is over and something is left."""
        self.pending += data
        if not self.pending:
            return False
        turn = Turn()
        self.pending = self.pending[self._receive(self.pending, turn, now) :]
        return bool(self.pending) and turn.over

    def in_turns(self, data: bytes, now: float) -> int:
        """Offer it until all is taken that can be. How many turns that took."""
        turns = 1
        while self.one_turn(data, now):
            data = b""
            turns += 1
        return turns
