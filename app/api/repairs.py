"""The audit table over HTTP, and the undo of a repair."""

from __future__ import annotations

import hashlib
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.callers import Repairer, demand
from app.api.conditions import Tagged, tag_of, wanted_fingerprints
from app.api.idempotency import done_before
from app.api.pace import RepairPace
from app.api.problems import Problem
from app.api.views import describe_attempt
from app.audit.models import Attempt, Trigger
from app.domain.caller import Caller, Scope
from app.reconcile.asking import Ask
from app.reconcile.reconciler import Reconciler
from app.reconcile.service import Service

router = APIRouter(prefix="/repairs", tags=["repairs"], dependencies=[Depends(demand(Scope.READ))])


class UndoRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(default="no reason given", min_length=1, max_length=500)
    dry_run: bool = False


@router.get("")
async def repairs(
    request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50, cursor: UUID | None = None
) -> Response:
    """Every attempt to change a row, the newest first; `next` is the cursor of the next page."""
    reconciler: Reconciler = request.app.state.reconciler
    found, following = await run_in_threadpool(reconciler.audit.page, limit, str(cursor) if cursor else None)
    return _json({"items": [describe_attempt(a) for a in found], "next": following})


@router.head("/{attempt_id}", include_in_schema=False)
@router.get("/{attempt_id}")
async def repair(request: Request, attempt_id: UUID) -> Response:
    attempt = await attempt_with(request.app.state.reconciler, attempt_id)
    body = orjson.dumps(describe_attempt(attempt))
    return Tagged(body, tag_of(_fingerprint(attempt), hashlib.sha256(body).hexdigest())).answer(request)


@router.post("/{attempt_id}/undo")
async def undo(
    request: Request, caller: Repairer, attempt_id: UUID, wish: Annotated[UndoRequest | None, Body()] = None
) -> Response:
    """Give the row back byte for byte, and hold it; 409 once the row has moved on, 412 when the repair has another
    outcome by now than the one that `If-Match` names.
    """
    wish = wish or UndoRequest()
    here = request.app.state
    attempt = await attempt_with(here.reconciler, attempt_id)
    only_if = wanted_fingerprints(request)
    if only_if is not None and not only_if & {"*", _fingerprint(attempt)}:
        raise Problem("precondition_failed", f"the repair is {attempt.outcome or 'under way'} by now")
    undone = None
    if not wish.dry_run:
        undone = await done_before(request, "undo", attempt.store_path, attempt.session_key, wish.reason)
    if undone is None:
        undone = await take_back(here.service, here.pace, caller, attempt, wish)
    return _json(describe_attempt(undone, dry_run=wish.dry_run))


async def take_back(service: Service, pace: RepairPace, caller: Caller, attempt: Attempt, wish: UndoRequest) -> Attempt:
    """Undo `attempt`, and look again. Raises Problem (`too_many`), and what `Repairer.undo` raises."""
    if not wish.dry_run:
        pace.draw(caller)
    ask = Ask(Trigger.API, caller.name, wish.reason, wish.dry_run)
    undone = await run_in_threadpool(service.reconciler.repairer.undo, attempt, ask)
    if not wish.dry_run:
        await service.next_pass()
    return undone


async def attempt_with(reconciler: Reconciler, attempt_id: UUID) -> Attempt:
    """Raises Problem (`not_found`), AuditUnavailable."""
    found = await run_in_threadpool(reconciler.audit.get, str(attempt_id))
    if found is None:
        raise Problem("not_found", f"no repair has the id {attempt_id}")
    return found


def _fingerprint(attempt: Attempt) -> str:
    """What an undo of it rests on: its later looks, and what came of telling, change nothing of that."""
    return f"{attempt.id}-{attempt.outcome or 'open'}"


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers={"cache-control": "no-cache"})
