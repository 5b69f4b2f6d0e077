"""Requests that came with a key: each is carried out once, and who sends it again is given the same answer
(draft-ietf-httpapi-idempotency-key-header-07).

A request under way says so every few seconds. One that has stopped saying so, without an answer, was left by a crash:
who sends it again has it carried out again.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from app.audit.log import AuditLog, new_id
from app.audit.models import ATTEMPTS, METADATA, Attempt, Outcome, Trigger

KEPT_SECONDS = 86_400
RENEWED_EVERY_SECONDS = 5
LEFT_AFTER_SECONDS = 30
"""For so long a request under way may be silent."""

REQUESTS = Table(
    "keyed_requests",
    METADATA,
    Column("caller", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("run", String(36), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("renewed_at", BigInteger, nullable=False),
    Column("status", Integer),
    Column("headers", JSON(none_as_null=True)),
    Column("body", LargeBinary),
    Index("ix_keyed_requests_created_at", "created_at"),
)


class KeyReused(Exception):
    """The key was sent with another request before; the message says what is other."""


class InProgress(Exception):
    """The same request is being carried out at this moment."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """One request. Two with the same `sha256` are the same."""

    caller: str
    key: str
    request: str
    """Its method and path, for a person to read."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry a request out."""

    keyed: Keyed
    run: str
    first_at: int | None = None
    """When (epoch ms) it was first sent, where that was left without an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def claim(audit: AuditLog, keyed: Keyed, now: int) -> Claim | Answer:
    """The right to carry it out, or what was answered before; forgets what is too old. `now` is epoch ms.

    Raises KeyReused, InProgress, AuditUnavailable.
    """
    run = new_id(now)
    with audit.write() as connection:
        connection.execute(delete(REQUESTS).where(REQUESTS.c.created_at <= now - KEPT_SECONDS * 1000))
        row = connection.execute(select(REQUESTS).where(_is(keyed))).first()
        if row is None:
            who = {"caller": keyed.caller, "key": keyed.key, "request": keyed.request, "sha256": keyed.sha256}
            connection.execute(insert(REQUESTS).values(**who, run=run, created_at=now, renewed_at=now))
            return Claim(keyed, run)
        if row.sha256 != keyed.sha256:
            other = row.request if row.request != keyed.request else "another body, query or condition"
            raise KeyReused(f"this key was sent with {other} before")
        if row.status is not None:
            return Answer(row.status, [(name, value) for name, value in row.headers], row.body)
        if abs(now - row.renewed_at) < LEFT_AFTER_SECONDS * 1000:
            raise InProgress("this very request is being carried out")
        connection.execute(update(REQUESTS).where(_is(keyed)).values(run=run, renewed_at=now))
        return Claim(keyed, run, row.created_at)


def renew(audit: AuditLog, claimed: Claim, now: int) -> None:
    """Say that it is under way still. Raises AuditUnavailable."""
    with audit.write() as connection:
        connection.execute(update(REQUESTS).where(*_of(claimed)).values(renewed_at=now))


def keep(audit: AuditLog, claimed: Claim, answer: Answer) -> None:
    """Whoever sends it again is to get `answer`. Raises AuditUnavailable."""
    values = {"status": answer.status, "headers": [list(header) for header in answer.headers], "body": answer.body}
    with audit.write() as connection:
        connection.execute(update(REQUESTS).where(*_of(claimed)).values(**values))


def release(audit: AuditLog, claimed: Claim) -> None:
    """Whoever sends it again is to have it carried out. Raises AuditUnavailable."""
    with audit.write() as connection:
        connection.execute(delete(REQUESTS).where(*_of(claimed)))


def done_since(
    audit: AuditLog, moment: int, *, kind: str, store_path: str, session_key: str, actor: str, reason: str
) -> Attempt | None:
    """The first attempt that changed this row since `moment` (epoch ms) for `actor`, by the API. Raises
    AuditUnavailable.
    """
    query = select(ATTEMPTS.c.id).where(
        ATTEMPTS.c.store_path == store_path,
        ATTEMPTS.c.session_key == session_key,
        ATTEMPTS.c.opened_at >= moment,
        ATTEMPTS.c.kind == kind,
        ATTEMPTS.c.trigger == Trigger.API,
        ATTEMPTS.c.actor == actor,
        ATTEMPTS.c.reason == reason,
        ATTEMPTS.c.outcome == Outcome.APPLIED,
    )
    with audit.read() as connection:
        found = connection.execute(query.order_by(ATTEMPTS.c.id).limit(1)).scalar()
    return audit.get(found) if found is not None else None


def _is(keyed: Keyed) -> ColumnElement[bool]:
    return (REQUESTS.c.caller == keyed.caller) & (REQUESTS.c.key == keyed.key)


def _of(claimed: Claim) -> tuple[ColumnElement[bool], ...]:
    """Not one that another has taken over since."""
    return _is(claimed.keyed), REQUESTS.c.run == claimed.run
