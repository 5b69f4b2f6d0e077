"""The hand that writes to a database without the plugin: one transaction, in a process of its own (design, section 5).

1. the intent is in the audit;
2. judge the row as it stands now; write the plan into the audit;
3. compare the whole entry with the text that was judged, and write, in one transaction (app.openclaw.database_write);
   where it is another by then, begin again at 2;
4. write the outcome into the audit. A process without a word is `unknown`, which the later looks resolve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.splice import CannotSplice
from app.openclaw.database_process import replace_in_a_process
from app.openclaw.folder import FileProblem
from app.openclaw.paths import StoreTarget
from app.openclaw.replacement import Replacement, Written
from app.openclaw.sessions_json import StoreProblem
from app.reconcile.attempts import OtherHand, Rewrite, Stop, write_outcome, write_plan
from app.reconcile.file_hand import MOST_TRIES

_HOLD_LIVE, _HOLD_STOPPED = 0.05, 5.0
"""Seconds from BEGIN to COMMIT: a gateway that runs stands still meanwhile; where none does, nobody waits."""


class DatabaseHand:
    """Any number of threads; the folder's lock, which the caller holds, lets one of us write at a time."""

    def __init__(self, clock: Clock, audit: AuditLog) -> None:
        self._clock = clock
        self._audit = audit

    def carry_out(
        self, target: StoreTarget, attempt: Attempt, rewrite: Callable[[], Rewrite], better: OtherHand | None = None
    ) -> Attempt:
        """Open `attempt`, make of the row what `rewrite` says, close it. `better`, a better hand, goes first.

        Raises AuditUnavailable.
        """
        attempt = replace(attempt, hand="database")
        self._audit.open(attempt)
        if better is not None and (by_it := better(target, attempt, rewrite)) is not None:
            return by_it
        try:
            outcome, why = self._write(target, attempt, rewrite)
        except Stop as stop:
            outcome, why = stop.outcome, str(stop)
        except (FileProblem, StoreProblem, CannotSplice) as error:
            outcome, why = Outcome.REFUSED, str(error)
        return write_outcome(self._audit, self._clock, attempt, outcome, why)

    def _write(
        self, target: StoreTarget, attempt: Attempt, rewrite: Callable[[], Rewrite]
    ) -> tuple[Outcome, str | None]:
        for _ in range(MOST_TRIES):
            plan = rewrite()
            if not plan.edit.empty and plan.hand.name != "database":
                raise Stop(Outcome.REFUSED, plan.hand.why_not or "the plugin has not taken the order")
            write_plan(self._audit, attempt, plan, new_sha256=hashlib.sha256(plan.new).hexdigest())
            said = replace_in_a_process(_order(target, attempt, plan), self._clock.now())
            if (said.kind, said.code) != ("changed", "changed"):
                return _outcome_of(said)
        return Outcome.REFUSED, f"the row was written {MOST_TRIES} times in between"


def _order(target: StoreTarget, attempt: Attempt, plan: Rewrite) -> Replacement:
    return Replacement(
        state_dir=target.state_dir,
        root=target.root,
        path=target.path,
        key=attempt.session_key,
        before=plan.base,
        after=plan.new,
        live=plan.hand.live,
        hold_seconds=_HOLD_LIVE if plan.hand.live else _HOLD_STOPPED,
    )


def _outcome_of(said: Written) -> tuple[Outcome, str | None]:
    if said.kind == "written":
        return Outcome.APPLIED, None
    by_kind = {"changed": Outcome.SUPERSEDED, "refused": Outcome.REFUSED, "unknown": Outcome.UNKNOWN}
    return by_kind[said.kind], f"{said.detail} ({said.code})"
