"""One receiver of webhooks: what waits for it, one message at a time, each tried again until it is given up."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
from starlette.concurrency import run_in_threadpool

from app import __version__
from app.audit.log import AuditUnavailable
from app.audit.webhooks import Message, Outbox, State
from app.clock import Clock
from app.domain.backoff import LONGEST_DELAY, next_delay
from app.domain.signing import sign

logger = logging.getLogger("clawmend")

POLL_SECONDS = 1.0
"""While messages wait for their next try, the clock is looked at so often."""
MOST_UNWRITTEN = 100
"""As many are kept in memory while the audit database does not answer; the oldest of more are lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try. `why` None: it was taken."""

    why: str | None = None
    final: bool = False
    """Trying again is of no use."""
    retry_after: float | None = None
    """Seconds."""


class Receiver:
    """Lives on the event loop. A receiver that is slow or dead keeps nobody else waiting."""

    def __init__(
        self, url: str, key: bytes, client: httpx.AsyncClient, outbox: Outbox, clock: Clock, *, timeout: float
    ) -> None:
        self.digest = hashlib.sha256(url.encode()).hexdigest()
        self.host = urlsplit(url).netloc
        self.failing = False
        self.results: Counter[str] = Counter()
        """Tries since the start: `delivered` and `failed` ones."""
        self._url = url
        self._key = key
        self._client = client
        self._outbox = outbox
        self._clock = clock
        self._timeout = timeout
        self._unwritten: list[Message] = []
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def keep(self, messages: list[Message]) -> None:
        """Messages that could not be written down: they are sent from memory, if we live so long."""
        self._unwritten = [*self._unwritten, *messages][-MOST_UNWRITTEN:]

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        while True:
            self._wake.clear()
            message = await self._next()
            if message is not None and self._is_due(message):
                await self._try(message)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS if message else None):
                    await self._wake.wait()

    def _is_due(self, message: Message) -> bool:
        """A clock that was set back makes none of them wait for longer than any should."""
        wait = message.next_at - self._clock.now()
        return wait <= 0 or wait > 2_000 * LONGEST_DELAY

    async def _next(self) -> Message | None:
        try:
            waiting = await run_in_threadpool(self._outbox.next_for, self.digest)
        except AuditUnavailable:
            waiting = None
        candidates = [*([waiting] if waiting else []), *self._unwritten]
        return min(candidates, key=lambda m: (not self._is_due(m), m.next_at, m.id), default=None)

    async def _try(self, message: Message) -> None:
        answer = await self._send(message)
        self.failing = answer.why is not None
        self.results["failed" if self.failing else "delivered"] += 1
        now, tries = self._clock.now(), message.tries + 1
        delay = next_delay(tries, random.random(), answer.retry_after)  # noqa: S311  (it spreads, it hides nothing)
        if answer.why is None:
            changed = replace(message, state=State.SENT, tries=tries, body="", why=None)
        elif answer.final or delay is None:
            logger.warning("webhook %s is not delivered to %s: %s", message.id, self.host, answer.why)
            changed = replace(message, state=State.DEAD, tries=tries, why=answer.why)
        else:
            changed = replace(message, tries=tries, why=answer.why, next_at=now + round(delay * 1000))
        await self._note(message, changed)

    async def _note(self, message: Message, changed: Message) -> None:
        if message in self._unwritten:
            self._unwritten.remove(message)
            if changed.state == State.WAITING:
                self._unwritten.append(changed)
            return
        values = {name: getattr(changed, name) for name in ("state", "tries", "body", "why", "next_at")}
        try:
            await run_in_threadpool(self._outbox.change, message.id, **values)
        except AuditUnavailable:  # it is read again when the audit answers, and sent again: at least once
            await asyncio.sleep(POLL_SECONDS)

    async def _send(self, message: Message) -> Answer:
        body, at = message.body.encode(), self._clock.now() // 1000
        headers = {
            "content-type": "application/json",
            "user-agent": f"Clawmend/{__version__}",
            "webhook-id": message.id,
            "webhook-timestamp": str(at),
            "webhook-signature": sign(self._key, message.id, at, body),
        }
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                status, retry_after = response.status_code, response.headers.get("retry-after")
        except TimeoutError:
            return Answer(f"no answer within {self._timeout:g} s")
        except httpx.HTTPError as error:
            return Answer(f"{type(error).__name__}: {error}"[:200])
        if 200 <= status < 300:
            return Answer()
        if 300 <= status < 400:
            return Answer(f"it answers {status}; a redirect is not followed", final=True)
        return Answer(f"it answers {status}", status == 410, self._seconds(retry_after))

    def _seconds(self, retry_after: str | None) -> float | None:
        """Of a Retry-After (RFC 9110, section 10.2.3)."""
        if retry_after is None:
            return None
        if retry_after.isascii() and retry_after.isdigit():
            return float(retry_after[:9])
        with suppress(ValueError):
            return max(0.0, parsedate_to_datetime(retry_after).timestamp() - self._clock.now() / 1000)
        return None
