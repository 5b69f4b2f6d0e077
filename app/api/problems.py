"""Every error that the API can answer, as problem+json (RFC 9457); docs/reference/errors.md is held against this table."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.audit.log import AuditUnavailable
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import CannotUndo, NotStuck, StoreUnfit
from app.reconcile.breaker import NotOpen

_METHODS = ("GET", "HEAD", "POST")
MEDIA_TYPE = "application/problem+json"

PROBLEMS: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "The request cannot be read", "Send JSON as docs/reference/api.md shows it."),
    "unauthorized": (401, "The token is missing or wrong", "Send `Authorization: Bearer <token>`; the token file's path stands in the log."),
    "forbidden_host": (403, "This Host is not served", "Ask for localhost or an IP address, or name the host in CLAWMEND_ALLOWED_HOSTS."),
    "forbidden": (403, "This token may not do that", "Use a token that has the scope named in `scope`: docs/reference/api.md says which call needs which."),
    "foreign_form": (403, "This form was not sent from the console", "Load the console again, and do it from there; a proxy has to pass the Host header on."),
    "foreign_origin": (403, "A page of another origin may not do that", "Name its origin in CLAWMEND_CORS_ORIGINS, if it is yours."),
    "not_found": (404, "There is no such thing", "GET /sessions and GET /repairs list what there is."),
    "method_not_allowed": (405, "This method does not fit here", "docs/reference/api.md lists the calls."),
    "not_stuck": (409, "The session may not be settled", "Look at the evidence; `force` with `target_status` settles what cannot be proven."),
    "ambiguous": (409, "Two sessions answer to this id", "Use the session key, percent-encoded, and only one state dir that has it."),
    "cannot_undo": (409, "This repair cannot be taken back", "The row has moved on: look at it with GET /sessions/{id}."),
    "not_open": (409, "The breaker is not open", "The scheduler settles what is due: GET /breaker says who has closed it."),
    "store_unfit": (409, "This store is never written to", "GET /sessions says what is wrong with it."),
    "in_progress": (409, "This request is being carried out", "Ask again, with the same key, in as many seconds as Retry-After says."),
    "precondition_failed": (412, "It has changed since it was looked at", "Look again with GET, and send its new ETag as If-Match."),
    "too_large": (413, "The request is too large", "64 KiB are enough for every call."),
    "invalid": (422, "A value in the request is wrong", "`errors` names it."),
    "key_reused": (422, "This Idempotency-Key was used for another request", "Take a new key for a new request."),
    "store_busy": (423, "The store is being written to", "Ask again in a few seconds."),
    "too_many_logins": (429, "Too many wrong tokens came from this address", "Wait as many seconds as `Retry-After` says."),
    "too_many": (429, "Too many repairs were asked for", "Wait as many seconds as Retry-After says; CLAWMEND_REPAIRS_PER_MINUTE is the limit."),
    "internal": (500, "Something went wrong inside Clawmend", "The log has the details."),
    "audit_unavailable": (503, "The audit database does not answer", "Nothing is repaired until it does: look at /health and the log."),
}  # fmt: skip


class Problem(Exception):
    """An error to answer with; `code` is a key of PROBLEMS."""

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers
        self.extra = extra


_RAISED: dict[type[Exception], str] = {
    AuditUnavailable: "audit_unavailable",
    CannotUndo: "cannot_undo",
    NotOpen: "not_open",
    NotStuck: "not_stuck",
    StoreBusy: "store_busy",
    StoreUnfit: "store_unfit",
}


def problem_of(error: Exception) -> Problem:
    """What a repair or an undo raised, as the API tells it."""
    if isinstance(error, Problem):
        return error
    return Problem(next(code for kind, code in _RAISED.items() if isinstance(error, kind)), str(error))


def problem_members(code: str, detail: str) -> dict[str, Any]:
    status, title, next_step = PROBLEMS[code]
    return {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "next": next_step}


def problem_body(code: str, detail: str, extra: dict[str, Any] | None = None) -> tuple[int, bytes]:
    members = problem_members(code, detail)
    return members["status"], orjson.dumps({**members, **(extra or {})})


def problem_response(
    code: str, detail: str, extra: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Response:
    status, body = problem_body(code, detail, extra)
    return Response(body, status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of ours, of FastAPI and of Starlette in this one shape."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101
        return problem_response(error.code, error.detail, error.extra, error.headers)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status_code, "bad_request")
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(app, request))
        return problem_response(code, str(error.detail), headers=headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        errors = [{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
        code = "bad_request" if any(e["type"] == "json_invalid" for e in error.errors()) else "invalid"
        return problem_response(code, errors[0]["message"] if errors else "invalid", {"errors": errors})

    async def unexpected(_: Request, __: Exception) -> Response:
        return problem_response("internal", "an unexpected error; the log has the details")

    async def raised(_: Request, error: Exception) -> Response:
        told = problem_of(error)
        return problem_response(told.code, told.detail)

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in _RAISED:
        app.add_exception_handler(kind, raised)
    app.add_exception_handler(Exception, unexpected)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """The methods of all the routes to a path: the router names those of the first only (RFC 9110, section 15.5.6)."""
    return [m for m in _METHODS if any(r.matches({**request.scope, "method": m})[0] is Match.FULL for r in app.routes)]
