"""What happens, as it happens: findings, repairs and passes as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.callers import demand
from app.api.views import describe_attempt, describe_change, describe_scan
from app.audit.log import AuditUnavailable
from app.audit.models import Attempt
from app.domain.caller import Scope
from app.domain.model import Code, Policy
from app.reconcile.report import Report, changes
from app.reconcile.service import Service

router = APIRouter(tags=["events"], dependencies=[Depends(demand(Scope.READ))])

_KEPT = 1_000
"""As many events can be told to who comes back."""
_ATTEMPTS = 100
"""As many of the newest attempts are looked at after each pass; an older one changes no more."""


@dataclass(frozen=True, slots=True)
class Event:
    """`number` counts from 1 since the start of the service."""

    number: int
    kind: str
    data: dict[str, Any]


class Events:
    """Told by each pass of a service. Lives on the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._number = 0
        self._more = asyncio.Condition()
        self._life = f"{service.reconciler.clock.now():x}"
        """Told in each id, so that one of an earlier life is not taken for one of this."""
        self._ended = False
        self._report = Report()
        self._attempts: dict[str, tuple[object, ...]] | None = None

    async def run(self) -> None:
        """After each pass tell what it has changed, until cancelled."""
        passes = 0
        while True:
            passes = await self._service.passes_after(passes)
            report = self._service.reconciler.report
            policy = self._service.reconciler.settings.policy
            told = [*_of_findings(self._report, report, policy), *await self._of_attempts()]
            self._report = report
            async with self._more:
                for kind, data in (*told, ("pass", _of_pass(report))):
                    self._number += 1
                    self._kept.append(Event(self._number, kind, data))
                self._more.notify_all()

    async def _of_attempts(self) -> list[tuple[str, dict[str, Any]]]:
        """Those that were opened, closed or looked at since; none of before, none while the audit does not answer."""
        try:
            newest, _ = await run_in_threadpool(self._service.reconciler.audit.page, _ATTEMPTS)
        except AuditUnavailable:
            return []
        known, self._attempts = self._attempts, {a.id: _state(a) for a in newest}
        if known is None:
            return []
        changed = [a for a in reversed(newest) if known.get(a.id) != _state(a)]
        return [("repair", {**describe_attempt(a), "evidence": None}) for a in changed]

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
    """`finding`, `repair`, `pass` and `reset` as they happen; `Last-Event-ID` resumes."""
    told: Events = request.app.state.events
    async for event in told.follow(last_event_id):
        yield event


def _of_findings(before: Report, now: Report, policy: Policy) -> Iterable[tuple[str, dict[str, Any]]]:
    return (("finding", describe_change(c, policy, now.finished_at or 0)) for c in changes(before, now))


def _of_pass(report: Report) -> dict[str, Any]:
    return {"stuck": len(report.with_code(Code.STUCK)), **describe_scan(report)}


def _state(attempt: Attempt) -> tuple[object, ...]:
    return attempt.outcome, len(attempt.looks), attempt.told is None, attempt.finished_at
