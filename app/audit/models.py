"""The audit table and the value that a row of it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, MetaData, String, Table, Text

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ATTEMPTS = Table(
    "repair_attempts",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("state_dir", Text, nullable=False),
    Column("store_path", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("session_key", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("started_at", BigInteger),
    Column("trigger", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("verdict_reason", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("edit", JSON, nullable=False),
    Column("base_sha256", String(64)),
    Column("new_sha256", String(64)),
    Column("mode", String(16)),
    Column("outcome", String(16)),
    Column("outcome_reason", Text),
    Column("crossings", BigInteger, nullable=False),
    Column("looks", JSON, nullable=False),
    Column("undo_of", String(36)),
    Column("retry_of", String(36)),
    Column("told", JSON(none_as_null=True)),
    Column("hand", String(8), nullable=False, server_default="file"),
    Column("published_with", String(36)),
    Index("ix_repair_attempts_store_path_session_key", "store_path", "session_key"),
    Index("ix_repair_attempts_outcome_finished_at", "outcome", "finished_at"),
)


class Outcome(StrEnum):
    """How an attempt ended; None in the table while it is open. docs/explanation/repair.md explains each."""

    APPLIED = "applied"
    OVERWRITTEN = "overwritten"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"


class Trigger(StrEnum):
    SCHEDULER = "scheduler"
    API = "api"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as the table has it. Times are epoch ms."""

    id: str
    kind: str
    """`settle` or `undo`."""
    opened_at: int
    state_dir: str
    store_path: str
    agent_id: str
    session_key: str
    session_id: str
    started_at: int | None
    trigger: str
    actor: str
    reason: str
    verdict: str
    verdict_reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict)
    edit: list[dict[str, Any]] = field(default_factory=list)
    """The raw text of each field before and after: what undo puts back."""
    forced: bool = False
    base_sha256: str | None = None
    new_sha256: str | None = None
    mode: str | None = None
    """`exchange`, or `rename` for the weaker way."""
    outcome: str | None = None
    outcome_reason: str | None = None
    crossings: int = 0
    """How often a gateway write slipped in and was put back."""
    looks: list[dict[str, Any]] = field(default_factory=list)
    undo_of: str | None = None
    retry_of: str | None = None
    decided_at: int | None = None
    finished_at: int | None = None
    """When the last look was taken; None while looks are still to come."""
    told: dict[str, Any] | None = None
    """What the gateway answered when it was told of it; None while nobody has told it."""
    hand: str = "file"
    """Who changes the row: `file`, `database`, or `plugin` (the companion plugin inside the gateway)."""
    published_with: str | None = None
    """The attempt in whose publishing the row was settled together with others of its store; None for one by itself."""

    @property
    def files_named(self) -> str:
        """The id that is in the names of the files which this attempt lays beside its store."""
        return self.published_with or self.id
