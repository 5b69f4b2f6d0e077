"""Settling many: which sessions a bulk repair takes up, and what comes of each, one after the other.

Nothing is weakened by it: each session is proven again by itself, and what needs a person who has looked at that very
session (force, a session that somebody has taken back, a subagent's row) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt
from app.domain.model import Code
from app.openclaw.folder import FileProblem
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import Ask, NotStuck, StoreUnfit
from app.reconcile.repair import Repairer
from app.reconcile.report import Finding, Report

_BUSY_BEFORE = "its store was busy a moment ago, so it was not tried"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions. `min_age`: seconds; `most`: as many are taken up, the oldest first."""

    codes: tuple[Code, ...]
    most: int
    agent: str | None = None
    min_age: float | None = None

    def includes(self, finding: Finding, now: int) -> bool:
        age = finding.age(now)
        old_enough = self.min_age is None or (age is not None and age >= self.min_age)
        return old_enough and self.agent in (None, finding.agent_id)


@dataclass(frozen=True, slots=True)
class Choice:
    taken: tuple[Finding, ...]
    left_out: tuple[tuple[Finding, str], ...]
    """What matches and is to be settled by its own name only, with the reason."""
    more: int
    """How many more match."""


@dataclass(frozen=True, slots=True)
class Came:
    """What came of one session: an attempt (of a dry run as it would be), or why there is none."""

    finding: Finding
    attempt: Attempt | None = None
    error: Exception | None = None
    """NotStuck, StoreUnfit, StoreBusy, or AuditUnavailable: then no other session is to be tried."""


def choose(report: Report, wanted: Wanted, audit: AuditLog, *, settle_subagents: bool) -> Choice:
    """Raises AuditUnavailable."""
    now = report.finished_at or 0
    found = [f for f in report.with_code(*wanted.codes) if wanted.includes(f, now)]
    taken: list[Finding] = []
    left_out: list[tuple[Finding, str]] = []
    for number, finding in enumerate(found):
        if len(taken) == wanted.most:
            return Choice(tuple(taken), tuple(left_out), len(found) - number)
        why = _for_a_person(finding, audit, settle_subagents=settle_subagents)
        if why is None:
            taken.append(finding)
        else:
            left_out.append((finding, why))
    return Choice(tuple(taken), tuple(left_out), 0)


def _for_a_person(finding: Finding, audit: AuditLog, *, settle_subagents: bool) -> str | None:
    row = finding.evidence.row
    if row.is_subagent and not settle_subagents:
        return "a subagent's row: settling it may send an announcement to its parent"
    if finding.flapping is not None:
        return "it flaps: settled again and again, and stuck again each time"
    held_by = audit.hold(finding.target.path, row.key, row.session_id, row.started_at)
    return f"somebody has taken its repair back, with the undo {held_by}" if held_by else None


class OneByOne:
    """Settles the sessions that are given to it. For one thread at a time. It remembers which stores were busy: each
    further session there would be waited for in vain, too.
    """

    def __init__(self, repairer: Repairer, ask: Ask) -> None:
        self._repairer = repairer
        self._ask = ask
        self._busy: set[str] = set()

    def settle(self, finding: Finding) -> Came:
        if finding.target.path in self._busy:
            return Came(finding, error=StoreBusy(_BUSY_BEFORE))
        try:
            return Came(finding, self._repairer.settle(finding, self._ask))
        except StoreBusy as error:
            self._busy.add(finding.target.path)
            return Came(finding, error=error)
        except (NotStuck, StoreUnfit, AuditUnavailable) as error:
            return Came(finding, error=error)
        except FileProblem as error:
            return Came(finding, error=StoreUnfit(f"the store: {error.detail}"))
