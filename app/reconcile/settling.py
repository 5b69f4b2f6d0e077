"""What one pass settles: what is due, and once more what the gateway has overwritten. What fails is put off."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt, Outcome, Trigger
from app.openclaw.folder import FileProblem
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import Ask, NotStuck, StoreUnfit
from app.reconcile.audited import Audited
from app.reconcile.lanes import lanes, side_by_side
from app.reconcile.looks import Looker
from app.reconcile.put_off import PutOff
from app.reconcile.repair import Repairer
from app.reconcile.report import Finding, Report
from app.reconcile.together import MOST_TOGETHER, Together, can_be_together

logger = logging.getLogger("clawmend")

_BY_ITSELF = Ask(Trigger.SCHEDULER, "clawmend", "its window has passed")
MOST_REPEATS = 3
"""How often a repair that the gateway overwrote is repeated before the session is put off."""
MOST_AT_ONCE = 8
"""Sessions that a pass settles side by side."""


class Settling:
    """`settle` is called by one thread at a time, and makes others where sessions of several stores are due."""

    def __init__(
        self,
        audit: AuditLog,
        audited: Audited,
        repairer: Repairer,
        together: Together,
        *,
        looker: Looker,
        put_off: PutOff,
    ) -> None:
        self.begun = 0
        """Repairs that were begun."""
        self._audit = audit
        self._audited = audited
        self._repairer = repairer
        self._together = together
        self._looker = looker
        self._put_off = put_off
        self._occupied: set[str] = set()
        """Stores that somebody was at in this pass for longer than we wait: their other sessions have time too."""
        self._shared = threading.Lock()
        """For what several threads of one pass change: `begun` and what is put off."""

    def settle(self, report: Report, due: Sequence[Finding], overwritten: Sequence[Attempt]) -> bool:
        """Settle again what was `overwritten`, then the rest of what is `due`, the oldest first; `report` is what this
        pass has found. True when anything changed.
        """
        self._occupied = set()
        repeated = {(a.store_path, a.session_key) for a in overwritten}
        changed = [self._repeat(attempt, _found(report, attempt)) for attempt in overwritten]
        rest = [finding for finding in due if finding.name not in repeated]
        changed.append(side_by_side(self._settle_in_order, lanes(rest), MOST_AT_ONCE))
        return any(changed)

    def _settle_in_order(self, lane: list[Finding]) -> bool:
        """Settle together what can be, the rest one behind the other, while the audit answers. True when anything
        changed.
        """
        done = self._settle_together(lane)
        changed = bool(done)
        for finding in lane:
            if self._audited.problem is not None:
                break
            if finding.name not in done and finding.target.path not in self._occupied:
                changed = self._settle(finding) or changed
        return changed

    def _settle_together(self, lane: list[Finding]) -> set[tuple[str, str]]:
        """Settle by one publishing what is due in one store, but for rows that a look at an earlier repair is to come
        for; the names of what needs nothing more.
        """
        done: set[tuple[str, str]] = set()
        by_store: dict[str, list[Finding]] = {}
        with self._audited():
            looked_at = {(a.store_path, a.session_key) for a in self._audit.to_look_at()}
            for finding in lane:
                if can_be_together(finding) and finding.name not in looked_at:
                    by_store.setdefault(finding.target.path, []).append(finding)
            for found in by_store.values():
                by_key = {finding.key: finding for finding in found}
                for at in range(0, len(found), MOST_TOGETHER):
                    if self._audited.problem is not None:
                        return done
                    for attempt in self._together.settle(found[at : at + MOST_TOGETHER], _BY_ITSELF):
                        with self._shared:
                            self.begun += 1
                        if attempt.outcome != Outcome.REFUSED:  # else each of them is tried by itself
                            done.add(by_key[attempt.session_key].name)
                            self._ended(by_key[attempt.session_key], attempt)
        return done

    def _settle(self, finding: Finding) -> bool:
        """Settle what is due. What we settled in this very turn a moment ago is looked at before it is done again."""
        row = finding.evidence.row
        with self._audited():
            earlier = self._audit.latest_applied(finding.target.path, row.key)
            turn = (row.session_id, row.started_at)
            if earlier and earlier.finished_at is None and (earlier.session_id, earlier.started_at) == turn:
                return self._repeat(earlier, finding) if self._looker.finds_overwritten(earlier) else True
            return self._try(finding, _BY_ITSELF)
        return False

    def _repeat(self, attempt: Attempt, finding: Finding | None) -> bool:
        """Settle again what the gateway has overwritten, a few times; then it counts as a failure."""
        if finding is None:
            return False
        with self._audited():
            repeats, earlier = 1, attempt
            while earlier.retry_of is not None and repeats < MOST_REPEATS:
                older = self._audit.get(earlier.retry_of)
                if older is None:
                    break
                repeats, earlier = repeats + 1, older
            if repeats < MOST_REPEATS:
                again = f"again: {attempt.reason}"
                return self._try(finding, Ask(attempt.trigger, attempt.actor, again, retry_of=attempt.id))
            self._fail(finding, "the gateway keeps overwriting the repair")
        return False

    def _try(self, finding: Finding, ask: Ask) -> bool:
        """Settle; a failure puts the session off. True when anything changed."""
        with self._shared:
            self.begun += 1
        try:
            attempt = self._repairer.settle(finding, ask)
        except NotStuck:
            return True
        except (StoreUnfit, StoreBusy, FileProblem) as error:
            if isinstance(error, StoreBusy):
                self._occupied.add(finding.target.path)
            self._fail(finding, str(error))
            return False
        except AuditUnavailable as error:
            self._audited.problem = str(error)
            logger.warning("no session is settled until the audit database answers: %s", error)
            return False
        self._ended(finding, attempt)
        return True

    def _ended(self, finding: Finding, attempt: Attempt) -> None:
        """Say how an attempt ended; a failure puts the session off."""
        if attempt.outcome == Outcome.APPLIED:
            logger.info("settled session %s: %s (attempt %s)", finding.session_id, attempt.after["status"], attempt.id)
        elif attempt.outcome != Outcome.SUPERSEDED:
            self._fail(finding, f"attempt {attempt.id} {attempt.outcome}: {attempt.outcome_reason}")

    def _fail(self, finding: Finding, why: str) -> None:
        """Put a session off, for longer each time, and say so."""
        with self._shared:
            failed = self._put_off.add(finding.name)
        logger.warning(
            "session %s could not be settled (%d times now), next try in %.0f s: %s",
            finding.session_id,
            failed.times,
            failed.delay,
            why,
        )


def _found(report: Report, attempt: Attempt) -> Finding | None:
    """The session of `attempt` as this pass has found it."""
    return next((f for f in report.find(attempt.session_key) if f.target.path == attempt.store_path), None)
