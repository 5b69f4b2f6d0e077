"""The breaker: whether the scheduler has stopped repairing by itself, and letting it go on."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.callers import demand
from app.api.views import describe_opening
from app.domain.caller import Caller, Scope
from app.reconcile.reconciler import Reconciler
from app.reconcile.service import Service

router = APIRouter(prefix="/breaker", tags=["breaker"], dependencies=[Depends(demand(Scope.READ))])


class CloseRequest(BaseModel):
    """Why what waits may be settled: it goes into the audit."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str = Field(min_length=1, max_length=500)


@router.get("")
async def breaker(request: Request) -> Response:
    """Whether it is open, since when and why; else who has closed it last."""
    reconciler: Reconciler = request.app.state.reconciler
    return _json(orjson.dumps(describe_opening(reconciler.breaker.latest)))


@router.post("/close")
async def close(
    request: Request,
    caller: Annotated[Caller, Depends(demand(Scope.ADMIN))],
    wish: Annotated[CloseRequest, Body()],
) -> Response:
    """Let the scheduler settle what waits, and go on as ever; 409 when it is not open."""
    service: Service = request.app.state.service
    closed = await run_in_threadpool(service.reconciler.breaker.close, caller.name, wish.reason)
    await service.next_pass()
    return _json(orjson.dumps(describe_opening(closed)))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers={"cache-control": "no-cache"})
