"""What each call of the API answers, as OpenAPI tells it: one row for each call, and one form for every error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from app.api.schemas import health, repairs, sessions, webhooks
from app.domain.caller import Scope

JSON = "application/json"
HEALTH_JSON = "application/health+json"

Link = tuple[str, str, str, str]
"""The name of a link, the operation that it leads to, the parameter there, and where its value stands."""


@dataclass(frozen=True, slots=True)
class Call:
    """`answers` by media type: a shape, or None for text. `problems` are those beside what every call may answer."""

    operation: str
    answers: dict[str, type[BaseModel] | None]
    scope: Scope | None = Scope.READ
    problems: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()
    """Headers of the request, of HEADERS_SENT."""
    headers: tuple[str, ...] = ()
    """Headers of the answer, of HEADERS_ANSWERED."""
    links: tuple[Link, ...] = ()
    fails: bool = False
    """It answers in the same shape with 503, too."""
    carries: type[BaseModel] | None = None
    """What a problem that ended it has besides."""


_FIRST = "$response.body#/items/0/"
_KEYED = ("bad_request", "foreign_origin", "in_progress", "key_reused", "audit_unavailable", "invalid")
_REPAIRED = (*_KEYED, "not_found", "store_unfit", "store_busy", "too_many")
_TAGGED = ("ETag", "Cache-Control")

CALLS: dict[tuple[str, str], Call] = {
    ("get", "/health"): Call(
        "health", {JSON: health.Health, HEALTH_JSON: health.DraftHealth}, None, headers=("Cache-Control",), fails=True
    ),
    ("get", "/livez"): Call(
        "livez", {JSON: health.Status, HEALTH_JSON: health.DraftHealth}, None, headers=("Cache-Control",)
    ),
    ("get", "/readyz"): Call(
        "readyz", {JSON: health.Status, HEALTH_JSON: health.DraftHealth}, None, headers=("Cache-Control",), fails=True
    ),
    ("get", "/metrics"): Call(
        "metrics", {"text/plain": None, "application/openmetrics-text": None}, None, headers=("Cache-Control",)
    ),
    ("get", "/events"): Call("events", {"text/event-stream": None}, problems=("invalid",)),
    ("get", "/sessions/stuck"): Call(
        "stuck",
        {JSON: sessions.StuckList},
        problems=("invalid",),
        sent=("If-None-Match",),
        headers=(*_TAGGED, "X-Stuck-Count"),
        links=(
            ("session", "session", "name", f"{_FIRST}session_key"),
            ("repair", "repairSession", "name", f"{_FIRST}session_key"),
            ("nextPage", "stuck", "cursor", "$response.body#/next"),
        ),
    ),
    ("get", "/sessions"): Call(
        "sessions",
        {JSON: sessions.SessionList},
        problems=("invalid",),
        sent=("If-None-Match",),
        headers=_TAGGED,
        links=(
            ("session", "session", "name", f"{_FIRST}session_key"),
            ("repair", "repairSession", "name", f"{_FIRST}session_key"),
            ("nextPage", "sessions", "cursor", "$response.body#/next"),
        ),
    ),
    ("get", "/sessions/{name}"): Call(
        "session",
        {JSON: sessions.SessionWithEvidence},
        problems=("not_found", "ambiguous"),
        sent=("If-None-Match",),
        headers=_TAGGED,
        links=(("repair", "repairSession", "name", "$response.body#/session_key"),),
    ),
    ("post", "/sessions/repair"): Call(
        "repairSessions",
        {JSON: repairs.BulkAnswer},
        Scope.REPAIR,
        (*_KEYED, "too_many"),
        ("Idempotency-Key",),
        ("Cache-Control", "Idempotency-Replayed", "Retry-After"),
        (("repaired", "repair", "attempt_id", f"{_FIRST}repair/id"),),
        carries=repairs.BulkAnswer,
    ),
    ("post", "/sessions/{name}/repair"): Call(
        "repairSession",
        {JSON: repairs.Repair},
        Scope.REPAIR,
        (*_REPAIRED, "ambiguous", "not_stuck", "precondition_failed"),
        ("Idempotency-Key", "If-Match"),
        ("Cache-Control", "Idempotency-Replayed"),
        (
            ("repair", "repair", "attempt_id", "$response.body#/id"),
            ("undo", "undo", "attempt_id", "$response.body#/id"),
            ("session", "session", "name", "$response.body#/session_key"),
        ),
    ),
    ("get", "/repairs"): Call(
        "repairs",
        {JSON: repairs.RepairList},
        problems=("invalid", "audit_unavailable"),
        headers=("Cache-Control",),
        links=(
            ("repair", "repair", "attempt_id", f"{_FIRST}id"),
            ("undo", "undo", "attempt_id", f"{_FIRST}id"),
            ("nextPage", "repairs", "cursor", "$response.body#/next"),
        ),
    ),
    ("get", "/repairs/{attempt_id}"): Call(
        "repair",
        {JSON: repairs.Repair},
        problems=("invalid", "not_found", "audit_unavailable"),
        sent=("If-None-Match",),
        headers=_TAGGED,
        links=(("undo", "undo", "attempt_id", "$response.body#/id"),),
    ),
    ("post", "/repairs/{attempt_id}/undo"): Call(
        "undo",
        {JSON: repairs.Repair},
        Scope.REPAIR,
        (*_REPAIRED, "cannot_undo", "precondition_failed"),
        ("Idempotency-Key", "If-Match"),
        ("Cache-Control", "Idempotency-Replayed"),
        (("repair", "repair", "attempt_id", "$response.body#/id"),),
    ),
    ("get", "/breaker"): Call("breaker", {JSON: repairs.Breaker}, headers=("Cache-Control",)),
    ("post", "/breaker/close"): Call(
        "closeBreaker",
        {JSON: repairs.Breaker},
        Scope.ADMIN,
        (*_KEYED, "not_open"),
        ("Idempotency-Key",),
        ("Cache-Control", "Idempotency-Replayed"),
    ),
    ("get", "/webhooks/dead"): Call(
        "deadMessages",
        {JSON: webhooks.DeadList},
        problems=("invalid", "audit_unavailable"),
        headers=("Cache-Control",),
        links=(
            ("resend", "resend", "message_id", f"{_FIRST}id"),
            ("nextPage", "deadMessages", "cursor", "$response.body#/next"),
        ),
    ),
    ("post", "/webhooks/dead/{message_id}/resend"): Call(
        "resend",
        {JSON: webhooks.Resent},
        Scope.REPAIR,
        (*_KEYED, "not_found"),
        ("Idempotency-Key",),
        ("Cache-Control", "Idempotency-Replayed"),
    ),
    ("get", "/problems/{code}"): Call(
        "problem", {"text/plain": None, "text/html": None}, None, ("not_found",), headers=("Cache-Control",)
    ),
}

PARAMETERS: dict[str, str] = {
    "agent": "only sessions of the agent with this id",
    "attempt_id": "the id of a repair",
    "code": "what stands behind `/problems/` in the `type` of an error",
    "cursor": "the `next` of the page before",
    "include": "verdicts to list besides the stuck sessions, with commas",
    "last-event-id": "the id of the last event that was heard: what was missed comes first",
    "limit": "so many at most on a page",
    "message_id": "the id of a message that could not be delivered",
    "min_age": "only sessions that have been over, or have run, for so many seconds",
    "name": "a sessionId, or a session key, percent-encoded",
    "verdict": "only sessions with one of these verdicts, with commas",
}

_TAG_LIST = r'^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$'
HEADERS_SENT: dict[str, tuple[str, dict[str, Any]]] = {
    "Idempotency-Key": (
        "a word that is new for each request, best a UUID: sent again with the same, it is not carried out twice",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-+\\--:<-\\[\\]-~]{1,255}$"},
    ),
    "If-Match": (
        "carry it out only while it is still what has this fingerprint or ETag",
        {"type": "string", "pattern": _TAG_LIST},
    ),
    "If-None-Match": ("the ETag of what is known already: 304 while it is the same", {"type": "string"}),
}
HEADERS_ANSWERED: dict[str, tuple[str, dict[str, Any], bool]] = {
    "Cache-Control": ("whether it may be kept", {"type": "string"}, True),
    "ETag": ("changes when what was found changes", {"type": "string", "pattern": '^(W/)?".+"$'}, True),
    "Idempotency-Replayed": ("there, when this was answered before", {"type": "string", "const": "true"}, False),
    "Retry-After": ("seconds to wait", {"type": "integer", "minimum": 1}, False),
    "WWW-Authenticate": ("RFC 6750", {"type": "string"}, False),
    "X-Stuck-Count": ("how many are stuck now, whatever the filter", {"type": "integer", "minimum": 0}, True),
}
"""What it says, its schema, and whether it is always there."""

NULL: dict[str, Any] = {"type": "null"}
PROBLEM_MEMBERS: dict[str, dict[str, Any]] = {
    "ambiguous": {"candidates": {"type": "array", "items": {"type": "object"}}},
    "bad_request": {"errors": {"$ref": "#/components/schemas/WrongValues"}},
    "forbidden": {"scope": {"enum": [str(scope) for scope in Scope]}},
    "invalid": {"errors": {"$ref": "#/components/schemas/WrongValues"}},
    "not_stuck": {
        "session": {"anyOf": [{"$ref": "#/components/schemas/SessionWithEvidence"}, NULL]},
        "evidence": {"anyOf": [{"$ref": "#/components/schemas/Evidence"}, NULL]},
    },
    "precondition_failed": {
        "session": {"anyOf": [{"$ref": "#/components/schemas/SessionWithEvidence"}, NULL]},
        "evidence": {"anyOf": [{"$ref": "#/components/schemas/Evidence"}, NULL]},
        "repair": {"$ref": "#/components/schemas/Repair"},
    },
}
"""What an error has besides the members of all; none of it must be there."""
PROBLEM_HEADERS: dict[str, str] = {
    "forbidden": "WWW-Authenticate",
    "in_progress": "Retry-After",
    "too_many": "Retry-After",
    "unauthorized": "WWW-Authenticate",
}
DETAILS: dict[str, str] = {
    "ambiguous": "2 sessions answer to this id",
    "audit_unavailable": "the audit database does not answer: unable to open database file",
    "bad_request": "JSON decode error",
    "cannot_undo": "this row has been changed again since, by attempt 01a20273-1b02-7e29-88c8-854ba7a8959f",
    "forbidden": "this needs the scope repair, which the token of grafana has not",
    "forbidden_host": "the Host header names a host that is not served here",
    "foreign_origin": "the browser says that a page of another origin asks for it",
    "in_progress": "the same request, with this key, is under way",
    "internal": "an unexpected error; the log has the details",
    "invalid": "Input should be less than or equal to 500",
    "key_reused": "this key was used for another request",
    "not_found": "no session has this sessionId or key in the last pass",
    "not_open": "the breaker is not open",
    "not_stuck": "it is orphaned: the last event is prompt.submitted, and the gateway that ran it is gone",
    "precondition_failed": "the repair is overwritten by now",
    "store_busy": "the store is being written to",
    "store_unfit": "the store is a symbolic link",
    "too_large": "a body may have 65536 bytes",
    "too_many": "grafana has asked for 30 repairs within a minute; this one was not looked at: ask again in 2 s",
    "unauthorized": "this call needs a bearer token",
}
"""What the example of each error says."""
