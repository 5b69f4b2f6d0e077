"""For load balancers: counts only, no login, answered from memory.

Each call answers in the shape of the IETF draft for health checks to who sends `Accept: application/health+json`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.health_json import MEDIA_TYPE, health_json, wants_health_json
from app.api.shortcuts import Shortcut
from app.domain.describe import rfc3339
from app.domain.model import Code
from app.reconcile.breaker import Breaker
from app.reconcile.reconciler import Reconciler
from app.reconcile.service import Service

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks

router = APIRouter(tags=["health"])


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health(request: Request) -> Response:
    """`pass`, `warn` (something is stuck or cannot be read: still 200) or `fail` (503: Clawmend cannot do its job)."""
    service: Service = request.app.state.service
    reconciler = service.reconciler
    if service.seconds_since_pass > reconciler.settings.scan_interval_seconds:
        await service.want_pass()
    checks = health_checks(service)
    words = {check["status"] for check in checks.values()}
    status = "fail" if "fail" in words else "warn" if "warn" in words else "pass"
    counted = {
        "stuck": checks["sessions"]["stuck"],
        "repaired_total": reconciler.repaired_total,
        "last_pass_at": rfc3339(reconciler.report.finished_at),
        "checks": checks,
    }
    return _answer(request, status, checks, counted)


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez(request: Request) -> Response:
    """The process answers."""
    service: Service = request.app.state.service
    up = {"process": {"status": "pass", "uptime": round(time.monotonic() - service.started_at, 1)}}
    return _answer(request, "pass", up, {})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Able to work: a pass has been run, not too long ago, and the audit database answers."""
    service: Service = request.app.state.service
    checks = health_checks(service)
    ready = service.last_pass_at is not None and all(c["status"] != "fail" for c in checks.values())
    return _answer(request, "pass" if ready else "fail", checks, {})


SHORTCUTS: dict[str, Shortcut] = {"/health": health, "/livez": livez, "/readyz": readyz}


def _answer(request: Request, status: str, checks: dict[str, dict[str, Any]], more: dict[str, Any]) -> Response:
    """The status and `more`, or to who asks for it `checks` in the shape of the draft; 503 for `fail`."""
    reconciler: Reconciler = request.app.state.reconciler
    as_draft = wants_health_json(request.headers.get("accept", ""))
    body = health_json(status, checks, reconciler.clock.now()) if as_draft else {"status": status, **more}
    return Response(
        orjson.dumps(body),
        503 if status == "fail" else 200,
        media_type=MEDIA_TYPE if as_draft else "application/json",
        headers={"cache-control": "no-store", "vary": "accept"},
    )


def health_checks(service: Service) -> dict[str, dict[str, Any]]:
    """Every check by name: a status and counts, never a name of a session, an agent or a file."""
    reconciler = service.reconciler
    report = reconciler.report
    late = service.seconds_since_pass > 3 * reconciler.settings.scan_interval_seconds
    counts = report.counts
    return {
        "passes": {
            "status": "fail" if late else "pass",
            "number": report.number,
            "seconds_since_last": round(service.seconds_since_pass, 1) if service.last_pass_at is not None else None,
        },
        "audit": {"status": "fail" if reconciler.audit_problem else "pass"},
        "stores": {
            "status": "warn" if counts.problems or not report.stores else "pass",
            "readable": counts.readable,
            "problems": dict(counts.problems),
        },
        "sessions": {
            "status": "warn" if counts.open[Code.STUCK] or counts.flapping else "pass",
            "stuck": counts.open[Code.STUCK],
            "flapping": counts.flapping,
            "unprovable": counts.open[Code.UNPROVABLE],
        },
        "gateway": _gateway_check(reconciler.links),
        "repairs": {
            "status": "warn" if reconciler.failing or not reconciler.settings.auto_repair else "pass",
            "automatic": reconciler.settings.auto_repair,
            "failing": reconciler.failing,
        },
        "breaker": _breaker_check(reconciler.breaker),
    }


def _breaker_check(breaker: Breaker) -> dict[str, Any]:
    latest = breaker.latest
    if latest is None or not latest.is_open:
        return {"status": "pass", "open": False, "since": None, "reason": None, "waiting": 0}
    since = rfc3339(latest.opened_at)
    return {"status": "warn", "open": True, "since": since, "reason": latest.reason, "waiting": latest.waiting}


def _gateway_check(links: GatewayLinks | None) -> dict[str, Any]:
    """How many links stand how (docs/explanation/gateway.md has each word), how many gateways say on /readyz to be
    well, how many have our plugin.
    """
    if links is None:
        return {"status": "pass", "links": {"off": 1}, "ready": None, "plugins": None}
    states = list(links.states().values())
    codes: dict[str, int] = {}
    for state in states:
        codes[state.code] = codes.get(state.code, 0) + 1
    well = all(s.code == "up" and s.ready is not False for s in states)
    ready, plugins = sum(1 for s in states if s.ready), sum(1 for s in states if s.plugin)
    return {"status": "pass" if well else "warn", "links": codes, "ready": ready, "plugins": plugins}
