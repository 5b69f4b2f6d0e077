"""The routes of the console that do something: logging in and out, repair and undo."""

from __future__ import annotations

import math
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from app.api.callers import Repairer
from app.api.guesses import Guesses
from app.api.logins import Logins, origin_of
from app.api.problems import PROBLEMS, Problem
from app.api.repairs import UndoRequest, attempt_with, take_back
from app.api.sessions import RepairRequest, settle
from app.audit.models import Attempt
from app.domain.caller import Caller
from app.web import look
from app.web.answers import ConsoleRoute
from app.web.look import Said
from app.web.pages import page

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)


async def _from_here(request: Request) -> None:
    """Raises Problem (`foreign_form`) for what a page of another origin has sent."""
    if origin_of(request) is None:
        raise Problem(
            "foreign_form", "the browser says that it comes from a page of another origin, or does not say it"
        )


async def _proven(request: Request, x_console_proof: Annotated[str, Header(max_length=200)] = "") -> None:
    """The same, and for what does not know the secret of this login's page."""
    await _from_here(request)
    if not request.app.state.logins.proven(request, x_console_proof):
        raise Problem("foreign_form", "it does not carry what the page of this login gave it")


Proven = Depends(_proven)


@router.post("/console/login", dependencies=[Depends(_from_here)])
async def log_in(request: Request, token: Annotated[str, Form(max_length=500)] = "") -> Response:
    """To the page, with a cookie; or the login again, with what was wrong."""
    logins: Logins = request.app.state.logins
    guesses: Guesses = request.app.state.guesses
    address = request.client.host if request.client else ""
    wait = math.ceil(guesses.wait(address))
    if wait > 0:
        return _refused("too_many_logins", f"wait {wait} s, then try again", {"retry-after": str(wait)})
    answer = RedirectResponse("/", 303)
    if not logins.open(request, token.strip(), answer):
        guesses.missed(address)
        return _refused(
            "unauthorized",
            "no token of this Clawmend is the one you gave",
            {"www-authenticate": 'Bearer realm="clawmend"'},
        )
    return answer


def _refused(code: str, detail: str, headers: dict[str, str]) -> Response:
    status, title, _ = PROBLEMS[code]
    return page("login.html", status, headers, problem={"title": title, "detail": detail})


@router.post("/console/logout", dependencies=[Depends(_from_here)])
async def log_out(request: Request, proof: Annotated[str, Form(max_length=200)] = "") -> Response:
    logins: Logins = request.app.state.logins
    if not logins.proven(request, proof):
        raise Problem("foreign_form", "it does not carry what the page of this login gave it")
    answer = RedirectResponse("/", 303)
    logins.close(request)
    logins.forget_in(request, answer)
    return answer


@router.post("/console/sessions/{reference}/repair", dependencies=[Proven])
async def repair(
    request: Request,
    caller: Repairer,
    reference: str,
    *,
    reason: Annotated[str, Form(max_length=500)] = "",
    dry_run: Annotated[bool, Form()] = False,
    target_status: Annotated[Literal["done", "failed", "timeout", "killed"] | None, Form()] = None,
) -> Response:
    """The session as it is afterwards, with what came of it; a `target_status` overrules the verdict."""
    line = await run_in_threadpool(look.line_of, request.app, reference)
    why = {"reason": _reason(reason, dry_run=dry_run)}
    wish = RepairRequest(**why, dry_run=dry_run, force=target_status is not None, target_status=target_status)
    attempt = await settle(request.app.state.service, request.app.state.pace, caller, line.finding, wish)
    values = await run_in_threadpool(look.session, request.app, caller, reference, Said(attempt, dry_run))
    return page("_session.html", **values)


@router.post("/console/repairs/{attempt_id}/undo", dependencies=[Proven])
async def undo(
    request: Request,
    caller: Repairer,
    attempt_id: UUID,
    *,
    reason: Annotated[str, Form(max_length=500)] = "",
    dry_run: Annotated[bool, Form()] = False,
) -> Response:
    attempt = await attempt_with(request.app.state.reconciler, attempt_id)
    wish = UndoRequest(reason=_reason(reason, dry_run=dry_run), dry_run=dry_run)
    undone = await take_back(request.app.state.service, request.app.state.pace, caller, attempt, wish)
    return await opened_repair(request, caller, attempt, Said(undone, dry_run))


async def opened_repair(request: Request, caller: Caller, attempt: Attempt, said: Said | None = None) -> Response:
    values = await run_in_threadpool(look.repair, request.app, caller, attempt, said)
    return page("_repair.html", **values)


def _reason(given: str, *, dry_run: bool) -> str:
    """Raises Problem (`invalid`): what is done from here says why."""
    words = given.strip()
    if not words and not dry_run:
        raise Problem("invalid", "say why: the audit keeps the reason with what is done")
    return words or "no reason given"
