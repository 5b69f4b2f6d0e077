"""Named tokens: who may ask besides the installation itself. Of a token only its digest is kept.

A token is 256 random bits, so a plain SHA-256 keeps it: a slow hash is for words that somebody could guess.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    String,
    Table,
    Text,
    exists,
    insert,
    literal,
    or_,
    select,
    update,
)

from app.audit.log import AuditLog, new_id
from app.audit.models import METADATA
from app.domain.caller import INSTALLATION, NOBODY, SCHEDULER, Scope

PREFIX = "clawmend_"
"""So that a person, and what looks for secrets in files, knows one when it sees it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_TAKEN = frozenset({INSTALLATION.name, NOBODY.name, SCHEDULER})

TOKENS = Table(
    "access_tokens",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("scope", String(8), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revoked_by", Text),
    Index("ix_access_tokens_name", "name"),
)


class TokenRefused(Exception):
    """A token of this name cannot be made, or there is none to revoke; the message says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """One of them, as the table has it: what a caller shows is not in it. Times are epoch ms."""

    id: str
    name: str
    sha256: str
    scope: str
    """The highest; those below are in it."""
    created_at: int
    created_by: str
    expires_at: int | None = None
    last_used_at: int | None = None
    """To a few minutes."""
    revoked_at: int | None = None
    revoked_by: str | None = None

    def state(self, now: int) -> Literal["live", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "live"


def digest_of(token: str) -> str:
    """In hex."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def add_token(
    audit: AuditLog, name: str, scope: Scope, *, now: int, by: str, expires_at: int | None = None
) -> tuple[str, Token]:
    """Make one: what its owner shows, told this once, and what is kept of it. Raises TokenRefused, AuditUnavailable."""
    if not _NAME.fullmatch(name):
        raise TokenRefused("a name has 1 to 64 letters, digits, or . _ @ + - and begins with a letter or a digit")
    if name.lower() in _TAKEN:
        raise TokenRefused(f"the audit calls another {name.lower()}; take another name")
    shown = PREFIX + secrets.token_urlsafe(32)
    token = Token(new_id(now), name, digest_of(shown), scope, now, by, expires_at)
    values = asdict(token)
    columns = [literal(value, TOKENS.c[column].type).label(column) for column, value in values.items()]
    row = select(*columns).where(~exists().where(TOKENS.c.name == name, _live(now)))
    with audit.write() as connection:
        if connection.execute(insert(TOKENS).from_select(list(values), row)).rowcount == 0:
            raise TokenRefused(f"there is a token called {name}; revoke it first, or take another name")
    return shown, token


def all_tokens(audit: AuditLog) -> list[Token]:
    """Those revoked and expired too, the oldest first. Raises AuditUnavailable."""
    with audit.read() as connection:
        return [
            Token(**row._asdict())
            for row in connection.execute(select(TOKENS).order_by(TOKENS.c.created_at, TOKENS.c.id))
        ]


def live_tokens(audit: AuditLog, now: int) -> list[Token]:
    """Of scopes that this version knows. Raises AuditUnavailable."""
    query = select(TOKENS).where(_live(now), TOKENS.c.scope.in_(list(Scope)))
    with audit.read() as connection:
        return [Token(**row._asdict()) for row in connection.execute(query)]


def revoke_token(audit: AuditLog, name: str, *, now: int, by: str) -> None:
    """Raises TokenRefused when no live token has this name, AuditUnavailable."""
    with audit.write() as connection:
        change = update(TOKENS).where(TOKENS.c.name == name, _live(now)).values(revoked_at=now, revoked_by=by)
        if connection.execute(change).rowcount == 0:
            raise TokenRefused(f"no live token is called {name}; `clawmend token list` has them all")


def write_last_used(audit: AuditLog, used: Mapping[str, int]) -> None:
    """When each token, by its id, was used last. Raises AuditUnavailable."""
    with audit.write() as connection:
        for token_id, moment in used.items():
            connection.execute(update(TOKENS).where(TOKENS.c.id == token_id).values(last_used_at=moment))


def _live(now: int) -> ColumnElement[bool]:
    return TOKENS.c.revoked_at.is_(None) & or_(TOKENS.c.expires_at.is_(None), TOKENS.c.expires_at > now)
