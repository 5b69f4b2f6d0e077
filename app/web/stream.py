"""What happens, for the page that is open: which part of it has changed, and what to say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.callers import caller_of, demand
from app.api.events import Events
from app.domain.caller import NOBODY, Scope
from app.web.look import state_now

router = APIRouter(include_in_schema=False)

_ASK_AGAIN_SECONDS = 10.0
"""So often it is asked whether who follows may still."""


@router.get("/console/events", response_class=EventSourceResponse, dependencies=[Depends(demand(Scope.READ))])
async def events(
    request: Request, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> AsyncIterator[ServerSentEvent]:
    """As GET /events, in fewer words; `bye` when the login has ended."""
    told: Events = request.app.state.events
    following = told.follow(last_event_id)
    coming = asyncio.ensure_future(anext(following, None))
    try:
        while True:
            await asyncio.wait({coming}, timeout=_ASK_AGAIN_SECONDS)
            if caller_of(request, request.app.state.ways) is NOBODY:
                yield ServerSentEvent(event="bye", data={})
                return
            if coming.done():
                event = coming.result()
                if event is None:
                    return
                coming = asyncio.ensure_future(anext(following, None))
                yield await _shortened(request.app, event)
    finally:
        coming.cancel()


async def _shortened(app: FastAPI, event: ServerSentEvent) -> ServerSentEvent:
    data: Any = event.data
    if event.event == "pass":
        state = await run_in_threadpool(state_now, app)
        looked = {"looked_at": app.state.reconciler.report.finished_at, "state": state}
        return ServerSentEvent(event="pass", id=event.id, data={"stuck": data["stuck"], **looked})
    return ServerSentEvent(event=event.event, id=event.id, data={})
