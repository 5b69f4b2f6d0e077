"""Requests with a condition: `If-Match` and `If-None-Match` (RFC 9110, section 13.1)."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from app.api.headers import list_of
from app.api.problems import Problem

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ONE_TAG = re.compile(_TAG)
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")


class Tagged:
    """A body with its tag: the answer with it, and the one to who has it already, each made once for all who ask."""

    def __init__(self, body: bytes, tag: str, headers: dict[str, str] | None = None) -> None:
        headers = {**(headers or {}), "etag": tag, "cache-control": "no-cache"}
        self.body = body
        self._tag = tag
        self._whole = Response(body, media_type="application/json", headers=headers)
        self._known = Response(status_code=304, headers=headers)

    def answer(self, request: Request) -> Response:
        """304 when `If-None-Match` names the tag, whether it is weak or not."""
        given = list_of(request, b"if-none-match")
        return self._known if given is not None and self._is_in(given) else self._whole

    def _is_in(self, given: str) -> bool:
        if given in (self._tag, "*"):
            return True
        return self._tag.removeprefix("W/") in {tag.removeprefix("W/") for tag in _ONE_TAG.findall(given)}


def tag_of(fingerprint: str, content: str) -> str:
    """A strong tag: what a condition on a change compares, and, behind a dot, the digest of all the rest."""
    return f'"{fingerprint}.{content[:16]}"'


def wanted_fingerprints(request: Request) -> frozenset[str] | None:
    """What `If-Match` names: fingerprints, or whole tags of `tag_of`; `*` for whatever is there; None without one.

    A weak tag matches nothing, as the RFC has it. Raises Problem (`bad_request`).
    """
    given = list_of(request, b"if-match")
    if given is None or given == "*":
        return None if given is None else frozenset("*")
    if not _TAGS.fullmatch(given):
        raise Problem("bad_request", 'If-Match takes "a fingerprint" in quotation marks, several with commas, or *')
    strong = (tag for tag in _ONE_TAG.findall(given) if not tag.startswith("W/"))
    return frozenset(tag.strip('"').partition(".")[0] for tag in strong)
