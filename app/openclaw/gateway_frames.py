"""The grammar of the gateway's protocol, version 4 (spec 2026.5.18, section 6, "WS handshake").

Frames are JSON objects of at most 25 MiB. What nobody here waits for is not even parsed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from app import __version__
from app.openclaw.gateway_access import Access
from app.openclaw.parse import parse_object, whole, word

PROTOCOL = 4
LARGEST = 26 << 20
"""The gateway's own limit is 25 MiB (`policy.maxPayload`)."""
READ, ADMIN = "operator.read", "operator.admin"
_HEARD = ("connect.challenge", "sessions.changed", "shutdown")
_EVENT = re.compile(rb'\{"type":"event","event":"([\w.-]+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request: `payload`, or the error's most exact `code` and its `message`."""

    id: str
    payload: dict[str, Any] | None
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as the gateway tells of it. Times are epoch ms."""

    key: str
    session_id: str | None
    status: str | None
    started_at: int | None
    ended_at: int | None
    active: bool | None
    """`hasActiveRun`; None where the answer has no such field."""
    runs: tuple[str, ...] | None = None
    """`activeRunIds`; None where the answer has no such field, or says null: it does not know."""


def request(request_id: str, method: str, params: dict[str, Any]) -> str:
    return json.dumps({"type": "req", "id": request_id, "method": method, "params": params})


def connect_params(access: Access, scope: str) -> dict[str, Any]:
    """On loopback this client and mode need no device, and get the scope that they ask for."""
    auth = {k: v for k, v in (("token", access.token), ("password", access.password)) if v is not None}
    return {
        "minProtocol": PROTOCOL,
        "maxProtocol": PROTOCOL,
        "client": {"id": "gateway-client", "version": __version__, "platform": "linux", "mode": "backend"},
        "role": "operator",
        "scopes": [scope],
        "caps": [],
        "commands": [],
        "permissions": {},
        "auth": auth,
        "locale": "en-US",
        "userAgent": f"clawmend/{__version__}",
    }


def read_frame(data: bytes) -> Reply | Event | None:
    """None for what is no frame, or an event that nobody here waits for."""
    named = _EVENT.match(data)
    if named and named[1].decode() not in _HEARD:
        return None
    frame = parse_object(data)
    if frame is None:
        return None
    payload = frame.get("payload")
    table = payload if isinstance(payload, dict) else {}
    if frame.get("type") == "event":
        name = word(frame.get("event")) or ""
        return Event(name, table) if name in _HEARD else None
    reply_to = word(frame.get("id"))
    if frame.get("type") != "res" or reply_to is None:
        return None
    if frame.get("ok") is True:
        return Reply(reply_to, table)
    error = frame.get("error")
    error = error if isinstance(error, dict) else {}
    details = error.get("details")
    exact = word(details.get("code")) if isinstance(details, dict) else None
    code = exact or word(error.get("code")) or "ERROR"
    return Reply(reply_to, None, code, word(error.get("message")) or "")


def session_row(value: object) -> SessionRow | None:
    """A row of `sessions.list`, the entry of a `sessions.patch`, or what a `sessions.changed` says of one."""
    if not isinstance(value, dict):
        return None
    active = value.get("hasActiveRun")
    return SessionRow(
        key=word(value.get("key")) or word(value.get("sessionKey")) or "",
        session_id=word(value.get("sessionId")),
        status=word(value.get("status")),
        started_at=whole(value.get("startedAt")),
        ended_at=whole(value.get("endedAt")),
        active=active if isinstance(active, bool) else None,
        runs=_words(value.get("activeRunIds")),
    )


def _words(value: object) -> tuple[str, ...] | None:
    found = [word(each) for each in value] if isinstance(value, list) else [None]
    return None if None in found else tuple(each for each in found if each is not None)
