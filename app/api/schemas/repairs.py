"""Shapes of repairs: one, many at once, and the breaker that stops them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.api.schemas.base import Moment, Named, Shape
from app.api.schemas.sessions import Evidence, NoEvidence
from app.audit.models import Outcome, Trigger
from app.domain.model import Code


class Fields(Shape):
    """The four fields of a row, as OpenClaw has them (epoch milliseconds)."""

    status: str | None
    endedAt: int | float | None
    runtimeMs: int | float | None
    abortedLastRun: bool | None


class Look(Shape):
    """What a later look at the row has found: docs/explanation/repair.md."""

    at: Moment | None
    found: str


class Told(Shape):
    """What came of telling the gateway: docs/explanation/gateway.md."""

    at: Moment | None
    answer: Literal["as_repaired", "otherwise", "not_told"]
    why: str | None


class Repair(Shape):
    """One attempt to change a row."""

    id: str | None = Field(description="null in a dry run", json_schema_extra={"format": "uuid"})
    dry_run: bool
    kind: Literal["settle", "undo"]
    session_key: str
    session_id: str
    agent_id: str
    state_dir: str
    store_path: str
    outcome: Outcome | None = Field(description="null while it is open, and in a dry run")
    outcome_reason: str | None
    trigger: Trigger
    actor: str
    reason: str
    forced: bool
    verdict: Code
    verdict_reason: str
    before: Fields
    after: Fields
    hand: Literal["file", "database", "plugin"]
    mode: Literal["exchange", "rename"] | None
    crossings: int
    opened_at: Moment | None
    decided_at: Moment | None
    finished_at: Moment | None
    looks: list[Look]
    told: Told | None
    undo_of: str | None
    retry_of: str | None
    evidence: Evidence | NoEvidence | None = Field(description="null where only the change is told of")


class RepairList(Shape):
    """A page of the attempts, the newest first."""

    items: list[Repair]
    next: str | None = Field(description="the `cursor` of the next page", json_schema_extra={"format": "uuid"})


class PlainProblem(Shape):
    """A problem (RFC 9457) without members of its own: docs/reference/errors.md."""

    type: str
    title: str
    status: int
    detail: str
    next: str


class LeftOut(Named):
    """A session that is settled by its own name only."""

    why: str


class BulkItem(Named):
    """What came of one session: its repair or the problem."""

    repair: Repair | None
    problem: PlainProblem | None


class BulkAnswer(Shape):
    """What came of each session, and what was left."""

    dry_run: bool
    items: list[BulkItem]
    summary: dict[str, int]
    not_tried: list[Named]
    stopped: PlainProblem | None
    left_out: list[LeftOut]
    more: int


class Breaker(Shape):
    """The breaker as it stands, or as it was closed last."""

    open: bool
    opened_at: Moment | None
    reason: str | None
    waiting: int
    closed_at: Moment | None
    closed_by: str | None
    close_reason: str | None
