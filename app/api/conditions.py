"""Requests with a condition: `If-Match` and `If-None-Match` (RFC 9110, section 13.1)."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from app.api.problems import Problem

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")


def tag_of(fingerprint: str, content: str) -> str:
    """A strong tag: what a condition on a change compares, and, behind a dot, the digest of all the rest."""
    return f'"{fingerprint}.{content[:16]}"'


def answer_unless_known(request: Request, body: bytes, tag: str, headers: dict[str, str] | None = None) -> Response:
    """`body`, or 304 to who has it already."""
    headers = {**(headers or {}), "etag": tag, "cache-control": "no-cache"}
    given = _header(request, "if-none-match")
    known = given == "*" or tag.removeprefix("W/") in {t.removeprefix("W/") for t in re.findall(_TAG, given or "")}
    if known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def wanted_fingerprints(request: Request) -> frozenset[str] | None:
    """What `If-Match` names: fingerprints, or whole tags of `tag_of`; `*` for whatever is there; None without one.

    A weak tag matches nothing, as the RFC has it. Raises Problem (`bad_request`).
    """
    given = _header(request, "if-match")
    if given is None or given == "*":
        return None if given is None else frozenset("*")
    if not _TAGS.fullmatch(given):
        raise Problem("bad_request", 'If-Match takes "a fingerprint" in quotation marks, several with commas, or *')
    strong = (tag for tag in re.findall(_TAG, given) if not tag.startswith("W/"))
    return frozenset(tag.strip('"').partition(".")[0] for tag in strong)


def _header(request: Request, name: str) -> str | None:
    """A list may be parted into several headers."""
    given = request.headers.getlist(name)
    return ", ".join(given).strip() if given else None
