"""What happens, as it happens: findings, repairs and passes as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.callers import demand
from app.api.views import describe_attempt, describe_change, describe_opening, describe_scan
from app.domain.caller import Scope
from app.domain.model import Code
from app.notify.news import News
from app.reconcile.report import Report
from app.reconcile.service import Service

router = APIRouter(tags=["events"], dependencies=[Depends(demand(Scope.READ))])

_KEPT = 1_000
"""As many events can be told to who comes back."""


@dataclass(frozen=True, slots=True)
class Event:
    """`number` counts from 1 since the start of the service."""

    number: int
    kind: str
    data: dict[str, Any]


class Events:
    """Told by each pass of a service. Lives on the event loop."""

    def __init__(self, service: Service) -> None:
        self._policy = service.reconciler.settings.policy
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._number = 0
        self._more = asyncio.Condition()
        self._life = f"{service.reconciler.clock.now():x}"
        """Told in each id, so that one of an earlier life is not taken for one of this."""
        self._ended = False
        self._report = Report()

    async def tell(self, news: News) -> None:
        """Keep what a pass has changed, and tell those who follow."""
        self._report = news.report
        async with self._more:
            for kind, data in self._told(news):
                self._number += 1
                self._kept.append(Event(self._number, kind, data))
            self._more.notify_all()

    def _told(self, news: News) -> Iterator[tuple[str, dict[str, Any]]]:
        now = news.report.finished_at or 0
        for change in news.changes:
            yield "finding", describe_change(change, self._policy, now)
        for attempt in news.attempts:
            yield "repair", {**describe_attempt(attempt), "evidence": None}
        if news.opening is not None:
            yield "breaker", describe_opening(news.opening)
        yield "pass", {"stuck": len(news.report.with_code(Code.STUCK)), **describe_scan(news.report)}

    async def end(self) -> None:
        """Let everybody go who follows: the service is about to stop."""
        async with self._more:
            self._ended = True
            self._more.notify_all()

    async def follow(self, last_id: str | None) -> AsyncIterator[ServerSentEvent]:
        """Every event from now on, or those behind `last_id` first. Who has missed some that are no longer known, or
        cannot keep up, is told `reset`: what is there now has to be asked for again.
        """
        seen = self._number if last_id is None else self._seen(last_id)
        while True:
            events = await self._behind(seen)
            if self._ended:
                return
            seen = events[-1].number if events else self._number
            if not events:
                yield ServerSentEvent(event="reset", id=self._id(seen), data={})
            for event in events:
                yield ServerSentEvent(event=event.kind, id=self._id(event.number), data=event.data)

    async def _behind(self, seen: int | None) -> list[Event]:
        """Those behind the event `seen`, when there are any; none where some of them are no longer known."""
        if seen is None:
            return []
        async with self._more:
            await self._more.wait_for(lambda: self._number > seen or self._ended)
            missed = not self._kept or self._kept[0].number > seen + 1
            return [] if missed else [event for event in self._kept if event.number > seen]

    def _id(self, number: int) -> str:
        return f"{self._life}-{number}"

    def _seen(self, last_id: str) -> int | None:
        """None for an id that is not of this life."""
        life, _, number = last_id.partition("-")
        known = life == self._life and number.isascii() and number.isdigit() and len(number) < 20
        return int(number) if known and int(number) <= self._number else None


@router.get("/events", response_class=EventSourceResponse)
async def events(
    request: Request, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> AsyncIterator[ServerSentEvent]:
    """`finding`, `repair`, `breaker`, `pass` and `reset` as they happen; `Last-Event-ID` resumes."""
    told: Events = request.app.state.events
    async for event in told.follow(last_event_id):
        yield event
