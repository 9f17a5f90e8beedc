"""A reload of all workers: what they have read is used by all of them, or by none.

The parent reads a GeoIP database and workers share its copy, in memory too. So a successor has the one that is in use,
whatever has become of its file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from mcproxy.geoip import Copy, GeoIPError
from mcproxy.messages import NEEDS_GEOIP, FilesRead, PlaneStopping, ReadFiles, Settle, Unsettled
from mcproxy.workers import merging
from mcproxy.workers.remote import Remote
from mcproxy.workers.slot import Slot
from mcproxy.workers.team import Team, acknowledged


@dataclass(slots=True)
class _Read:
    """What workers have read last, until it is used."""

    request: ReadFiles
    copy: Copy | None  # of the GeoIP database that they opened
    by: list[Remote] = field(default_factory=list)

    @property
    def descriptors(self) -> list[int]:
        """To be passed with the request."""
        return self.copy.descriptors if self.copy is not None else []

    def close(self) -> None:
        """Close the copy, if it is not in use."""
        if self.copy is not None:
            self.copy.close()
        self.copy = None


class Refreshing:
    """Has all workers read files again, and use what they have read. One reload at a time."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self._last = _Read(ReadFiles(), None)

    def __repr__(self) -> str:
        return f"<Refreshing {self._last}>"

    def read(self, request: ReadFiles) -> FilesRead:
        """The parent reads a GeoIP database, and all workers share its copy: a successor doesn't need the disk."""
        self._last.close()
        copy, problem = None, ""
        if request.geoip:
            try:
                copy = Copy.make(request.geoip)
            except GeoIPError as error:
                problem = str(error)
        self._last = _Read(request if copy is not None else replace(request, geoip=""), copy)
        found = cast("FilesRead", merging.merged(request, self._have_read(self._team.slots)))
        return replace(found, geoip_problem=problem) if problem else found

    def _have_read(self, slots: Sequence[Slot]) -> list[FilesRead]:
        read = self._last
        with self._team.lock:
            asked = [
                (slot, slot.remote.ask(read.request, read.descriptors)) for slot in slots if slot.remote is not None
            ]
            read.by += [slot.remote for slot, _ in asked if slot.remote is not None]
        return self._team.answers(read.request, asked)

    def settle(self, request: Settle) -> None:
        """All have what was read when this returns, or were killed. A successor gets it from the beginning."""
        team, read = self._team, self._last
        if late := [slot for slot in team.slots if slot.remote is not None and slot.remote not in read.by]:
            self._have_read(late)
        with team.lock:
            if team.stopping:
                raise PlaneStopping("the server is stopping")
            known = team.known
            if request.geoip and read.copy is None and known.table.firewall.countries:
                raise Unsettled(NEEDS_GEOIP)
            known.settings = request.settings or known.settings
            if request.geoip:
                known.geoip, read.copy = read.copy, known.geoip
            asked = team.ask(request)
        read.close()
        acknowledged(asked, "the reload")

    def close(self) -> None:
        """Close what is held for successors."""
        self._last.close()
        if self._team.known.geoip is not None:
            self._team.known.geoip.close()
        self._team.known.geoip = None
