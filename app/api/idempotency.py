"""`Idempotency-Key` on every POST: sent again, a request is not carried out again but answered as before
(draft-ietf-httpapi-idempotency-key-header-07). Pure ASGI, between the gate and the routes.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import suppress
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from app.api.problems import problem_response
from app.audit.log import AuditLog, AuditUnavailable
from app.audit.models import Attempt
from app.audit.replays import (
    RENEWED_EVERY_SECONDS,
    Answer,
    Claim,
    InProgress,
    Keyed,
    KeyReused,
    claim,
    done_since,
    keep,
    release,
    renew,
)
from app.clock import Clock
from app.domain.caller import Caller, Scope
from app.reconcile.service import Service

_BARE = re.compile(r"[!#-+\--:<-\[\]-~]{1,255}")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
"""A string of structured fields (RFC 9651), as the draft has it."""
_NOT_KEPT = frozenset({401, 403, 423, 429})
"""Answers that say nothing of the request, and ask for another try: so does every 5xx."""
_ASK_AGAIN_AFTER = "2"


class Idempotency:
    """Each caller has keys of their own. A request of who may not repair is the routes' to refuse."""

    def __init__(self, app: ASGIApp, *, audit: AuditLog, clock: Clock) -> None:
        self._app = app
        self._audit = audit
        self._clock = clock

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        given, caller = request.headers.getlist("idempotency-key"), request.state.caller
        if not given or not caller.may(Scope.REPAIR):
            await self._app(scope, receive, send)
            return
        response = await self._refusal_or_none(request, given, caller, send)
        if response is not None:
            code, detail = response
            headers = {"retry-after": _ASK_AGAIN_AFTER} if code == "in_progress" else None
            await problem_response(code, detail, headers=headers)(scope, receive, send)

    async def _refusal_or_none(
        self, request: Request, given: list[str], caller: Caller, send: Send
    ) -> tuple[str, str] | None:
        """Answer it, or the code and the detail of why it is not carried out."""
        key = key_in(given)
        if key is None:
            return "bad_request", "Idempotency-Key takes one key, of 1 to 255 visible ASCII characters"
        try:
            body = await request.body()
        except HTTPException as error:
            return "too_large", error.detail
        except ClientDisconnect:
            return None
        try:
            claimed = await run_in_threadpool(claim, self._audit, _keyed(request, caller, key, body), self._clock.now())
        except KeyReused as error:
            return "key_reused", str(error)
        except InProgress as error:
            return "in_progress", str(error)
        except AuditUnavailable as error:
            return "audit_unavailable", str(error)
        if isinstance(claimed, Answer):
            await _send(claimed, send, replayed=True)
        else:
            await self._carry_out(request, claimed, body, send)
        return None

    async def _carry_out(self, request: Request, claimed: Claim, body: bytes, send: Send) -> None:
        """One that is cancelled has no answer, and is as one that a crash has left."""
        caught = _Caught(body, request.receive)
        request.state.first_at = claimed.first_at
        renewing = asyncio.create_task(self._renew(claimed))
        try:
            await self._app(request.scope, caught.receive, caught.send)
            answer = caught.answer()
        except Exception:
            with suppress(AuditUnavailable):
                await run_in_threadpool(release, self._audit, claimed)
            raise
        finally:
            renewing.cancel()
        with suppress(
            AuditUnavailable
        ):  # who asked gets the answer all the same; what it was is in the audit or nowhere
            if answer.status in _NOT_KEPT or answer.status >= 500:
                await run_in_threadpool(release, self._audit, claimed)
            else:
                await run_in_threadpool(keep, self._audit, claimed, answer)
        await _send(answer, send, replayed=False)

    async def _renew(self, claimed: Claim) -> None:
        while True:
            await asyncio.sleep(RENEWED_EVERY_SECONDS)
            with suppress(AuditUnavailable):
                await run_in_threadpool(renew, self._audit, claimed, self._clock.now())


class _Caught:
    """Gives a request that has been read to the routes, and keeps what they answer."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._start: Message = {}
        self._parts: list[bytes] = []

    async def receive(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._parts.append(message.get("body", b""))

    def answer(self) -> Answer:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._start["headers"]]
        return Answer(self._start["status"], headers, b"".join(self._parts))


def key_in(given: list[str]) -> str | None:
    """The key, with or without the quotation marks that the draft asks for; None where it is none."""
    (word,) = given if len(given) == 1 else ("",)
    if (quoted := _QUOTED.fullmatch(word)) is not None:
        word = re.sub(r"\\(.)", r"\1", quoted[1])
        return word if 0 < len(word) <= 255 else None
    return word if _BARE.fullmatch(word) else None


async def done_before(request: Request, kind: str, store_path: str, session_key: str, reason: str) -> Attempt | None:
    """What a request had done when it was sent for the first time and a crash left it without an answer; None where it
    had not come to that, or was not sent before. Raises AuditUnavailable.
    """
    first_at: int | None = getattr(request.state, "first_at", None)
    if first_at is None:
        return None
    service: Service = request.app.state.service
    await service.next_pass()  # it finds out what became of what was left open
    what = {"kind": kind, "store_path": store_path, "session_key": session_key}
    who = {"actor": request.state.caller.name, "reason": reason}
    return await run_in_threadpool(partial(done_since, service.reconciler.audit, first_at, **what, **who))


def _keyed(request: Request, caller: Caller, key: str, body: bytes) -> Keyed:
    what = f"{request.method} {request.url.path}"
    said = (what, request.url.query, ", ".join(request.headers.getlist("if-match")))
    digest = hashlib.sha256(repr(said).encode() + body)
    return Keyed(caller.name, key, what, digest.hexdigest())


async def _send(answer: Answer, send: Send, *, replayed: bool) -> None:
    headers = [*answer.headers, ("idempotency-replayed", "true")] if replayed else answer.headers
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})
