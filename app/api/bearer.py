"""The way in by a bearer token (RFC 6750): the one of the installation, and the named ones as they were read last."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from app.api.headers import header_of
from app.audit.log import AuditLog, AuditUnavailable
from app.audit.tokens import digest_of, live_tokens, write_last_used
from app.clock import Clock
from app.domain.caller import INSTALLATION, Caller, Scope

logger = logging.getLogger("clawmend")

REFRESH_SECONDS = 2.0
"""For as long a revoked token may still be taken: the command revokes in a process of its own."""
_USED_STEP_MS = 300_000
"""Of a token's last use no more is written down than one moment in five minutes."""


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    token_id: str | None = None
    """None: the one of the installation, which is not in the table."""
    expires_at: int | None = None


class BearerTokens:
    """Answers from memory. It is asked with a digest: how long that takes tells of the digest, not of a token."""

    def __init__(self, token: str, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._installation = {digest_of(token): _Known(INSTALLATION)}
        self._known = self._installation
        self._used: dict[str, int] = {}
        self._answering = True

    def __call__(self, connection: HTTPConnection) -> Caller | None:
        scheme, _, given = header_of(connection, b"authorization").partition(" ")
        return self.caller_with(given.strip()) if scheme.lower() == "bearer" else None

    def caller_with(self, token: str) -> Caller | None:
        """Whose token this is; None when it is nobody's, or not any more. Runs on the event loop."""
        known = self._known.get(digest_of(token))
        if known is None:
            return None
        now = self._clock.now()
        if known.expires_at is not None and known.expires_at <= now:
            return None
        if known.token_id is not None:
            self._used[known.token_id] = now
        return known.caller

    async def refresh(self) -> None:
        """Read the named tokens anew, and write down which were used. Without the audit those hold that are known."""
        used, self._used = self._used, {}
        try:
            await asyncio.to_thread(self._read, used)
        except AuditUnavailable as error:
            if self._answering:
                logger.warning("the named tokens cannot be read anew, or their last use not be written: %s", error)
            self._answering = False
        else:
            self._answering = True

    async def run(self) -> None:
        """Refresh for ever, until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh()

    def _read(self, used: dict[str, int]) -> None:
        """What was revoked is out before anything is written: a full disk keeps nobody in."""
        tokens = live_tokens(self._audit, self._clock.now())
        named = {
            token.sha256: _Known(Caller(token.name, Scope(token.scope).all_in_it), token.id, token.expires_at)
            for token in tokens
        }
        self._known = named | self._installation
        due = {
            token.id: used[token.id]
            for token in tokens
            if token.id in used and (token.last_used_at is None or used[token.id] - token.last_used_at >= _USED_STEP_MS)
        }
        if due:
            write_last_used(self._audit, due)
