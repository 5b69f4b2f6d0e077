"""For dashboards and operators: the sessions of the last pass, and the repair of one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.callers import Repairer, demand, require
from app.api.conditions import Tagged, tag_of, wanted_fingerprints
from app.api.idempotency import done_before
from app.api.lists import BadCursor, Lists, Words, item_of
from app.api.lists import Query as Wanted
from app.api.pace import RepairPace
from app.api.problems import Problem
from app.api.shortcuts import Shortcut
from app.api.views import STUCK_EXTRAS, describe_attempt, describe_finding
from app.audit.models import Attempt, Outcome, Trigger
from app.domain.caller import Caller, Scope
from app.domain.model import Code
from app.reconcile.asking import Ask, Changed, NotStuck
from app.reconcile.reconciler import Reconciler
from app.reconcile.report import Finding
from app.reconcile.service import Service

router = APIRouter(prefix="/sessions", tags=["sessions"], dependencies=[Depends(demand(Scope.READ))])


class RepairRequest(BaseModel):
    """Why, and how. `force` settles a session that is not proven finished and then needs `target_status`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "if": {"properties": {"force": {"const": True}}, "required": ["force"]},
            "then": {"properties": {"target_status": {"type": "string"}}, "required": ["target_status"]},
            "else": {"properties": {"target_status": {"type": "null"}}},
        },
    )

    reason: str = Field(default="no reason given", min_length=1, max_length=500)
    dry_run: bool = False
    force: bool = False
    target_status: Literal["done", "failed", "timeout", "killed"] | None = None


class Filters(BaseModel):
    """Which sessions, and how many of them at once. `min_age`: seconds; `cursor`: the `next` of the page before."""

    model_config = ConfigDict(extra="forbid")

    agent: str | None = Field(default=None, max_length=200)
    min_age: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)
    limit: int | None = Field(default=None, ge=1, le=10_000)
    cursor: str | None = Field(default=None, max_length=8_192, json_schema_extra={"format": "cursor"})


def _schema_of_words(known: tuple[Code, ...]) -> dict[str, Any]:
    """As the schema has what `_codes` takes."""
    word = rf"\s*({'|'.join(known)})?\s*"
    return {"pattern": f"^{word}(,{word})*$"}


class StuckFilters(Filters):
    include: str = Field(default="", max_length=200, json_schema_extra=_schema_of_words(STUCK_EXTRAS))


class AllFilters(Filters):
    verdict: str = Field(default="", max_length=200, json_schema_extra=_schema_of_words(tuple(Code)))


@router.head("/stuck", include_in_schema=False)
@router.get("/stuck")
async def stuck(request: Request, wanted: Annotated[StuckFilters, Query()]) -> Response:
    """The stuck sessions, the oldest first; `include` adds `ending,orphaned,silent,never_started,unprovable`."""
    codes = (Code.STUCK, *_codes("include", wanted.include, STUCK_EXTRAS))
    return await _listing(request, wanted, codes, evidence=True)


@router.head("", include_in_schema=False)
@router.get("")
async def sessions(request: Request, wanted: Annotated[AllFilters, Query()]) -> Response:
    """Every row with its verdict, and every store that cannot be judged; `verdict` names those that are wanted."""
    codes = _codes("verdict", wanted.verdict, tuple(Code)) or tuple(Code)
    return await _listing(request, wanted, codes, evidence=False)


def _codes(name: str, given: str, known: tuple[Code, ...]) -> tuple[Code, ...]:
    words = {word.strip() for word in given.split(",") if word.strip()}
    unknown = words - {str(code) for code in known}
    if unknown:
        raise Problem("invalid", f"{name} takes {', '.join(known)}; not {', '.join(sorted(unknown))[:100]}")
    return tuple(code for code in known if code in words)


async def _listing(request: Request, wanted: Filters, codes: tuple[Code, ...], *, evidence: bool) -> Response:
    """A page, or 304 to who has it already."""
    query = Wanted(codes, evidence, wanted.agent, wanted.min_age, wanted.limit, wanted.cursor)
    reconciler: Reconciler = request.app.state.reconciler
    lists: Lists = request.app.state.lists
    policy, words = reconciler.settings.policy, _words_of(request)
    try:
        made = await run_in_threadpool(lists.get, reconciler.report, policy, query, words)
    except BadCursor:
        raise Problem("invalid", "cursor takes the `next` of the page before") from None
    return made.answer(request)


async def _again(request: Request) -> Response | None:
    """What was said to the same words since the last pass."""
    caller: Caller = request.scope["state"]["caller"]  # `request.state` takes 1 us to make, and is not needed here
    if not caller.may(Scope.READ):
        return None
    here = request.app.state
    said: Tagged | None = here.lists.said_before(here.reconciler.report, _words_of(request))
    return said.answer(request) if said is not None else None


SHORTCUTS: dict[str, Shortcut] = {"/sessions/stuck": _again, "/sessions": _again}


def _words_of(request: Request) -> Words:
    return request.scope["path"], request.scope["query_string"]


@router.head("/{name:path}", include_in_schema=False)
@router.get("/{name:path}")
async def session(request: Request, name: str) -> Response:
    """One session with all its evidence; `name` is a sessionId or a percent-encoded session key."""
    reconciler: Reconciler = request.app.state.reconciler
    finding = only_one(reconciler, name)
    item = item_of(describe_finding(finding, reconciler.settings.policy, reconciler.report.finished_at or 0))
    return Tagged(item.text, tag_of(finding.fingerprint, item.digest.hex())).answer(request)


@router.post("/{name:path}/repair")
async def repair(
    request: Request, caller: Repairer, name: str, wish: Annotated[RepairRequest | None, Body()] = None
) -> Response:
    """Settle one session: 200 with the repair record, 409 with the evidence when it may not be settled, 412 when it is
    not any more what `If-Match` names. `force` demands the scope admin.
    """
    wish = wish or RepairRequest()
    here = request.app.state
    finding, only_if = only_one(here.reconciler, name), wanted_fingerprints(request)
    attempt = None
    if not wish.dry_run:
        attempt = await done_before(request, "settle", finding.target.path, finding.key, wish.reason)
    if attempt is None:
        attempt = await settle(here.service, here.pace, caller, finding, wish, only_if=only_if)
    return _json(orjson.dumps(describe_attempt(attempt, dry_run=wish.dry_run)))


async def settle(
    service: Service,
    pace: RepairPace,
    caller: Caller,
    finding: Finding,
    wish: RepairRequest,
    *,
    only_if: frozenset[str] | None = None,
) -> Attempt:
    """Settle what was found, and look again; with `only_if` only while it has one of these fingerprints.

    Raises Problem (`forbidden`, `invalid`, `too_many`, `not_stuck`, `precondition_failed`), and what `Repairer.settle`
    raises.
    """
    reconciler = service.reconciler
    if wish.force:
        require(caller, Scope.ADMIN)
    if wish.force and wish.target_status is None:
        raise Problem("invalid", "force must name the status to settle the session to: target_status")
    if wish.target_status is not None and not wish.force:
        raise Problem("invalid", "target_status goes with force; without it the evidence says the status")
    if not wish.dry_run:
        pace.draw(caller)
    ask = Ask(Trigger.API, caller.name, wish.reason, wish.dry_run, wish.force, wish.target_status, only_if=only_if)
    try:
        attempt = await run_in_threadpool(reconciler.repairer.settle, finding, ask)
    except NotStuck as error:
        now = reconciler.clock.now()
        found = describe_finding(error.finding, reconciler.settings.policy, now) if error.finding else None
        evidence = found["evidence"] if found else None
        code = "precondition_failed" if isinstance(error, Changed) else "not_stuck"
        raise Problem(code, str(error), session=found, evidence=evidence) from None
    if not wish.dry_run:
        await service.next_pass()
    if only_if is not None and attempt.outcome == Outcome.SUPERSEDED:
        why = f"it changed while it was being settled, and nothing was written: {attempt.outcome_reason}"
        raise Problem("precondition_failed", why, repair=describe_attempt(attempt))
    return attempt


def only_one(reconciler: Reconciler, name: str) -> Finding:
    """The one session that answers to `name`."""
    found = reconciler.report.find(name)
    if not found:
        raise Problem("not_found", "no session has this sessionId or key in the last pass")
    if len(found) > 1:
        candidates = [
            {"session_key": f.key, "session_id": f.session_id, "state_dir": f.target.state_dir} for f in found
        ]
        raise Problem("ambiguous", f"{len(found)} sessions answer to this id", candidates=candidates)
    return found[0]


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers={"cache-control": "no-cache"})
