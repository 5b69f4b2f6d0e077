"""Health as the IETF draft has it (draft-inadarei-api-health-check-06, sections 3 and 4), for who asks for it."""

from __future__ import annotations

from typing import Any

from app import __version__
from app.domain.describe import rfc3339

MEDIA_TYPE = "application/health+json"

_MEASURED: tuple[tuple[str, str, str, str | None], ...] = (
    ("passes", "seconds_since_last", "component", "s"),
    ("audit", "status", "datastore", None),
    ("stores", "readable", "datastore", "stores"),
    ("sessions", "stuck", "component", "sessions"),
    ("sessions", "flapping", "component", "sessions"),
    ("sessions", "unprovable", "component", "sessions"),
    ("gateway", "ready", "system", "gateways"),
    ("repairs", "failing", "component", "sessions"),
    ("breaker", "waiting", "component", "sessions"),
    ("process", "uptime", "system", "s"),
)
"""The check, what is measured there, the draft's componentType, and the unit."""


def wants_health_json(accept: str) -> bool:
    """Whether an Accept header asks for it by name; `*/*` is served plain JSON, as ever."""
    if MEDIA_TYPE not in accept.lower():
        return False
    wanted = (part.partition(";") for part in accept.lower().split(","))
    return any(name.strip() == MEDIA_TYPE and "q=0" not in rest.replace(" ", "").split(";") for name, _, rest in wanted)


def health_json(status: str, checks: dict[str, dict[str, Any]], now: int) -> dict[str, Any]:
    """`checks` as /health has them (or some), each measure as a check of the draft; `now` is epoch ms."""
    return {
        "status": status,
        "version": "1",
        "releaseId": __version__,
        "serviceId": "clawmend",
        "description": "Proves which OpenClaw sessions are finished, and settles their rows",
        "checks": {
            f"{name}:{measure}": [_check(checks[name], measure, kind, unit, now)]
            for name, measure, kind, unit in _MEASURED
            if name in checks
        },
    }


def _check(check: dict[str, Any], measure: str, kind: str, unit: str | None, now: int) -> dict[str, Any]:
    made: dict[str, Any] = {"componentType": kind, "status": check["status"], "time": rfc3339(now)}
    if unit is not None and check[measure] is not None:
        made |= {"observedValue": check[measure], "observedUnit": unit}
    return made
