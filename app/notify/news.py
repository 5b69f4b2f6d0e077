"""What a pass has changed: derived once, told to everybody who follows (server-sent events, webhooks)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from app.audit.log import AuditUnavailable
from app.audit.models import Attempt
from app.audit.openings import Opening
from app.reconcile.report import Change, Problem, Report, changes
from app.reconcile.service import Service

logger = logging.getLogger("clawmend")

_ATTEMPTS = 100
"""As many of the newest attempts are looked at after each pass; an older one changes no more."""

Place = tuple[str, str | None]
"""A state dir, and the path of a store in it; None: the state dir itself."""


@dataclass(frozen=True, slots=True)
class News:
    """What is another now than after the pass before."""

    report: Report
    first: bool
    """No pass was told of before: what was so all the time is news too."""
    changes: tuple[Change, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    """Opened, closed, looked at or told of since, the oldest first; none of before the start."""
    decided: tuple[Attempt, ...] = ()
    """Those of them whose outcome is new, or another; at the first pass all that there are."""
    opening: Opening | None = None
    """The breaker, where it was opened or closed; at the first pass where it is open."""
    audit_problem: str | None = None
    """Why the audit does not answer, where it did before."""
    problems: tuple[tuple[Place, Problem], ...] = ()
    """Stores and state dirs that cannot be judged now, for this reason, and could before."""


Listener = Callable[[News], Awaitable[None]]


class Newsroom:
    """Follows the passes of a service. Lives on the event loop."""

    def __init__(self, service: Service, listeners: Sequence[Listener]) -> None:
        self._service = service
        self._listeners = listeners
        self._report = Report()
        self._attempts: dict[str, Attempt] | None = None
        self._opening: Opening | None = None
        self._audit_problem: str | None = None
        self._problems: dict[Place, Problem] = {}

    async def run(self) -> None:
        """After each pass tell what it has changed, until cancelled."""
        passes = 0
        while True:
            passes = await self._service.passes_after(passes)
            news = await self._gather()
            for told in await asyncio.gather(*(listener(news) for listener in self._listeners), return_exceptions=True):
                if isinstance(told, Exception):  # it must not cost the others, nor the next pass, their news
                    logger.error("what a pass has changed could not be told: %r", told, exc_info=told)

    async def _gather(self) -> News:
        reconciler = self._service.reconciler
        report, audit_problem, opening = reconciler.report, reconciler.audit_problem, reconciler.breaker.latest
        attempts, decided = await self._of_attempts()
        problems = _problems(report)
        was_open = self._opening is not None and self._opening.is_open
        is_open = opening is not None and opening.is_open
        news = News(
            report,
            first=self._report.number == 0,
            changes=tuple(changes(self._report, report)),
            attempts=attempts,
            decided=decided,
            opening=opening if was_open != is_open else None,
            audit_problem=audit_problem if self._audit_problem is None else None,
            problems=tuple(
                (place, problem)
                for place, problem in problems.items()
                if place not in self._problems or self._problems[place].code != problem.code
            ),
        )
        self._report, self._audit_problem, self._opening, self._problems = report, audit_problem, opening, problems
        return news

    async def _of_attempts(self) -> tuple[tuple[Attempt, ...], tuple[Attempt, ...]]:
        """None while the audit does not answer."""
        try:
            newest, _ = await run_in_threadpool(self._service.reconciler.audit.page, _ATTEMPTS)
        except AuditUnavailable:
            return (), ()
        known, self._attempts = self._attempts, {a.id: a for a in newest}
        oldest_first = tuple(reversed(newest))
        if known is None:
            return (), oldest_first
        changed = tuple(a for a in oldest_first if a.id not in known or _state(a) != _state(known[a.id]))
        return changed, tuple(a for a in changed if a.id not in known or a.outcome != known[a.id].outcome)


def _problems(report: Report) -> dict[Place, Problem]:
    found: dict[Place, Problem] = {(path, None): problem for path, problem in report.state_problems}
    found |= {(s.target.state_dir, s.target.path): s.problem for s in report.stores if s.problem is not None}
    return found


def _state(attempt: Attempt) -> tuple[object, ...]:
    return attempt.outcome, len(attempt.looks), attempt.told is None, attempt.finished_at
