"""The FastAPI application: routes over the last report, and the life of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app import __version__
from app.api import breaker, bulk, events, health, metrics, problem_pages, problems, repairs, sessions, webhooks
from app.api.auth import Gate
from app.api.bearer import BearerTokens
from app.api.callers import everybody
from app.api.idempotency import Idempotency
from app.api.lists import Lists
from app.api.logins import Logins
from app.api.openapi import document_answers
from app.api.pace import RepairPace
from app.api.shortcuts import Shortcuts
from app.notify.news import Newsroom
from app.notify.webhooks import Webhooks
from app.reconcile.reconciler import Reconciler
from app.reconcile.service import Service


def create_app(reconciler: Reconciler, token: str | None) -> FastAPI:
    """The application around `reconciler`; `token` None serves without a login."""
    tokens = BearerTokens(token, reconciler.audit, reconciler.clock) if token is not None else None

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service = Service(reconciler)
        app.state.service = service
        app.state.metrics = metrics.registry_of(service)
        app.state.events = events.Events(service)
        app.state.webhooks = Webhooks(reconciler.settings, reconciler.clock, reconciler.audit)
        app.state.metrics.register(metrics.OfWebhooks(app.state.webhooks))
        if tokens is not None:
            await tokens.refresh()
        await service.start()
        newsroom = Newsroom(service, (app.state.events.tell, app.state.webhooks.tell))
        tasks = [asyncio.create_task(newsroom.run()), asyncio.create_task(app.state.webhooks.run())]
        if tokens is not None:
            tasks.append(asyncio.create_task(tokens.run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await service.stop()

    app = FastAPI(
        title="Clawmend",
        version=__version__,
        summary="Proves which OpenClaw sessions are finished, and settles their rows.",
        lifespan=life,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # a path holds session keys
    )
    app.state.reconciler = reconciler
    app.state.last_health = health.LastHealth()
    app.state.lists = Lists()
    app.state.pace = RepairPace(reconciler.settings.repairs_per_minute, reconciler.clock)
    shown = everybody if tokens is None else tokens
    app.state.logins = Logins(reconciler.clock, (shown,))
    app.state.ways = (shown, app.state.logins)
    app.add_middleware(Idempotency, audit=reconciler.audit, clock=reconciler.clock)
    app.add_middleware(Shortcuts, by_path=health.SHORTCUTS | sessions.SHORTCUTS)
    app.add_middleware(
        Gate,
        ways=app.state.ways,
        allowed_hosts=(*reconciler.settings.allowed_hosts, reconciler.settings.host),
        origins=reconciler.settings.cors_origins,
    )
    if reconciler.settings.cors_origins:  # before the gate: a browser asks first, without the token
        app.add_middleware(
            CORSMiddleware,
            allow_origins=reconciler.settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=[
                "authorization",
                "content-type",
                "idempotency-key",
                "if-match",
                "if-none-match",
                "last-event-id",
            ],
            expose_headers=["etag", "idempotency-replayed", "retry-after", "x-stuck-count"],
            max_age=600,
        )
    problems.install(app)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(events.router)
    app.include_router(bulk.router)
    app.include_router(sessions.router)
    app.include_router(repairs.router)
    app.include_router(breaker.router)
    app.include_router(webhooks.router)
    app.include_router(problem_pages.router)
    document_answers(app)
    return app
