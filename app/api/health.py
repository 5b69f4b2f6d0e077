"""For load balancers: counts only, no login, answered from memory.

Each call answers in the shape of the IETF draft for health checks to who sends `Accept: application/health+json`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.health_json import MEDIA_TYPE, health_json, wants_health_json
from app.api.shortcuts import Shortcut
from app.domain.describe import rfc3339
from app.domain.model import Code
from app.reconcile.report import Report
from app.reconcile.service import Service

if TYPE_CHECKING:
    from app.audit.openings import Opening
    from app.openclaw.gateway_place import LinkState

router = APIRouter(tags=["health"])


class Seen(NamedTuple):
    """All that the checks are made from, as it is at one moment: while it is the same, they are."""

    report: Report
    seconds_since_pass: float | None
    """As it is told: in tenths. None: there was no pass yet."""
    late: bool
    audit_answers: bool
    links: dict[str, LinkState] | None
    """None: nobody is asked."""
    automatic: bool
    failing: int
    breaker: Opening | None
    repaired_total: int


class LastHealth:
    """What /health last said in plain JSON, said again while nothing else is seen. Lives on the event loop."""

    def __init__(self) -> None:
        self._seen: Seen | None = None
        self._answer = Response()

    def of(self, seen: Seen) -> Response:
        if seen != self._seen:
            checks = checks_of(seen)
            counted = {
                "stuck": checks["sessions"]["stuck"],
                "repaired_total": seen.repaired_total,
                "last_pass_at": rfc3339(seen.report.finished_at),
                "checks": checks,
            }
            self._answer = _plain(_worst_of(checks), counted)
            self._seen = seen
        return self._answer


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health(request: Request) -> Response:
    """`pass`, `warn` (something is stuck or cannot be read: still 200) or `fail` (503: Clawmend cannot do its job)."""
    here = request.app.state
    service: Service = here.service
    if service.seconds_since_pass > service.reconciler.settings.scan_interval_seconds:
        await service.want_pass()
    seen = seen_in(service)
    if _wants_draft(request):
        checks = checks_of(seen)
        return _draft(_worst_of(checks), checks, service)
    last: LastHealth = here.last_health
    return last.of(seen)


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez(request: Request) -> Response:
    """The process answers."""
    service: Service = request.app.state.service
    up = {"process": {"status": "pass", "uptime": round(time.monotonic() - service.started_at, 1)}}
    return _draft("pass", up, service) if _wants_draft(request) else _plain("pass")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Able to work: a pass has been run, not too long ago, and the audit database answers."""
    service: Service = request.app.state.service
    checks = health_checks(service)
    ready = service.last_pass_at is not None and _worst_of(checks) != "fail"
    status = "pass" if ready else "fail"
    return _draft(status, checks, service) if _wants_draft(request) else _plain(status)


SHORTCUTS: dict[str, Shortcut] = {"/health": health, "/livez": livez, "/readyz": readyz}


def _worst_of(checks: dict[str, dict[str, Any]]) -> str:
    words = {check["status"] for check in checks.values()}
    return "fail" if "fail" in words else "warn" if "warn" in words else "pass"


def _wants_draft(request: Request) -> bool:
    return wants_health_json(request.headers.get("accept", ""))


def _draft(status: str, checks: dict[str, dict[str, Any]], service: Service) -> Response:
    return _answer(status, health_json(status, checks, service.reconciler.clock.now()), MEDIA_TYPE)


def _plain(status: str, more: dict[str, Any] | None = None) -> Response:
    return _answer(status, {"status": status, **(more or {})}, "application/json")


def _answer(status: str, body: dict[str, Any], media_type: str) -> Response:
    """503 for `fail`."""
    return Response(
        orjson.dumps(body),
        503 if status == "fail" else 200,
        media_type=media_type,
        headers={"cache-control": "no-store", "vary": "accept"},
    )


def health_checks(service: Service) -> dict[str, dict[str, Any]]:
    """Every check by name: a status and counts, never a name of a session, an agent or a file."""
    return checks_of(seen_in(service))


def seen_in(service: Service) -> Seen:
    reconciler = service.reconciler
    age = service.seconds_since_pass
    return Seen(
        report=reconciler.report,
        seconds_since_pass=round(age, 1) if service.last_pass_at is not None else None,
        late=age > 3 * reconciler.settings.scan_interval_seconds,
        audit_answers=reconciler.audit_problem is None,
        links=reconciler.links.states() if reconciler.links is not None else None,
        automatic=reconciler.settings.auto_repair,
        failing=reconciler.failing,
        breaker=reconciler.breaker.latest,
        repaired_total=reconciler.repaired_total,
    )


def checks_of(seen: Seen) -> dict[str, dict[str, Any]]:
    report, counts = seen.report, seen.report.counts
    return {
        "passes": {
            "status": "fail" if seen.late else "pass",
            "number": report.number,
            "seconds_since_last": seen.seconds_since_pass,
        },
        "audit": {"status": "pass" if seen.audit_answers else "fail"},
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
        "gateway": _gateway_check(seen.links),
        "repairs": {
            "status": "warn" if seen.failing or not seen.automatic else "pass",
            "automatic": seen.automatic,
            "failing": seen.failing,
        },
        "breaker": _breaker_check(seen.breaker),
    }


def _breaker_check(latest: Opening | None) -> dict[str, Any]:
    if latest is None or not latest.is_open:
        return {"status": "pass", "open": False, "since": None, "reason": None, "waiting": 0}
    since = rfc3339(latest.opened_at)
    return {"status": "warn", "open": True, "since": since, "reason": latest.reason, "waiting": latest.waiting}


def _gateway_check(links: dict[str, LinkState] | None) -> dict[str, Any]:
    """How many links stand how (docs/explanation/gateway.md has each word), how many gateways say on /readyz to be
    well, how many have our plugin.
    """
    if links is None:
        return {"status": "pass", "links": {"off": 1}, "ready": None, "plugins": None}
    states = list(links.values())
    codes: dict[str, int] = {}
    for state in states:
        codes[state.code] = codes.get(state.code, 0) + 1
    well = all(s.code == "up" and s.ready is not False for s in states)
    ready, plugins = sum(1 for s in states if s.ready), sum(1 for s in states if s.plugin)
    return {"status": "pass" if well else "warn", "links": codes, "ready": ready, "plugins": plugins}
