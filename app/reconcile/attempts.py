"""An attempt from its intent to its outcome: the audit knows each step before it is taken (design, section 3).

Each of our hands takes the same steps: the intent, the plan, the change, the outcome. Here is what all of them write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from app.audit.log import AuditLog
from app.audit.models import Attempt, Outcome
from app.clock import Clock
from app.domain.describe import describe_evidence, describe_fields
from app.domain.model import Policy, Settlement
from app.domain.splice import Edit, FieldEdit
from app.openclaw.gateway_plugin import Order
from app.openclaw.paths import DATABASE_NAME, StoreTarget, agents_root
from app.reconcile.asking import Ask
from app.reconcile.hands import Hand
from app.reconcile.report import Finding


class Stop(Exception):
    """Ends an attempt whose intent is written; becomes its outcome."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What an attempt makes of the text that it finds: a whole file, or one row's entry in a database."""

    base: bytes
    new: bytes
    edit: Edit
    note: dict[str, Any]
    """Columns of the audit that follow from it."""
    order: Order | None
    """The same for the plugin inside the gateway; None where it is not to do it."""
    hand: Hand
    """Who may write it, by what was just found."""


OtherHand = Callable[[StoreTarget, Attempt, Callable[[], Rewrite]], Attempt | None]
"""Carries out an attempt that is open, and closes it; None where the store is to be written after all."""


def write_plan(audit: AuditLog, attempt: Attempt, plan: Rewrite, **columns: Any) -> None:
    """What is about to be done, before it is. Raises Stop where nothing is to be done, and AuditUnavailable."""
    if plan.edit.empty:
        raise Stop(Outcome.SUPERSEDED, "the row already says so")
    audit.change(
        attempt.id,
        edit=[asdict(change) for change in plan.edit.fields],
        base_sha256=hashlib.sha256(plan.base).hexdigest(),
        **columns,
        **plan.note,
    )


def write_outcome(
    audit: AuditLog,
    clock: Clock,
    attempt: Attempt,
    outcome: Outcome,
    why: str | None,
    *,
    left: bool = False,
    **columns: Any,
) -> Attempt:
    """What became of it. The later looks come for what was applied, what is unknown, and what has `left` a file behind.

    Raises AuditUnavailable.
    """
    write_outcomes(audit, clock, [attempt], outcome, why, left=left, **columns)
    return audit.get(attempt.id) or attempt


def write_outcomes(
    audit: AuditLog,
    clock: Clock,
    attempts: list[Attempt],
    outcome: Outcome,
    why: str | None,
    *,
    left: bool,
    **columns: Any,
) -> list[Attempt]:
    """The same of all that were published together, in one commit. Raises AuditUnavailable."""
    now = clock.now()
    more_looks = left or outcome in (Outcome.APPLIED, Outcome.UNKNOWN)
    values = {
        "outcome": outcome,
        "outcome_reason": why,
        "decided_at": now,
        "finished_at": None if more_looks else now,
        **columns,
    }
    audit.change(*(attempt.id for attempt in attempts), **values)
    return [replace(attempt, **values) for attempt in attempts]


def intent_to_settle(
    attempt_id: str, now: int, found: Finding, settlement: Settlement, ask: Ask, *, policy: Policy
) -> Attempt:
    row = found.evidence.row
    return Attempt(
        id=attempt_id,
        kind="settle",
        opened_at=now,
        state_dir=found.target.state_dir,
        store_path=found.target.path,
        agent_id=found.agent_id,
        session_key=row.key,
        session_id=row.session_id or "",
        started_at=row.started_at,
        trigger=ask.trigger,
        actor=ask.actor,
        reason=ask.reason,
        verdict=found.verdict.code,
        verdict_reason=found.verdict.reason,
        before=describe_fields(row),
        after=settlement.as_fields(),
        evidence=describe_evidence(found.evidence, policy),
        forced=ask.force,
        retry_of=ask.retry_of,
    )


def intent_to_undo(attempt_id: str, now: int, repair: Attempt, ask: Ask) -> Attempt:
    return Attempt(
        id=attempt_id,
        kind="undo",
        opened_at=now,
        state_dir=repair.state_dir,
        store_path=repair.store_path,
        agent_id=repair.agent_id,
        session_key=repair.session_key,
        session_id=repair.session_id,
        started_at=repair.started_at,
        trigger=ask.trigger,
        actor=ask.actor,
        reason=ask.reason,
        verdict=repair.verdict,
        verdict_reason=repair.verdict_reason,
        before=repair.after,
        after=repair.before,
        undo_of=repair.id,
    )


def target_of(attempt: Attempt) -> StoreTarget:
    """The store of an attempt, as it was found then."""
    path = attempt.store_path
    folder, _, name = path.rpartition("/")
    return StoreTarget(
        attempt.state_dir,
        attempt.agent_id,
        path,
        agents_root(path) or folder,
        "database" if name == DATABASE_NAME else "file",
    )


def edit_of(attempt: Attempt) -> Edit:
    """What an attempt did to its row."""
    return Edit(attempt.session_key, tuple(FieldEdit(**change) for change in attempt.edit))


def reversed_edit(edit: Edit) -> Edit:
    """What an undo did to the row."""
    return Edit(edit.key, tuple(FieldEdit(c.name, c.after, c.before) for c in reversed(edit.fields)))
