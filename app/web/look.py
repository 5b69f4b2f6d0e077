"""What the templates show, gathered from the last report and the audit. Any number of threads."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from typing import Any

from fastapi import FastAPI

from app.api.problems import Problem
from app.api.views import describe_problems
from app.audit.log import AuditUnavailable
from app.audit.models import Attempt, Outcome
from app.domain.caller import Caller, Scope
from app.domain.describe import describe_evidence
from app.domain.model import FORCEABLE, TERMINAL_STATUSES, Code
from app.openclaw.last_attempts import last_attempts
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Report
from app.web.board import Board, Line, Wanted, board_of, reference_of
from app.web.picture import MOST_ATTEMPTS, draw

REPAIRS = 20
"""As many stand in the timeline at once."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of an act. `plan` is of a dry run: what would be written."""

    attempt: Attempt
    dry_run: bool


class Boards:
    """The board of the last report, made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = board_of(Report())

    def of(self, report: Report) -> Board:
        with self._lock:
            if self._made.report is not report:
                self._made = board_of(report)
            return self._made


def board_now(app: FastAPI) -> Board:
    boards: Boards = app.state.boards
    reconciler: Reconciler = app.state.reconciler
    return boards.of(reconciler.report)


def state_now(app: FastAPI) -> str:
    """Changes when the summary says something else, but for what only the clock changes."""
    reconciler: Reconciler = app.state.reconciler
    said = (board_now(app).state, reconciler.breaker.is_open, reconciler.failing, reconciler.audit_problem)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def summary(app: FastAPI) -> dict[str, Any]:
    reconciler: Reconciler = app.state.reconciler
    board = board_now(app)
    return {
        "board": board,
        "state": state_now(app),
        "now": reconciler.clock.now(),
        "automatic": reconciler.settings.auto_repair,
        "failing": reconciler.failing,
        "breaker": reconciler.breaker.latest if reconciler.breaker.is_open else None,
        "audit_problem": reconciler.audit_problem,
        "problems": describe_problems(board.report),
    }


def sessions(app: FastAPI, wanted: Wanted) -> dict[str, Any]:
    board = board_now(app)
    now = app.state.reconciler.clock.now()
    return {"board": board, "sheet": board.sheet(wanted), "wanted": wanted, "now": now}


def repairs(app: FastAPI, before: str | None = None) -> dict[str, Any]:
    """The newest ones, or those before the one with this id; an audit that does not answer is said, not raised."""
    reconciler: Reconciler = app.state.reconciler
    try:
        found, following = reconciler.audit.page(REPAIRS, before)
    except AuditUnavailable as error:
        return {"repairs": [], "following": None, "repairs_problem": str(error)}
    return {"repairs": found, "following": following, "repairs_problem": None}


def session(app: FastAPI, caller: Caller, reference: str, said: Said | None = None) -> dict[str, Any]:
    """Raises Problem (`not_found`)."""
    reconciler: Reconciler = app.state.reconciler
    line = line_of(app, reference)
    finding, now = line.finding, reconciler.clock.now()
    forceable = finding.verdict.code in FORCEABLE and finding.verdict.code is not Code.STUCK
    trails = tuple(t._replace(events=last_attempts(t, MOST_ATTEMPTS)) for t in finding.evidence.trails)
    will_act = not (finding.held_by or finding.unwritable or finding.flapping)
    return {
        "line": line,
        "picture": draw(
            replace(finding.evidence, trails=trails), finding.verdict, finding.verdict.due_at if will_act else None, now
        ),
        "evidence": describe_evidence(finding.evidence, reconciler.settings.policy),
        "now": now,
        "said": said,
        "may_repair": caller.may(Scope.REPAIR) and finding.verdict.code is Code.STUCK,
        "may_force": caller.may(Scope.ADMIN) and forceable,
        "statuses": TERMINAL_STATUSES,
    }


def line_of(app: FastAPI, reference: str) -> Line:
    """The session that the console calls so. Raises Problem (`not_found`)."""
    line = board_now(app).by_reference.get(reference)
    if line is None:
        raise Problem("not_found", "this session is not in the last pass any more, or Clawmend was started again")
    return line


def repair(app: FastAPI, caller: Caller, attempt: Attempt, said: Said | None = None) -> dict[str, Any]:
    """Raises AuditUnavailable."""
    reconciler: Reconciler = app.state.reconciler
    latest = reconciler.audit.latest_applied(attempt.store_path, attempt.session_key)
    settled = attempt.kind == "settle" and attempt.outcome == Outcome.APPLIED
    reference = reference_of(attempt.store_path, attempt.session_key)
    return {
        "attempt": attempt,
        "reference": reference if reference in board_now(app).by_reference else None,
        "said": said,
        "may_undo": caller.may(Scope.REPAIR) and settled and latest is not None and latest.id == attempt.id,
        "now": reconciler.clock.now(),
    }
