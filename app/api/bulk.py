"""The repair of many sessions by one request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.callers import Repairer
from app.api.conditions import wanted_fingerprints
from app.api.problems import Problem, problem_members, problem_of
from app.api.views import describe_bulk
from app.audit.log import AuditUnavailable
from app.audit.models import Trigger
from app.domain.model import Code
from app.reconcile.asking import Ask
from app.reconcile.bulk import Came, OneByOne, Wanted, choose

router = APIRouter(prefix="/sessions", tags=["sessions"])


class BulkRequest(BaseModel):
    """Which sessions, how many at most, and why. There is no `force`: what is not proven is settled by its own name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: list[Literal["stuck", "ending"]] = Field(default=["stuck"], min_length=1, max_length=2)
    agent: str | None = Field(default=None, max_length=200)
    min_age: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)
    max: int = Field(default=10, ge=1, le=500, strict=False)
    dry_run: bool = True
    reason: str = Field(default="no reason given", min_length=1, max_length=500)

    @field_validator("max", mode="before")
    @classmethod
    def _is_a_number(cls, given: object) -> object:
        """JSON has one kind of numbers: 10.0 is an integer, "10" and true are not."""
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise ValueError("a number is wanted")  # noqa: TRY004  (pydantic tells of this one)
        return given


@router.post("/repair")
async def repair_many(
    request: Request, caller: Repairer, wish: Annotated[BulkRequest | None, Body()] = None
) -> Response:
    """Settle up to `max` sessions, the oldest first, each judged by itself; one that may not be settled stops no other.

    200 with what came of each; 429 or 503 when nothing at all could be done.
    """
    wish, here = wish or BulkRequest(), request.app.state
    if wanted_fingerprints(request) is not None:
        raise Problem("bad_request", "If-Match is for one session: a bulk repair takes whatever matches by now")
    wanted = Wanted(tuple(Code(word) for word in wish.verdict), wish.max, wish.agent, wish.min_age)
    reconciler = here.reconciler
    subagents = reconciler.settings.settle_subagents
    choice = await run_in_threadpool(choose, reconciler.report, wanted, reconciler.audit, settle_subagents=subagents)
    ask = Ask(Trigger.API, caller.name, wish.reason, wish.dry_run)
    one_by_one, came, stopped = OneByOne(reconciler.repairer, ask), list[Came](), None
    for finding in choice.taken:
        try:
            if not wish.dry_run:
                here.pace.draw(caller)
            came.append(await run_in_threadpool(one_by_one.settle, finding))
        except Problem as error:
            stopped = error
        if came and isinstance(came[-1].error, AuditUnavailable):
            stopped = problem_of(came[-1].error)
        if stopped is not None:
            break
    if any(each.attempt for each in came) and not wish.dry_run:
        await here.service.next_pass()
    answer = describe_bulk(choice, came, stopped, _told, dry_run=wish.dry_run)
    if stopped is not None and not any(each.attempt for each in came):
        raise Problem(stopped.code, stopped.detail, headers=stopped.headers, **answer)
    return Response(
        orjson.dumps(answer),
        media_type="application/json",
        headers={**((stopped.headers if stopped else None) or {}), "cache-control": "no-cache"},
    )


def _told(error: Exception) -> dict[str, Any]:
    problem = problem_of(error)
    return problem_members(problem.code, problem.detail)
