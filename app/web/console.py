"""The routes of the console that only look: the page, its parts, and what a browser loads for it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from starlette.responses import Response

from app.api.callers import demand
from app.api.guesses import Guesses
from app.api.logins import Logins
from app.api.problems import Problem
from app.api.repairs import attempt_with
from app.domain.caller import NOBODY, Caller, Scope
from app.domain.model import Code
from app.web import acts, look, stream
from app.web.answers import ConsoleRoute
from app.web.assets import asset
from app.web.board import ALL, NEEDS_A_LOOK, Wanted
from app.web.pages import page

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)
_FOREVER = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
_SHOWN = f"^({NEEDS_A_LOOK}|{ALL}|{'|'.join(Code)})$"


def add_console(app: FastAPI) -> None:
    """Serve the console at `/` of an application that create_app has made."""
    app.state.boards = look.Boards()
    app.state.guesses = Guesses(app.state.reconciler.clock)
    for part in (router, acts.router, stream.router):
        app.include_router(part)


Reader = Annotated[Caller, Depends(demand(Scope.READ))]


def _wanted(
    show: Annotated[str, Query(pattern=_SHOWN)] = NEEDS_A_LOOK,
    agent: Annotated[str, Query(max_length=200)] = "",
    words: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Wanted:
    return Wanted(show, agent, words, page)


Sessions = Annotated[Wanted, Depends(_wanted)]


@router.get("/")
def console(request: Request, wanted: Sessions, session: Annotated[str, Query(max_length=64)] = "") -> Response:
    """The page for who has logged in, and the login for who has not."""
    caller: Caller = request.state.caller
    if caller is NOBODY:
        return page("login.html", problem=None)
    app = request.app
    logins: Logins = app.state.logins
    opened = look.session(app, caller, session) if session in look.board_now(app).by_reference else {"line": None}
    parts = look.summary(app) | look.sessions(app, wanted) | look.repairs(app) | opened
    open_to_all = app.state.reconciler.settings.auth == "off"
    return page("console.html", **parts, caller=caller, proof=logins.proof(request), open_to_all=open_to_all)


@router.get("/console/summary")
def summary(request: Request, _: Reader) -> Response:
    return page("_summary.html", **look.summary(request.app))


@router.get("/console/sessions")
def sessions(request: Request, _: Reader, wanted: Sessions) -> Response:
    return page("_sessions.html", **look.sessions(request.app, wanted))


@router.get("/console/sessions/{reference}")
def session(request: Request, caller: Reader, reference: str) -> Response:
    return page("_session.html", **look.session(request.app, caller, reference))


@router.get("/console/repairs")
def repairs(request: Request, _: Reader, before: UUID | None = None) -> Response:
    found = look.repairs(request.app, str(before) if before else None)
    return page("_repairs.html" if before is None else "_more_repairs.html", **found)


@router.get("/console/repairs/{attempt_id}")
async def repair(request: Request, caller: Reader, attempt_id: UUID) -> Response:
    return await acts.opened_repair(request, caller, await attempt_with(request.app.state.reconciler, attempt_id))


@router.get("/console/static/{name}")
def static(name: str) -> Response:
    """No login: the login page needs them too."""
    found = asset(name)
    if found is None:
        raise Problem("not_found", "no such file; load the page again")
    return Response(found[0], media_type=found[1], headers=_FOREVER)
