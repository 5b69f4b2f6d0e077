"""When the breaker opened, why, and who has closed it: what is open is never forgotten, whoever starts or stops."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, insert, select, update

from app.audit.log import AuditLog
from app.audit.models import METADATA

OPENINGS = Table(
    "breaker_openings",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("opened_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("waiting", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("closed_by", Text),
    Column("close_reason", Text),
    Index("ix_breaker_openings_closed_at", "closed_at"),
)


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening, as the table has it. Times are epoch ms."""

    id: str
    opened_at: int
    reason: str
    waiting: int
    """How many sessions wait for it to be closed."""
    closed_at: int | None = None
    closed_by: str | None = None
    close_reason: str | None = None

    @property
    def is_open(self) -> bool:
        return self.closed_at is None


def latest_opening(audit: AuditLog) -> Opening | None:
    """The one that stands open, else the one closed last. Raises AuditUnavailable."""
    return audit.unless_changed("latest opening", lambda: _latest(audit))


def _latest(audit: AuditLog) -> Opening | None:
    query = select(OPENINGS).order_by(OPENINGS.c.closed_at.is_not(None), OPENINGS.c.closed_at.desc()).limit(1)
    with audit.read() as connection:
        row = connection.execute(query).first()
    return Opening(**row._asdict()) if row is not None else None


def write_opening(audit: AuditLog, opening: Opening) -> None:
    """Raises AuditUnavailable."""
    with audit.write() as connection:
        connection.execute(insert(OPENINGS).values(**asdict(opening)))


def write_waiting(audit: AuditLog, opening_id: str, waiting: int) -> None:
    """Raises AuditUnavailable."""
    with audit.write() as connection:
        connection.execute(update(OPENINGS).where(OPENINGS.c.id == opening_id).values(waiting=waiting))


def close_all(audit: AuditLog, at: int, by: str, reason: str) -> bool:
    """Close what stands open; False when nothing does. Raises AuditUnavailable."""
    values = {"closed_at": at, "closed_by": by, "close_reason": reason}
    with audit.write() as connection:
        return connection.execute(update(OPENINGS).where(OPENINGS.c.closed_at.is_(None)).values(**values)).rowcount > 0
