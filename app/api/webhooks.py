"""Messages to webhooks that could not be delivered: to be looked at, and to be sent again."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.callers import demand
from app.api.problems import Problem
from app.api.views import describe_message
from app.domain.caller import Scope
from app.notify.webhooks import Webhooks
from app.reconcile.reconciler import Reconciler

router = APIRouter(prefix="/webhooks", tags=["webhooks"], dependencies=[Depends(demand(Scope.READ))])


@router.get("/dead")
async def dead(
    request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50, cursor: UUID | None = None
) -> Response:
    """What could not be delivered and why, the newest first; `next` is the cursor of the next page."""
    webhooks: Webhooks = request.app.state.webhooks
    found, following = await run_in_threadpool(webhooks.outbox.dead, limit, str(cursor) if cursor else None)
    return _json({"items": [describe_message(message) for message in found], "next": following})


@router.post("/dead/{message_id}/resend", dependencies=[Depends(demand(Scope.REPAIR))])
async def resend(request: Request, message_id: UUID) -> Response:
    """Let one be tried anew, as though it had never been; 404 when it is not among the dead."""
    webhooks: Webhooks = request.app.state.webhooks
    reconciler: Reconciler = request.app.state.reconciler
    if not await run_in_threadpool(webhooks.outbox.send_again, str(message_id), reconciler.clock.now()):
        raise Problem("not_found", f"no message that could not be delivered has the id {message_id}")
    for receiver in webhooks.receivers:
        receiver.wake()
    return _json({"id": str(message_id), "state": "waiting"})


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers={"cache-control": "no-cache"})
