"""The breaker: where too many repairs fall due, the scheduler does none until a person has looked (decision 0017)."""

from __future__ import annotations

import logging
from dataclasses import replace

from app.audit.log import AuditLog, new_id
from app.audit.openings import Opening, close_all, latest_opening, write_opening, write_waiting
from app.audit.recent import Turn, taken_up_since
from app.clock import Clock
from app.domain.breaker import why_to_open
from app.reconcile.report import Finding
from app.settings import Settings

logger = logging.getLogger("clawmend")


class NotOpen(Exception):
    """The breaker is closed already."""


class Breaker:
    """`let` is called by one thread at a time; the rest by any. All of it is in the audit: several may stand on one."""

    def __init__(self, settings: Settings, clock: Clock, audit: AuditLog) -> None:
        self._policy = settings.breaker
        self._clock = clock
        self._audit = audit
        self.latest: Opening | None = None
        """The one that stands open, or the one closed last, as of the last pass."""

    @property
    def is_open(self) -> bool:
        return self.latest is not None and self.latest.is_open

    def let(self, due: list[Finding]) -> list[Finding]:
        """What of `due` the scheduler may settle now: all of it, or nothing. Raises AuditUnavailable."""
        latest = self.latest = latest_opening(self._audit)
        turns = {_turn(finding) for finding in due}
        if latest is None or not latest.is_open:
            reason = self._why_to_open(turns, latest) if turns else None
            if reason is None:
                return due
            now = self._clock.now()
            opening = Opening(new_id(now), now, reason, len(turns))
            write_opening(self._audit, opening)
            self.latest = opening
            logger.warning("the breaker has opened, nothing is settled by itself until a person closes it: %s", reason)
        elif latest.waiting != len(turns):
            write_waiting(self._audit, latest.id, len(turns))
            self.latest = replace(latest, waiting=len(turns))
        return []

    def close(self, by: str, reason: str) -> Opening:
        """Let the scheduler go on, from the next pass, with what waits and then as ever; gives what was closed.

        Raises NotOpen and AuditUnavailable.
        """
        now = self._clock.now()
        if not close_all(self._audit, now, by, reason):
            raise NotOpen("the breaker is not open")
        closed = latest_opening(self._audit)
        if closed is None:
            raise NotOpen("the breaker is not open")
        self.latest = closed
        logger.warning("the breaker was closed by %s", by)
        return closed

    def _why_to_open(self, turns: set[Turn], latest: Opening | None) -> str | None:
        now = self._clock.now()
        since, let_through = now - round(self._policy.seconds * 1000), 0
        if latest is not None and latest.closed_at is not None and since < latest.closed_at <= now:
            since, let_through = latest.closed_at, latest.waiting
        return why_to_open(len(taken_up_since(self._audit, since) | turns), let_through, self._policy)


def _turn(finding: Finding) -> Turn:
    row = finding.evidence.row
    return Turn(finding.target.path, row.key, row.session_id or "", row.started_at)
