"""The FastAPI application: routes over the last report, and the life of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from app import __version__
from app.api import events, health, metrics, problems, repairs, sessions
from app.api.auth import Gate
from app.api.callers import BearerToken, WayIn, everybody
from app.api.lists import Lists
from app.api.logins import Logins
from app.api.problems import PROBLEMS, Problem
from app.reconcile.reconciler import Reconciler
from app.reconcile.service import Service


def create_app(reconciler: Reconciler, token: str | None) -> FastAPI:
    """The application around `reconciler`; `token` None serves without a login."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service = Service(reconciler)
        app.state.service = service
        app.state.metrics = metrics.registry_of(service)
        app.state.events = events.Events(service)
        await service.start()
        telling = asyncio.create_task(app.state.events.run())
        try:
            yield
        finally:
            telling.cancel()
            await service.stop()

    app = FastAPI(
        title="Clawmend",
        version=__version__,
        summary="Proves which OpenClaw sessions are finished, and settles their rows.",
        lifespan=life,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.reconciler = reconciler
    app.state.lists = Lists()
    shown: tuple[WayIn, ...] = (everybody if token is None else BearerToken(token),)
    app.state.logins = Logins(reconciler.clock, shown)
    app.state.ways = (*shown, app.state.logins)
    app.add_middleware(
        Gate, ways=app.state.ways, allowed_hosts=(*reconciler.settings.allowed_hosts, reconciler.settings.host)
    )
    if reconciler.settings.cors_origins:  # before the gate: a browser asks first, without the token
        app.add_middleware(
            CORSMiddleware,
            allow_origins=reconciler.settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["authorization", "content-type", "if-none-match"],
            expose_headers=["etag", "x-stuck-count"],
            max_age=600,
        )
    problems.install(app)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(events.router)
    app.include_router(sessions.router)
    app.include_router(repairs.router)
    app.add_api_route("/problems/{code}", _explain_problem, methods=["GET"], tags=["problems"])
    return app


async def _explain_problem(code: str) -> Response:
    """What an error's `type` leads to."""
    if code not in PROBLEMS:
        raise Problem("not_found", f"no problem is called {code[:60]}")
    status, title, next_step = PROBLEMS[code]
    return Response(f"{code} ({status}): {title}.\n{next_step}\n", media_type="text/plain")
