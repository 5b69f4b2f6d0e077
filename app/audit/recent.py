"""What was done lately, counted in the audit: so a restart forgets none of it."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select

from app.audit.log import AuditLog
from app.audit.models import ATTEMPTS, Outcome, Trigger

Name = tuple[str, str]
"""A session: its store's path and its key."""


class Turn(NamedTuple):
    """One turn of one session. `started_at` is epoch ms."""

    store_path: str
    session_key: str
    session_id: str
    started_at: int | None


def settled_since(audit: AuditLog, moment: int) -> dict[Name, list[int]]:
    """By session when (epoch ms) each settlement since `moment` was begun that stood and was not taken back.

    One that the gateway has overwritten did not stand: it and its repeats are one settlement, the one that stands.
    Raises AuditUnavailable.
    """
    undone = select(ATTEMPTS.c.undo_of).where(
        ATTEMPTS.c.kind == "undo", ATTEMPTS.c.outcome == Outcome.APPLIED, ATTEMPTS.c.undo_of.is_not(None)
    )
    query = select(ATTEMPTS.c.store_path, ATTEMPTS.c.session_key, ATTEMPTS.c.opened_at).where(
        ATTEMPTS.c.id >= first_id(moment),
        ATTEMPTS.c.kind == "settle",
        ATTEMPTS.c.outcome == Outcome.APPLIED,
        ATTEMPTS.c.id.not_in(undone),
    )
    found: dict[Name, list[int]] = {}
    with audit.read() as connection:
        for store_path, session_key, opened_at in connection.execute(query):
            found.setdefault((store_path, session_key), []).append(opened_at)
    return found


def taken_up_since(audit: AuditLog, moment: int) -> set[Turn]:
    """The turns that the scheduler has tried to settle since `moment` (epoch ms). Raises AuditUnavailable."""
    columns = (ATTEMPTS.c.store_path, ATTEMPTS.c.session_key, ATTEMPTS.c.session_id, ATTEMPTS.c.started_at)
    query = select(*columns).where(
        ATTEMPTS.c.id >= first_id(moment),
        ATTEMPTS.c.opened_at >= moment,
        ATTEMPTS.c.kind == "settle",
        ATTEMPTS.c.trigger == Trigger.SCHEDULER,
    )
    with audit.read() as connection:
        return {Turn(*row) for row in connection.execute(query.distinct())}


def first_id(moment: int) -> str:
    """The least id that an attempt of this moment (epoch ms) or later may have: ids sort by time."""
    digits = f"{max(0, moment):012x}"
    return f"{digits[:8]}-{digits[8:]}"
