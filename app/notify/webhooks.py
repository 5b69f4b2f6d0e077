"""Telling the operator's own URLs what happens: signed, tried again, and kept to be looked at where that fails."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from typing import TYPE_CHECKING

import orjson
from starlette.concurrency import run_in_threadpool

from app.audit.log import AuditLog, AuditUnavailable, new_id
from app.audit.webhooks import Message, Outbox, State
from app.clock import Clock
from app.domain.describe import rfc3339
from app.domain.signing import key_of
from app.notify.news import News
from app.notify.notices import GROUPS, Notice, notices
from app.settings import Settings

if TYPE_CHECKING:
    import httpx

    from app.notify.receiver import Receiver

MOST_WAITING = 1_000
"""As many messages wait for one receiver; the oldest of more are not delivered."""
MOST_KEPT = 1_000
"""As many of those that were sent, and of those that were not delivered, are remembered."""


class Webhooks:
    """Nothing, where no URL is set. Lives on the event loop; the outbox is asked in threads."""

    def __init__(self, settings: Settings, clock: Clock, audit: AuditLog) -> None:
        self.outbox = Outbox(audit)
        self.counts: Counter[str] = Counter()
        """Messages by state, as of the last pass."""
        self.receivers: list[Receiver] = []
        self._clock = clock
        self._wanted = frozenset(kind for kind, group in GROUPS.items() if group in settings.webhook_events)
        self._names = settings.webhook_names == "keep"
        self._client: httpx.AsyncClient | None = None
        secret = settings.webhook_secret
        if settings.webhook_urls and secret is not None:
            import httpx  # noqa: PLC0415  (who sends nothing does without)

            from app.notify.receiver import Receiver  # noqa: PLC0415

            # no proxy, no .netrc: what is sent goes to the named URL and to nobody else
            self._client = httpx.AsyncClient(
                verify=ssl.create_default_context(), trust_env=False, timeout=settings.webhook_timeout_seconds
            )
            self.receivers = [
                Receiver(
                    url,
                    key_of(secret.get_secret_value()),
                    self._client,
                    self.outbox,
                    clock,
                    timeout=settings.webhook_timeout_seconds,
                )
                for url in settings.webhook_urls
            ]

    async def run(self) -> None:
        """Deliver, until cancelled."""
        try:
            await asyncio.gather(*(receiver.run() for receiver in self.receivers))
        finally:
            if self._client is not None:
                await self._client.aclose()

    async def tell(self, news: News) -> None:
        """Put what is new to those who are to be told of it, and see what else has come to wait."""
        if not self.receivers:
            return
        wanted = [n for n in notices(news, self._clock.now(), names=self._names) if n.type in self._wanted]
        unwritten = await run_in_threadpool(self._put, wanted, known_is_old=news.first)
        for receiver in self.receivers:
            receiver.keep([message for message in unwritten if message.receiver == receiver.digest])
            receiver.wake()

    def _put(self, wanted: list[Notice], *, known_is_old: bool) -> list[Message]:
        """Write them down; gives those that could not be."""
        messages = [self._message(notice, receiver) for receiver in self.receivers for notice in wanted]
        try:
            if known_is_old:
                self.outbox.give_up_all_but([receiver.digest for receiver in self.receivers])
                known = self.outbox.known()
                messages = [m for m in messages if (m.receiver, m.type, m.about) not in known and (known or _is_now(m))]
            self.outbox.put(messages, MOST_WAITING)
            self.outbox.forget(MOST_KEPT)
            self.counts = self.outbox.counts()
        except AuditUnavailable:
            return messages
        return []

    def _message(self, notice: Notice, receiver: Receiver) -> Message:
        now = self._clock.now()
        body = orjson.dumps({"type": notice.type, "timestamp": rfc3339(now), "data": notice.data}).decode()
        return Message(
            new_id(now), receiver.digest, receiver.host, notice.type, notice.about, body, State.WAITING, now, 0, now
        )


def _is_now(message: Message) -> bool:
    """What stands now; not what was done before webhooks were ever set up."""
    return not message.type.startswith("repair.")
